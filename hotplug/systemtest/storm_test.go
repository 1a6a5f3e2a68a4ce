package systemtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
)

// stormConf moves, links, owns and hides nodes, and runs nothing. Some devices
// want the same place.
const stormConf = `
sd[c-f]	0:6 600 =shared
ttyS4[0-9]		0:20 660 >serial/last
event4[1-4]		0:13 600 >shared
sd[a-z]+		0:6 660 >disk/%0
sd([a-z]+)([0-9]+)	0:6 640 =part/%1/%2
ttyS([0-9])		5:20 620 =serial/%1
ttyS([0-9]+)		0:20 660 >serial/
event[0-9]*[05]		0:0 600 !
SUBSYSTEM=input;.*	0:13 640
`

// stormDevices returns more than 200 devices of all kinds.
func stormDevices() []kerneltest.Device {
	var all []kerneltest.Device
	for n := range 60 {
		d := disk(n)
		all = append(all, d)
		if n%2 == 0 {
			all = append(all, partition(d, 1), partition(d, 2))
		}
	}
	for n := range 60 {
		all = append(all, terminal(n), input(n))
	}
	return all
}

// storm makes random events of a board's devices, true to the tree.
type storm struct {
	*board
	*rand.Rand
	devices []kerneltest.Device
	plugged map[string]bool
}

func newStorm(b *board, r *rand.Rand) *storm {
	return &storm{board: b, Rand: r, devices: stormDevices(), plugged: map[string]bool{}}
}

// next lets something happen and returns the events of it: devices come, go with
// all that is below them, change, or go and come again at once.
func (s *storm) next() []kerneltest.Event {
	s.Helper()
	d := s.devices[s.IntN(len(s.devices))]
	switch {
	case !s.plugged[d.Devpath]:
		return s.come(d)
	case s.IntN(3) == 0:
		return []kerneltest.Event{d.Event("change")}
	case s.IntN(2) == 0:
		return append(s.leave(d), s.come(d)...)
	}
	return s.leave(d)
}

// come plugs a device, and before it the one that it is a part of.
func (s *storm) come(d kerneltest.Device) []kerneltest.Event {
	var events []kerneltest.Event
	for _, whole := range s.devices {
		if strings.HasPrefix(d.Devpath, whole.Devpath+"/") && !s.plugged[whole.Devpath] {
			events = s.come(whole)
		}
	}
	s.plugged[d.Devpath] = true
	return append(events, s.plug(d))
}

// leave unplugs a device, and before it its parts.
func (s *storm) leave(d kerneltest.Device) []kerneltest.Event {
	var events []kerneltest.Event
	for _, part := range s.devices {
		if s.plugged[part.Devpath] && strings.HasPrefix(part.Devpath, d.Devpath+"/") {
			events = append(events, s.leave(part)...)
		}
	}
	delete(s.plugged, d.Devpath)
	return append(events, s.unplug(d))
}

// helpers runs a helper for each event that comes in, many at once, not quite in
// the order of the events.
type helpers struct {
	*board
	events chan kerneltest.Event
	done   sync.WaitGroup
	victim func(*os.Process) // for some helpers, may be nil
}

func (b *board) startHelpers(atOnce int, victim func(*os.Process)) *helpers {
	h := &helpers{board: b, events: make(chan kerneltest.Event, 4*atOnce), victim: victim}
	for range atOnce {
		h.done.Go(func() {
			for e := range h.events {
				h.one(e)
			}
		})
	}
	return h
}

func (h *helpers) one(e kerneltest.Event) {
	cmd := h.helper(e)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := h.start(cmd); err != nil {
		h.Error(err)
		return
	}
	if h.victim != nil {
		h.victim(cmd.Process)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code > exitDone && h.victim == nil {
		h.Errorf("helper for %s: exit code %d\n%s", e, code, stderr.String())
	}
}

// shuffled gives the helpers the events in an order that differs from theirs by a
// few places, as processes that the kernel starts side by side get to run.
func (h *helpers) shuffled(r *rand.Rand, events []kerneltest.Event) {
	for chunk := range slices.Chunk(events, 16) {
		r.Shuffle(len(chunk), func(i, j int) { chunk[i], chunk[j] = chunk[j], chunk[i] })
		for _, e := range chunk {
			h.events <- e
		}
	}
}

func (h *helpers) wait() {
	close(h.events)
	h.done.Wait()
}

func TestStormOfHelpers(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, stormConf)
	s := newStorm(b, newRand(seed(t)))
	h := b.startHelpers(8, nil)
	for range 30 {
		var events []kerneltest.Event
		for range 20 {
			events = append(events, s.next()...)
		}
		h.shuffled(s.Rand, events)
	}
	h.wait()
	b.likeFresh("a storm of helpers")
}

// TestStormOfKernelHelpers is started as the kernel would: by the program's two
// words, on the real names of /dev and /sys.
func TestStormOfKernelHelpers(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, stormConf)
	s := newStorm(b, newRand(seed(t)))
	h := b.startHelpers(8, nil)
	for range 30 {
		var events []kerneltest.Event
		for range 20 {
			events = append(events, s.next()...)
		}
		h.shuffled(s.Rand, events)
	}
	h.wait()
	b.likeFresh("a storm of the kernel's helpers")
}

