package broker

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/spool"
)

// head returns the N of the event that head points to, or "".
func (h *shop) head(queue string) string {
	text, err := os.ReadFile(filepath.Join(queue, linkHead))
	if err != nil {
		return ""
	}
	p, err := spool.Parse(text)
	h.must(err)
	n, _ := p.Get("N")
	return n
}

// points fails the test unless head and tail point to these N, once that is seen to.
func (h *shop) points(s *Broker, queue, head, tail string) {
	h.Helper()
	h.must(s.Upkeep())
	for link, want := range map[string]string{linkHead: head, linkTail: tail} {
		text, _ := os.ReadFile(filepath.Join(queue, link))
		p, _ := spool.Parse(text)
		if n, _ := p.Get("N"); n != want {
			h.Errorf("%s points to %q, want %q", link, n, want)
		}
	}
}

// Head and tail follow whatever a client removes.
func TestHeadAndTail(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	for _, resident := range []bool{true, false} {
		t.Run(fmt.Sprint("resident ", resident), func(t *testing.T) {
			h := newShop(t)
			h.Resident = resident
			s := h.open()
			queue := h.queue(h.Events, "x")
			remove := func(name string) {
				t.Helper()
				h.must(os.Remove(filepath.Join(queue, name)))
				if !resident { // who looks next is another process
					s.Close()
					s = h.open()
				}
			}
			h.points(s, queue, "", "")
			h.publish(s, 1, 6)
			h.points(s, queue, "1", "6")
			remove(linkHead)
			h.points(s, queue, "2", "6")
			h.holds(queue, "2 3 4 5 6")
			names, _ := numbers(t, queue)
			remove(spool.EventName(names[0]))
			h.points(s, queue, "3", "6")
			remove(spool.EventName(names[2]))
			remove(linkTail)
			h.points(s, queue, "3", "5")
			h.publish(s, 7, 7)
			h.points(s, queue, "3", "7")
			h.holds(queue, "3 5 7")
			remove(linkHead)
			h.points(s, queue, "5", "7")
			remove(spool.EventName(names[3]))
			h.points(s, queue, "7", "7")
			remove(linkHead)
			h.points(s, queue, "", "")
			if n := entriesOf(queue); n != 0 {
				t.Errorf("%d entries are left", n)
			}
			h.publish(s, 8, 8)
			h.points(s, queue, "8", "8")
			os.RemoveAll(queue)
		})
	}
}

