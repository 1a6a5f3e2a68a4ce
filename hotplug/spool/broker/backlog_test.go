package broker

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/spool"
)

// Clients of all speeds get every event, once and in order.
func TestEverybodyGetsAll(t *testing.T) {
	t.Parallel()
	if kerneltest.InNamespaces(t, 0) {
		testEverybodyGetsAll(t, 0, 4096)
	}
}

// The same where the windows are small.
func TestEverybodyGetsAllSmallWindow(t *testing.T) {
	t.Parallel()
	if kerneltest.InNamespaces(t, 0) {
		testEverybodyGetsAll(t, 0, 7)
	}
}

// The same where the numbers get another length.
func TestEverybodyGetsAllLongNumbers(t *testing.T) {
	t.Parallel()
	if kerneltest.InNamespaces(t, 0) {
		testEverybodyGetsAll(t, 1<<32-500, 50)
	}
}

func testEverybodyGetsAll(t *testing.T, start uint64, window int) {
	const clients, events = 20, 1200
	h := newShop(t)
	h.Window = window
	s := h.open()
	s.counter.store(wordLast, start)
	var all sync.WaitGroup
	for i := range clients {
		r := h.subscribe(spool.Subscription{Name: "c"})
		all.Go(func() {
			for n := 1; n <= events; n++ {
				if got := h.next(r); got != fmt.Sprint(n) {
					t.Errorf("client %d got %s for %d", i, got, n)
					return
				}
				if rand.IntN(50) == 0 {
					time.Sleep(time.Duration(rand.IntN(1+i)) * time.Millisecond)
				}
			}
		})
	}
	h.publish(s, 1, events)
	all.Wait()
	h.until("nothing is held back", func() bool { return !s.HasBacklog() })
	h.must(s.Upkeep())
	h.clean()
}

// What is past the window is held back, by one link, and given as the client
// reads; it costs others nothing.
func TestWindow(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	for _, resident := range []bool{true, false} {
		for _, age := range ages {
			t.Run(fmt.Sprint(age.name, " resident ", resident), func(t *testing.T) {
				h := newShop(t)
				kerneltest.MountTmpfs(t, "/dev")
				h.must(os.Mkdir("/dev/.devspool", 0o700))
				h.Resident, h.old, h.Window = resident, age.old, 12
				testWindow(h)
			})
		}
	}
}

func testWindow(h *shop) {
	s := h.open()
	slow := h.queue(h.Events, "slow", ".nolinks")
	linked := h.queue(h.Events, "linked")
	picky := h.queue(h.Events, "picky", ".nolinks", ".filter:N=5\nN=33\n")
	compat := h.queue(h.Libudev, "compat")
	h.publish(s, 1, 30)
	h.holds(slow, span(1, 11)) // .nolinks takes the room of one
	h.holds(compat, span(1, 12))
	if !s.HasBacklog() {
		h.Error("nothing is held back")
	}
	// Who comes after a publisher that was killed finds it all.
	s.Close()
	s = h.open()
	h.publish(s, 31, 40)
	h.holds(picky, "5 33")
	for queue, name := range map[string]string{slow: "slow", linked: "linked", compat: "compat"} {
		var got []string
		for range 40 {
			h.must(s.Upkeep())
			got = append(got, h.take(queue, 3)...)
		}
		if all := strings.Join(got, " "); all != span(1, 40) {
			h.Errorf("%s got %s", name, all)
		}
	}
	h.must(s.Upkeep())
	if s.HasBacklog() {
		h.Error("something is held back still")
	}
	h.clean()
	h.publish(s, 41, 42)
	h.holds(slow, "41 42")
}