func TestStormInLoop(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, stormConf)
	s := newStorm(b, newRand(seed(t)))
	for range 100 {
		s.next() // what is there before the loop starts
	}
	l := b.startLoop()
	for range 3000 {
		for _, e := range s.next() {
			l.send(e)
		}
	}
	b.likeFresh("a storm in the loop")
	if code := l.stop(); code != exitDone {
		t.Errorf("the loop ended with %d\n%s", code, l.stderr)
	}
}

func TestStormInLoopWithCommands(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	words, file := b.witness("seen")
	b.configure("-.* 0:0 600 *" + words + "\n" + stormConf)
	l := b.startLoop()
	s := newStorm(b, newRand(seed(t)))
	for range 200 {
		for _, e := range s.next() {
			l.send(e)
		}
	}
	b.likeFresh("a storm with commands")
	b.orderly(b.testimonies(file))
}

// orderly fails where commands of one device ran in another order than its events came.
func (b *board) orderly(seen []testimony) {
	b.Helper()
	if len(seen) == 0 {
		b.Error("no command ran")
	}
	last := map[string]string{}
	for _, y := range seen {
		if y.get("SEQNUM") == "" {
			continue // of a coldplug
		}
		device, number := y.get("DEVPATH"), fmt.Sprintf("%20s", y.get("SEQNUM"))
		if number <= last[device] {
			b.Errorf("%s: the command of event %s ran after that of %s", device, number, last[device])
		}
		last[device] = number
	}
}

// TestStormInAllModes has a loop, helpers and scans at work on one /dev.
func TestStormInAllModes(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, stormConf)
	s := newStorm(b, newRand(seed(t)))
	l := b.startLoop()
	h := b.startHelpers(4, nil)
	stop := make(chan bool)
	var scans sync.WaitGroup
	scans.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				b.scan()
			}
		}
	})
	for range 20 {
		var events []kerneltest.Event
		for range 20 {
			for _, e := range s.next() {
				l.send(e)
				events = append(events, e)
			}
		}
		h.shuffled(s.Rand, events)
	}
	h.wait()
	close(stop)
	scans.Wait()
	b.likeFresh("a storm in all modes at once")
}

// TestStormWithKills ends processes at any moment; a scan sets right what they left.
func TestStormWithKills(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, stormConf)
	random := seed(t)
	s := newStorm(b, newRand(random))
	var mu sync.Mutex
	fate := newRand(random + 1)
	// victim kills one process in two within what it takes to run.
	victim := func(p *os.Process) {
		mu.Lock()
		spare, delay := fate.IntN(2) == 0, time.Duration(fate.IntN(6000))*time.Microsecond
		mu.Unlock()
		if !spare {
			time.Sleep(delay)
			_ = p.Kill()
		}
	}
	for round := range 12 {
		h := b.startHelpers(4, victim)
		var scan *exec.Cmd
		if round%2 == 0 {
			scan = b.command("-s")
			if err := scan.Start(); err != nil {
				t.Fatal(err)
			}
		}
		for range 20 {
			h.shuffled(s.Rand, s.next())
		}
		if scan != nil {
			victim(scan.Process)
			_ = scan.Wait()
		}
		h.wait()
		b.scan()
		b.likeFresh(fmt.Sprintf("round %d of kills and a scan", round))
	}
}

// TestLoopKilled ends the loop at any moment; the next one sets right what it left.
func TestLoopKilled(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, stormConf)
	s := newStorm(b, newRand(seed(t)))
	for round := range 10 {
		l := b.startLoop()
		for range 20 + s.IntN(50) {
			for _, e := range s.next() {
				l.send(e)
			}
		}
		l.kill()
		for range 10 {
			s.next() // nobody hears of these
		}
		if round%2 == 0 {
			b.scan()
		} else {
			b.startLoop().kill()
		}
		b.likeFresh(fmt.Sprintf("round %d of a killed loop", round))
	}
}

// TestOverrun makes the loop lose events of devices that came and of devices that went.
func TestOverrun(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, stormConf)
	s := newStorm(b, newRand(seed(t)))
	for range 150 {
		s.next()
	}
	l := b.startLoop("--events", b.dev+"/events")
	b.likeFresh("the start")
	queue := b.queue(b.dev+"/events", map[string]string{".nolinks": "", ".filter": "subsystem=none\n"})
	if err := l.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// The loop may ask for a buffer of 128 MiB, of which an event costs 832 bytes
	// at the least. Long events fill it sooner.
	long := kerneltest.Event{Action: "change", Devpath: "/devices/virtual/flood", Vars: []string{"X=" + strings.Repeat("x", 1800)}}
	msg := kerneltest.Message(long)
	for range 70000 {
		if err := l.inject.Write(msg); err != nil {
			t.Fatal(err)
		}
	}
	for range 200 {
		for _, e := range s.next() {
			l.send(e)
		}
	}
	if err := l.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	b.likeFresh("an overrun")
	told := unread(t, queue)
	if len(told) == 0 || !strings.Contains(b.read(queue+"/"+told[0]), "\nUEVENT_GAP=1\nREASON=the kernel dropped events") {
		t.Errorf("a client is told %q", told)
	}
	os.RemoveAll(queue) // which is no device's
	l.stop()
	if !strings.Contains(l.stderr.String(), "dropped events") {
		t.Errorf("the log does not tell of the overrun:\n%s", head(l.stderr.String(), 20))
	}
}
