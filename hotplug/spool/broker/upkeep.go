package broker

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/procfs"
	"devspool/hotplug/sys"
)

// tender keeps a resident spool in order between events. What it waits for is
// gathered in one epoll descriptor, on which Go's own poller waits, so that it
// takes no thread.
type tender struct {
	epoll   int
	file    *os.File
	conn    syscall.RawConn
	inotify int // what is removed from queues
	watched map[int32]*queue
	ended   chan struct{}
}

// Upkeep does once what a resident spool does by itself between events: it removes
// the queues of dead owners, moves head on, and feeds what was held back.
func (s *Broker) Upkeep() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare = surplusSteps
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	s.tend()
	return nil
}

func (s *Broker) tend() {
	s.forgetMakers()
	s.hearMakers()
	for _, q := range s.queues {
		s.check(q)
	}
	for _, q := range s.live {
		s.visit(q)
	}
	s.tidy()
}

// visit sees to a queue whose client removed something.
func (s *Broker) visit(q *queue) {
	if q.live && q.links {
		s.settle(q)
	}
	if q.live && q.cursor != 0 {
		s.feedBusy(q)
	}
}

// feedBusy feeds q outside of deliver.
func (s *Broker) feedBusy(q *queue) {
	s.counter.setBusy(true)
	s.feed(q)
	s.counter.setBusy(false)
}

// tidy does what is left at the end of a turn.
func (s *Broker) tidy() {
	if !s.listed {
		s.relist()
	}
	s.release()
	s.sweep()
}

// openTender opens what the tender waits on.
func (s *Broker) openTender() error {
	t := &tender{epoll: sys.None, inotify: sys.None, watched: map[int32]*queue{}}
	var err error
	if t.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	unix.SetNonblock(t.epoll, true)
	t.file = os.NewFile(uintptr(t.epoll), "spool")
	if t.conn, err = t.file.SyscallConn(); err != nil {
		t.file.Close()
		return err
	}
	if t.inotify, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
		t.file.Close()
		return err
	}
	s.tender = t
	t.add(t.inotify, 0)
	t.add(s.watch, 0)
	for _, r := range s.roots {
		if r.makers != sys.None {
			t.add(r.makers, 0)
		}
	}
	return nil
}

// add has the tender told when fd becomes readable; ino says of which queue that
// tells, 0 of none.
func (t *tender) add(fd int, ino uint64) bool {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(uint32(ino)), Pad: int32(uint32(ino >> 32))}
	return unix.EpollCtl(t.epoll, unix.EPOLL_CTL_ADD, fd, &e) == nil
}

// start has the tender do its work until stop.
func (t *tender) start(s *Broker) {
	t.ended = make(chan struct{})
	go func() {
		defer close(t.ended)
		var fired []uint64
		for t.turn(s, fired) {
			var err error
			if fired, err = t.wait(fired[:0]); err != nil {
				return
			}
		}
	}()
}

