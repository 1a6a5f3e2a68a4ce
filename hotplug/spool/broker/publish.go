package broker

import (
	"strconv"

	"golang.org/x/sys/unix"

	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// Publish puts an event into every queue whose filter lets it through, with more
// variables than its own. Where there is no queue it takes one system call of a
// resident spool.
func (s *Broker) Publish(e *uevent.Event, more []string) error {
	return s.session(func() error { return s.publishLocked(e, more) })
}

// PublishAll publishes n events, of which event tells the i-th, under one lock. Of
// what goes wrong it returns the last; the other events are published all the same.
func (s *Broker) PublishAll(n int, event func(i int) (e *uevent.Event, more []string)) error {
	return s.session(func() (failed error) {
		for i := range n {
			if err := s.publishLocked(event(i)); err != nil {
				failed = err
			}
		}
		return failed
	})
}

func (s *Broker) publishLocked(e *uevent.Event, more []string) error {
	return s.put(func() spool.Packet { return spool.PacketOf(e, more) }, func(b []byte) []byte { return spool.Append(b, e, more) })
}

// Put publishes a packet as it is, for who has no Event.
func (s *Broker) Put(p spool.Packet) error {
	return s.session(func() error { return s.put(func() spool.Packet { return p }, p.Append) })
}

// Gap tells every queue that events were lost before they came here: how many, or
// 0 where nobody knows.
func (s *Broker) Gap(lost int, why string) {
	if err := s.Put(gap(uint64(max(0, lost)), why)); err != nil {
		s.log("a gap is not told of: " + err.Error())
	}
}

// gap returns the event that tells of losses.
func gap(lost uint64, why string) spool.Packet {
	var more []string
	if lost > 0 {
		more = append(more, "LOST="+strconv.FormatUint(lost, 10))
	}
	if why != "" {
		more = append(more, "REASON="+why)
	}
	return spool.PacketOf(uevent.Gap(more...), nil)
}

// session has put called with the lock held, unless there is no queue.
func (s *Broker) session(put func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle() {
		return nil
	}
	s.spare = 0
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	if !s.o.Resident {
		s.tend()
	}
	err := put()
	if s.again && s.tender != nil {
		s.tender.kick()
	}
	return err
}

// put gives an event to the queues that want it. The lock is held until the last
// of them has it, or the next event could be seen in a queue before this one is.
func (s *Broker) put(packet func() spool.Packet, text func([]byte) []byte) error {
	targets, wanted := s.choose(packet)
	if !wanted {
		return nil
	}
	s.text = s.header(text(s.text[:0]))
	return s.deliver(targets, s.text)
}

// choose returns the queues that an event can be given to at once. Wanted is true
// also where it is only to be held back.
func (s *Broker) choose(packet func() spool.Packet) (targets []*queue, wanted bool) {
	if !s.listed {
		s.relist()
	}
	targets = s.targets[:0]
	var p spool.Packet
	for _, q := range s.live {
		if q.ino == s.source {
			continue
		}
		if q.filter != nil {
			if p.Action == "" {
				p = packet()
			}
			if _, told := p.Get(spool.GapKey); !told && !q.filter.Match(p) {
				continue
			}
		}
		wanted = true
		if q.cursor == 0 {
			targets = append(targets, q)
		}
	}
	s.targets = targets
	return targets, wanted
}

// header ends the first line as libudev-zero wants it, where it is to be served.
func (s *Broker) header(text []byte) []byte {
	if !s.o.Zero {
		return text
	}
	for i, c := range text {
		if c == '\n' {
			text = append(text, 0)
			copy(text[i+1:], text[i:])
			text[i] = '='
			return text
		}
	}
	return text
}

// deliver gives the event its number and links it into the targets. A target that
// cannot take it is behind from then on.
func (s *Broker) deliver(targets []*queue, text []byte) error {
	n := s.counter.last() + 1
	s.counter.setBusy(true)
	defer s.counter.setBusy(false)
	s.counter.setLast(n)

	late := s.late[:0]
	ready := targets[:0]
	for _, q := range targets {
		if s.fits(q, len(text)) {
			ready = append(ready, q)
		} else {
			s.lag(q, n)
			late = append(late, q)
		}
	}
	f, err := s.newFile(text, spool.EventName(n))
	if err != nil {
		for _, q := range ready {
			s.lag(q, n) // what is not held back when it is fed is told as lost
		}
		s.again = true
		return err
	}
	defer s.done(f)
	if s.behind > 0 {
		s.hold(f, n)
	}
	for _, q := range ready {
		if !s.give(q, f, n) {
			late = append(late, q)
		}
	}
	for _, q := range late {
		s.feed(q) // its client may have read since
	}
	s.late = late[:0]
	s.release()
	return nil
}

// give links the event n into q, and reports whether that is done with.
func (s *Broker) give(q *queue, f *file, n uint64) bool {
	own := f
	if q.root.libudev {
		fitted, err := s.fitted(f)
		if err != nil {
			s.log("libudev-compat is not told of an event: " + err.Error())
			return true
		}
		own = fitted
	}
	err := s.link(own, q.fd, f.name)
	if err == unix.ENOENT && !own.made { // it may have no link any more, or q is gone
		if err = s.renew(own); err == nil {
			err = s.link(own, q.fd, f.name)
		}
	}
	switch {
	case err == nil:
		s.given(q, n, len(own.text))
		return true
	case err == unix.EEXIST:
		return true // its client has made it; that is what it gets
	case q.isGone():
		s.forget(q)
		return true
	default:
		s.log("an event is held back: " + err.Error())
		s.lag(q, n)
		if !f.held {
			s.hold(f, n)
		}
		return false
	}
}

// given does what is due when the event n, of size bytes, has been put into q.
func (s *Broker) given(q *queue, n uint64, size int) {
	q.took(size)
	if s.o.Zero {
		wake(q.fd, spool.EventName(n))
	}
	if q.links {
		s.mark(q, n)
	}
}

// isGone reports whether the directory of q was removed.
func (q *queue) isGone() bool {
	var st unix.Stat_t
	return unix.Fstat(q.fd, &st) != nil || st.Nlink == 0
}

// wake opens and closes a file as a writer does, which is what libudev-zero waits for.
func wake(dir int, name string) {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
}

// recover sees to what a publisher left that was killed among its links. Which
// queues have its event cannot be told: a client may have read it already.
func (s *Broker) recover() {
	for _, name := range sys.List(s.making) {
		unix.Unlinkat(s.making, name, 0)
	}
	for _, q := range s.live {
		if q.links {
			s.resettle(q)
		}
	}
	s.counter.setBusy(false)
	p := gap(1, "a publisher was killed")
	if err := s.put(func() spool.Packet { return p }, p.Append); err != nil {
		s.log("a gap is not told of: " + err.Error())
	}
}

// Ended notes that the kernel's event seqnum is at its end, whether anybody has a
// queue or not. It takes no system call, and what was noted outlives this process.
func (s *Broker) Ended(seqnum uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counter != nil && seqnum > s.counter.load(wordSeqnum) {
		s.counter.store(wordSeqnum, seqnum)
	}
}

// LastEnded returns the highest number that was noted by Ended, here or by who had the
// spool before; 0 for none.
func (s *Broker) LastEnded() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counter == nil {
		return 0
	}
	return s.counter.load(wordSeqnum)
}