// A script that reads head and removes it gets every event, once and in order,
// while others come; and it is woken for each by IN_CREATE.
func TestScript(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	const events = 2000
	h := newShop(t)
	h.Window = 50
	s := h.open()
	queue := h.queue(h.Events, "x")
	inotify, err := unix.InotifyInit1(0)
	h.must(err)
	_, err = unix.InotifyAddWatch(inotify, queue, unix.IN_CREATE)
	h.must(err)
	go h.publish(s, 1, events)
	var buf [4096]byte
	for n := 1; n <= events; {
		got := h.head(queue)
		if got == "" {
			if _, err := unix.Read(inotify, buf[:]); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got != fmt.Sprint(n) {
			t.Fatalf("head is %s, want %d", got, n)
		}
		h.must(os.Remove(filepath.Join(queue, linkHead)))
		h.until("head has moved on", func() bool { return h.head(queue) != got })
		n++
	}
	h.must(s.Upkeep())
	h.clean()
}

// What stands in the place of a link is its client's own fault.
func TestLinksInTheWay(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	h := newShop(t)
	s := h.open()
	queue, other := h.queue(h.Events, "x"), h.queue(h.Events, "y")
	h.must(os.Mkdir(queue+"/head", 0o755))
	h.must(os.Symlink("/etc/passwd", queue+"/tail"))
	h.publish(s, 1, 3)
	h.holds(queue, "1 2 3")
	h.points(s, other, "1", "3")

	// A directory where head was, which is to move on: nobody else's links suffer.
	hidden := filepath.Join(filepath.Dir(queue), ".x") // or head could come back while it is emptied
	h.must(os.Rename(queue, hidden))
	h.must(s.Upkeep())
	h.must(os.RemoveAll(hidden))
	s.mu.Lock() // so that head does not come back in between
	queue = h.queue(h.Events, "z")
	h.must(os.MkdirAll(queue+"/head/x", 0o755))
	s.mu.Unlock()
	h.publish(s, 4, 5)
	h.must(s.Upkeep())
	names, _ := numbers(t, other)
	h.must(os.Remove(filepath.Join(other, spool.EventName(names[0]))))
	h.points(s, other, "2", "5")
	h.must(os.Remove(filepath.Join(other, spool.EventName(names[1]))))
	h.points(s, other, "3", "5")
	if n := entriesOf("/dev/.devspool/spool/making"); n != 0 {
		t.Errorf("%d things lie in making", n)
	}
	if text, err := os.ReadFile("/etc/passwd"); err != nil || !strings.Contains(string(text), "root") {
		t.Error("/etc/passwd has changed")
	}
}

// A tail that was removed counts also where the next event comes before anybody has
// looked.
func TestTailRemovedUnseen(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	h := newShop(t)
	s := h.open()
	queue := h.queue(h.Events, "x")
	h.publish(s, 1, 2)
	s.mu.Lock() // nobody looks
	h.must(os.Remove(queue + "/tail"))
	h.must(s.begin())
	e := numbered(3)
	h.must(s.deliveries.put(e, nil, spool.Packet{}))
	s.space.release()
	s.mu.Unlock()
	h.points(s, queue, "1", "3")
	h.holds(queue, "1 3")
}

// Where there is no room for a link, its absence is not taken for what a client did.
func TestNoRoomForLinks(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	for room := range 6 {
		for _, resident := range []bool{true, false} {
			t.Run(fmt.Sprint(room, " resident ", resident), func(t *testing.T) {
				h := newShop(t)
				kerneltest.MountTmpfs(t, "/dev")
				h.must(os.MkdirAll("/dev/.devspool/spool", 0o700))
				h.must(unix.Mount("small", "/dev/.devspool/spool", "tmpfs", 0, "nr_inodes=500,mode=0700"))
				h.Resident = resident
				s := h.open()
				queue := h.queue(h.Events, "x")
				h.must(s.Upkeep())
				junk := "/dev/.devspool/spool/junk"
				h.must(os.Mkdir(junk, 0o700))
				var fs unix.Statfs_t
				h.must(unix.Statfs(junk, &fs))
				for i := range int(fs.Ffree) - room {
					h.must(os.WriteFile(fmt.Sprint(junk, "/", i), nil, 0o600))
				}
				for n := 1; n <= 4; n++ {
					s.Publish(numbered(n), nil) // says how it went
					h.must(s.Upkeep())
				}
				h.must(os.RemoveAll(junk))
				h.must(s.Upkeep())
				h.publish(s, 5, 5)
				total := 0
				_, values := numbers(t, queue)
				for _, value := range values {
					if lost, ok := strings.CutPrefix(value, "lost "); ok {
						n, _ := strconv.Atoi(lost)
						total += n
					} else {
						total++
					}
				}
				if total != 5 {
					t.Errorf("of 5 events the queue has %v", values)
				}
				first, _ := numbers(t, queue)
				if head, _ := os.Readlink(queue + "/head"); head != spool.EventName(first[0]) {
					t.Errorf("head is %q, of %d", head, first)
				}
			})
		}
	}
}

// What is remembered of a queue does not grow with what its client has read.
func TestReadFromTheMiddle(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	h := newShop(t)
	h.Window = 20
	s := h.open()
	queue := h.queue(h.Events, "x")
	for n := range 200 {
		h.publish(s, n, n)
		names, _ := numbers(t, queue)
		for _, old := range names[min(1, len(names)-1) : len(names)-1] {
			h.must(os.Remove(filepath.Join(queue, spool.EventName(old))))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.registry.queues {
		if len(q.order) > 41 {
			t.Errorf("%d events are remembered of 2", len(q.order))
		}
	}
}