// wait returns of which queues something is told, or none when it is time to look.
func (t *tender) wait(fired []uint64) ([]uint64, error) {
	var events [64]unix.EpollEvent
	err := t.conn.Read(func(fd uintptr) bool {
		n, err := unix.EpollWait(int(fd), events[:], 0)
		if err != nil {
			n = 0
		}
		for _, e := range events[:max(0, n)] {
			fired = append(fired, uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32)
		}
		return n > 0
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return fired, err
}

// kick makes the next turn come at once: what a publisher has seen to does not wake
// the tender any more.
func (t *tender) kick() { t.file.SetReadDeadline(time.Now()) }

func (t *tender) stop() {
	t.file.Close()
	if t.ended != nil {
		<-t.ended
	}
	sys.CloseAll(&t.inotify)
}

// turn sees to what fired, and sets when to be called again at the latest.
func (t *tender) turn(s *Broker, fired []uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.again, s.spare = false, surplusSteps
	if s.counter == nil || s.begin() != nil {
		return false
	}
	defer s.end()
	s.allow()
	s.removeSurplus()
	s.forgetMakers()
	s.hearMakers()
	for _, ino := range fired {
		if q := s.queues[ino]; q != nil {
			s.check(q)
		}
	}
	for _, q := range t.touched(s) {
		s.visit(q)
	}
	s.checkDue()
	s.tidy()
	t.file.SetReadDeadline(s.due())
	return true
}

// touched returns the queues from which something was removed, or all that are
// watched where the kernel lost count, or where some could not be fed.
func (t *tender) touched(s *Broker) []*queue {
	var all []*queue
	seen := map[*queue]bool{}
	lost, more := readInotify(t.inotify, s.inbox[:], func(e *unix.InotifyEvent, _ []byte) {
		if q := t.watched[e.Wd]; q != nil && !seen[q] {
			seen[q] = true
			all = append(all, q)
		}
	})
	s.again = s.again || more
	if !lost && s.behind == 0 {
		return all
	}
	for _, q := range t.watched {
		if !seen[q] && (lost || q.cursor != 0) {
			all = append(all, q)
		}
	}
	return all
}

// checkDue looks after the owners whose end nothing tells.
func (s *Broker) checkDue() {
	t := now()
	for _, q := range s.queues {
		if q.owner.next != 0 && q.owner.next <= t {
			s.check(q)
		}
	}
}

// due returns when the next turn is to be, or the zero time if only something that
// happens makes one needed.
func (s *Broker) due() time.Time {
	wait := time.Duration(-1)
	sooner := func(d time.Duration) {
		if wait < 0 || d < wait {
			wait = max(d, time.Millisecond)
		}
	}
	t := now()
	for _, q := range s.queues {
		if q.owner.next != 0 {
			sooner(time.Duration(q.owner.next - t))
		}
	}
	for _, until := range s.denied {
		sooner(time.Duration(until - t))
	}
	surplus := false
	for _, r := range s.roots {
		surplus = surplus || r.surplus || r.reading
	}
	if s.unswept || surplus || s.unheard <= 0 {
		sooner(time.Millisecond)
	}
	if s.again {
		sooner(recheck)
	}
	if wait < 0 {
		return time.Time{}
	}
	return time.Now().Add(wait)
}

// follow has the end of q's owners told, where the kernel can (5.3).
func (s *Broker) follow(q *queue) {
	if s.tender == nil {
		return
	}
	for _, f := range []*follower{&q.owner.maker, &q.owner.named} {
		if f.Pid == 0 {
			continue
		}
		if f.fd == sys.None && !s.o.old.pidfd {
			f.fd = openProcess(f.Process)
		}
		if f.fd != sys.None {
			s.tender.add(f.fd, q.ino)
		}
	}
	q.owner.next = 1 // at the next turn
	s.tender.kick()
}

// openProcess returns a pidfd of p, or none where p is dead, or there is no such thing.
func openProcess(p procfs.Process) int {
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if err != nil {
		return sys.None
	}
	if !p.Alive() { // looked at after it was opened, so it is the same
		unix.Close(fd)
		return sys.None
	}
	return fd
}

// watchQueue has the tender told of what is removed from q.
func (s *Broker) watchQueue(q *queue) {
	if s.tender == nil || q.watch != sys.None {
		return
	}
	watch, err := addWatch(s.tender.inotify, q.fd, q.root.path+"/"+q.name, unix.IN_DELETE|unix.IN_MOVED_FROM)
	if err != nil {
		s.log("a queue is not watched: " + err.Error())
		return
	}
	q.watch = watch
	s.tender.watched[watch] = q
}

// unwatchQueue ends that, where nothing needs it any more.
func (s *Broker) unwatchQueue(q *queue) {
	if q.watch == sys.None || q.live && q.links {
		return
	}
	unix.InotifyRmWatch(s.tender.inotify, uint32(q.watch))
	delete(s.tender.watched, q.watch)
	q.watch = sys.None
}