// Past the cap the oldest are dropped, and the queue says how many.
func TestCap(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	h := newShop(t)
	h.Window, h.Backlog = 11, 20
	s := h.open()
	slow := h.queue(h.Events, "slow", ".nolinks")
	h.publish(s, 1, 100)
	if n := entriesOf("/dev/.devspool/spool/held"); n != 20 {
		t.Errorf("%d events are held back", n)
	}
	var got []string
	h.until("the slow one got the last", func() bool {
		got = append(got, h.take(slow, 5)...)
		return len(got) > 0 && got[len(got)-1] == "100"
	})
	if want := span(1, 10) + " lost 70 " + span(81, 100); strings.Join(got, " ") != want {
		t.Errorf("got %v", got)
	}
	h.must(s.Upkeep())
	h.clean()
}

// On a small file system the windows share half of it, and a full one loses
// nothing quietly.
func TestSmallFileSystem(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	h := newShop(t)
	h.must(os.Mkdir("/dev/.devspool/spool", 0o700))
	kerneltest.Sh(t, "mount -t tmpfs -o nr_inodes=2048,mode=0700 small /dev/.devspool/spool")
	s := h.open()
	var queues []string
	for i := range 10 {
		queues = append(queues, h.queue(h.Events, fmt.Sprint("q", i), ".nolinks"))
	}
	h.publish(s, 1, 2000)
	total := 0
	for _, q := range queues {
		total += entriesOf(q)
	}
	if total > 1024 || total < 900 {
		t.Errorf("%d files in queues", total)
	}
	other := h.subscribe(spool.Subscription{Name: "other"})
	h.publish(s, 2001, 2010)
	for n := 2001; n <= 2010; n++ {
		if got := h.next(other); got != fmt.Sprint(n) {
			t.Fatalf("the other client got %s for %d", got, n)
		}
	}
}

func TestFullFileSystem(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	h := newShop(t)
	s := h.open()
	queue := h.queue(h.Events, "x", ".nolinks")
	h.publish(s, 1, 2)
	kerneltest.Sh(t, "mount -o remount,size=1M /dev/.devspool/spool; dd if=/dev/zero of="+queue+"/junk bs=4k 2>/dev/null; true")
	for n := 3; n <= 5; n++ {
		if s.Publish(numbered(n), nil) == nil {
			t.Errorf("%d was published where there is no room", n)
		}
	}
	h.must(os.Remove(filepath.Join(queue, "junk")))
	h.until("the queue tells of the loss", func() bool { return entriesOf(queue) == 4 })
	h.publish(s, 6, 6)
	h.holds(queue, "1 2 lost 3 6")
}

// The queue that an event came out of does not get it, though it be behind.
func TestSourceBehind(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	h := newShop(t)
	h.Window, h.Resident = 6, false
	s := h.open()
	from, other := h.queue(h.Events, "from", ".nolinks"), h.queue(h.Events, "other", ".nolinks")
	h.publish(s, 1, 8)
	h.Source = from
	forwarder := h.open()
	h.publish(forwarder, 9, 10)
	h.publish(s, 11, 11)
	got := map[string][]string{}
	for range 5 {
		for _, queue := range []string{from, other} {
			got[queue] = append(got[queue], h.take(queue, 100)...)
		}
		h.must(s.Upkeep())
	}
	if text := strings.Join(got[from], " "); text != span(1, 8)+" 11" {
		t.Errorf("the source got %s", text)
	}
	if text := strings.Join(got[other], " "); text != span(1, 11) {
		t.Errorf("the other got %s", text)
	}
	h.clean()
}

// What is kept for a client that died while its queue lagged is removed by the next
// publisher, also when there is no other queue.
func TestLeftByTheLast(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	h := newShop(t)
	h.Resident, h.Window = false, 800
	s := h.open()
	queue := h.queue(h.Events, "x", ".nolinks")
	c := h.start(owners[0].cmd(h.Events))
	h.publish(s, 1, 900)
	c.kill()
	h.publish(s, 901, 901)
	s.Close()
	h.must(os.RemoveAll(queue))
	for turns := 0; !Empty(h.Options); turns++ { // as each event's process does
		if turns == 10 {
			t.Fatal("there is always something left")
		}
		s = h.open()
		h.publish(s, 0, 0)
		s.Close()
	}
	h.clean()
}
