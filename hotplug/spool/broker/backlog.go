package broker

import (
	"slices"

	"golang.org/x/sys/unix"

	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
)

// As long as any queue is behind, every event is held back, by one link: those
// that such a queue does not want too, so that a number which is missing among
// them was lost.

// lag makes q one that is behind: the event n is the next that it is to get.
func (s *Broker) lag(q *queue, n uint64) {
	if q.cursor != 0 {
		return
	}
	q.cursor = n
	s.behind++
	s.writeState(q)
	s.watchQueue(q)
}

// hold keeps the event n back for the queues that are behind. Past the cap the
// oldest goes; whose turn that was is told of it when it is fed.
func (s *Broker) hold(f *file, n uint64) {
	if s.source != 0 {
		s.from[n] = s.source
	}
	if err := s.link(f, s.held, s.heldName(n)); err != nil {
		delete(s.from, n)
		s.log("an event cannot be held back: " + err.Error())
		return
	}
	f.held = true
	s.waiting = append(s.waiting, n)
	for len(s.waiting) > s.heldCap {
		s.unhold()
	}
}

// unhold drops the oldest event that is held back.
func (s *Broker) unhold() {
	n := s.waiting[0]
	unix.Unlinkat(s.held, s.heldName(n), 0)
	delete(s.from, n)
	s.waiting = s.waiting[1:]
}

// heldName returns the name of the event n in held. The queue that it came out of,
// if it came out of one, is a part of the name, since that is not to get it.
func (s *Broker) heldName(n uint64) string {
	if ino := s.from[n]; ino != 0 {
		return spool.EventName(n) + spool.EventName(ino)
	}
	return spool.EventName(n)
}

// release drops what no queue waits for any more.
func (s *Broker) release() {
	if len(s.waiting) == 0 {
		return
	}
	first := s.counter.last() + 1
	for _, q := range s.live {
		if q.live && q.cursor != 0 {
			first = min(first, q.cursor)
		}
	}
	for len(s.waiting) > 0 && s.waiting[0] < first {
		s.unhold()
	}
}

// readWaiting finds out what is held back.
func (s *Broker) readWaiting() {
	s.waiting, s.from = nil, map[uint64]uint64{}
	names := sys.List(s.held)
	slices.Sort(names) // which orders the numbers that they begin with, too
	for _, name := range names {
		if n, ok := spool.EventNumber(name[:min(spool.NameLength, len(name))]); ok {
			s.waiting = append(s.waiting, n)
			if ino, ok := spool.EventNumber(name[spool.NameLength:]); ok {
				s.from[n] = ino
			}
		}
	}
}

// feed gives q what was held back for it, as far as it has room.
func (s *Broker) feed(q *queue) {
	for q.live && q.cursor != 0 {
		if q.cursor > s.counter.last() {
			s.catchUp(q)
			return
		}
		if !s.fits(q, 0) || !s.feedOne(q) {
			return
		}
	}
}

// catchUp ends that q is behind.
func (s *Broker) catchUp(q *queue) {
	q.cursor = 0
	s.behind--
	s.writeState(q)
	s.unwatchQueue(q)
}

// feedOne gives q the event at its cursor, or if that is lost tells it so, and
// reports whether there may be more. The cursor moves first: after a crash an event
// may be missing, of which recover tells, but none comes twice.
func (s *Broker) feedOne(q *queue) (more bool) {
	i, found := slices.BinarySearch(s.waiting, q.cursor)
	if !found {
		return s.feedGap(q, i)
	}
	n := q.cursor
	if s.from[n] == q.ino {
		s.advance(q, n+1)
		return true
	}
	text, wanted, err := s.read(q, n)
	if err == unix.ENOENT {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		return true
	}
	if err != nil {
		s.again = true
		return false
	}
	s.advance(q, n+1)
	if !wanted {
		return true
	}
	if err = s.linkHeld(q, n, text); err != nil && err != unix.EEXIST {
		if q.isGone() {
			s.forget(q)
			return false
		}
		s.advance(q, n)
		s.again = true // the file system is full, perhaps
		return false
	}
	s.given(q, n, len(text))
	return true
}

// advance sets the cursor of q.
func (s *Broker) advance(q *queue, n uint64) {
	q.cursor = n
	s.writeState(q)
}

// read returns the text of an event that is held back, where it is needed, and
// whether q wants it.
func (s *Broker) read(q *queue, n uint64) (text []byte, wanted bool, err error) {
	if q.filter == nil && !q.root.libudev {
		return nil, true, nil
	}
	fd, err := unix.Openat(s.held, s.heldName(n), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, false, err
	}
	defer unix.Close(fd)
	all, err := sys.ReadAll(fd, spool.MaxEvent)
	if err != nil {
		return nil, false, err
	}
	if q.filter == nil {
		return []byte(all), true, nil
	}
	p, err := spool.Parse([]byte(all))
	if err != nil {
		return nil, true, nil
	}
	_, told := p.Get(spool.GapKey)
	return []byte(all), told || q.filter.Match(p), nil
}

// linkHeld links an event that is held back into q. For libudev-compat one that is
// too long is written anew.
func (s *Broker) linkHeld(q *queue, n uint64, text []byte) error {
	if q.root.libudev {
		fitted, cut, err := FitLibudev(text)
		if err != nil {
			s.log("libudev-compat is not told of an event: " + err.Error())
			return nil
		}
		if len(cut) > 0 {
			return s.putInto(q, spool.EventName(n), fitted)
		}
	}
	return unix.Linkat(s.held, s.heldName(n), q.fd, spool.EventName(n), 0)
}

// putInto makes an event of one queue's own.
func (s *Broker) putInto(q *queue, name string, text []byte) error {
	f, err := s.newFile(text, name)
	if err != nil {
		return err
	}
	defer s.done(f)
	return s.link(f, q.fd, name)
}

// feedGap tells q of the events that are lost from its cursor on: up to the one
// that is at place i among those held back. It takes the name of the last of them.
func (s *Broker) feedGap(q *queue, i int) (more bool) {
	next := s.counter.last() + 1
	if i < len(s.waiting) {
		next = s.waiting[i]
	}
	from := q.cursor
	p := gap(next-from, "the queue was full for too long")
	text := s.header(p.Append(nil))
	s.advance(q, next)
	if err := s.putInto(q, spool.EventName(next-1), text); err != nil && err != unix.EEXIST {
		s.advance(q, from)
		s.again = true
		return false
	}
	s.given(q, next-1, len(text))
	return true
}
