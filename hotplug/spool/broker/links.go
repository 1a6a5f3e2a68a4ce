package broker

import (
	"golang.org/x/sys/unix"

	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
)

// Head points to the event to be read next, tail to the newest. A client that
// removes head has read the event that it pointed to; that goes too, and head moves
// on. It is made as a link where there was none, since a rename does not wake who
// waits for IN_CREATE, and else replaced, so that there is no moment without it.
const (
	linkHead = "head"
	linkTail = "tail"
)

// mark notes that n is the newest event of q.
func (s *Broker) mark(q *queue, n uint64) {
	if !sys.Exists(q.fd, linkTail) {
		q.removed(&q.tail) // before anybody has seen to it
	}
	q.order = append(q.order, n)
	if len(q.order) > 2*s.window(q) {
		s.readOrder(q) // a client that reads from the middle
	}
	if s.replaceLink(q, linkTail, n) {
		q.tail = n
	}
	if q.head == 0 { // there was nothing unread, or no room for a link
		if q.trim(); len(q.order) > 0 && s.makeLink(q, linkHead, q.order[0]) {
			q.head = q.order[0]
		}
	}
	s.writeState(q)
}

// removed does what a client asked for that removed a link of ours: the event n,
// which that pointed to, goes too.
func (q *queue) removed(n *uint64) {
	if *n != 0 {
		unix.Unlinkat(q.fd, spool.EventName(*n), 0)
		*n = 0
	}
}

// makeLink makes a link, and reports whether that could be done: one that is missing
// is taken for removed only where it was there.
func (s *Broker) makeLink(q *queue, link string, n uint64) bool {
	err := unix.Symlinkat(spool.EventName(n), q.fd, link)
	if err == unix.EEXIST {
		return s.replaceLink(q, link, n)
	}
	return s.linked(q, err)
}

// replaceLink makes a link, in place of another if there is one.
func (s *Broker) replaceLink(q *queue, link string, n uint64) bool {
	err := unix.Symlinkat(spool.EventName(n), s.making, link)
	if err == unix.EEXIST { // of one that was killed
		s.vacate(link)
		err = unix.Symlinkat(spool.EventName(n), s.making, link)
	}
	if err == nil {
		if err = unix.Renameat(s.making, link, q.fd, link); err != nil {
			unix.Unlinkat(s.making, link, 0)
		}
	}
	return s.linked(q, err)
}

func (s *Broker) linked(q *queue, err error) bool {
	if err != nil && !q.isGone() {
		s.log("no head and tail in a queue: " + err.Error())
	}
	return err == nil
}

// moveHead makes head point to n. It changes places with the old one: a client that
// removes that at the same time is to be woken for the new one, as by any head that
// comes where there was none.
func (s *Broker) moveHead(q *queue, n uint64) bool {
	s.vacate(linkHead)
	err := unix.Symlinkat(spool.EventName(n), s.making, linkHead)
	if err == nil {
		err = unix.Renameat2(s.making, linkHead, q.fd, linkHead, unix.RENAME_EXCHANGE)
		s.vacate(linkHead)
	}
	return err == nil || s.makeLink(q, linkHead, n)
}

// vacate removes from making what has the name of a link. That may be a directory,
// which a client had put in the place of its head.
func (s *Broker) vacate(link string) {
	if unix.Unlinkat(s.making, link, 0) == unix.EISDIR {
		s.discard(s.making, link)
	}
}

// target returns what a link of q points to, 0 if to nothing of ours, and whether
// there is one.
func target(q *queue, link string) (n uint64, there bool) {
	var buf [spool.NameLength + 1]byte
	size, err := unix.Readlinkat(q.fd, link, buf[:])
	if err != nil || size < 0 {
		return 0, err == unix.EINVAL // not a link
	}
	n, _ = spool.EventNumber(string(buf[:size]))
	return n, true
}

// readOrder finds out which events are in q.
func (s *Broker) readOrder(q *queue) {
	q.order = q.order[:0]
	names, _ := spool.EventNames(q.fd)
	for _, name := range names {
		n, _ := spool.EventNumber(name)
		q.order = append(q.order, n)
	}
}

// settle makes head and tail right after q's client removed something. It looks at
// each only once: a client that removes one meanwhile is seen to at the next turn.
func (s *Broker) settle(q *queue) {
	before := [2]uint64{q.head, q.tail}
	oldHead, isHead := target(q, linkHead)
	oldTail, isTail := target(q, linkTail)
	if !isHead {
		q.removed(&q.head)
	}
	if !isTail {
		q.removed(&q.tail)
	}
	q.trim()
	if len(q.order) == 0 {
		q.unlink()
	} else {
		head, tail := q.order[0], q.order[len(q.order)-1]
		if oldTail == tail || s.replaceLink(q, linkTail, tail) {
			q.tail = tail
		}
		if oldHead == head || isHead && s.moveHead(q, head) || !isHead && s.makeLink(q, linkHead, head) {
			q.head = head
		}
	}
	if before != [2]uint64{q.head, q.tail} {
		s.writeState(q)
	}
}

// trim forgets events at both ends of the queue that are gone from it.
func (q *queue) trim() {
	for len(q.order) > 0 && !sys.Exists(q.fd, spool.EventName(q.order[0])) {
		q.order = q.order[1:]
	}
	for len(q.order) > 0 && !sys.Exists(q.fd, spool.EventName(q.order[len(q.order)-1])) {
		q.order = q.order[:len(q.order)-1]
	}
}

// unlink removes the links of a queue in which nothing is unread.
func (q *queue) unlink() {
	if q.head != 0 || q.tail != 0 {
		unix.Unlinkat(q.fd, linkHead, 0)
		unix.Unlinkat(q.fd, linkTail, 0)
	}
	q.head, q.tail, q.order = 0, 0, nil
}

// resettle makes head and tail right where nothing that was noted can be relied on:
// a link that is missing was perhaps not made yet.
func (s *Broker) resettle(q *queue) {
	s.readOrder(q)
	q.head, _ = target(q, linkHead)
	q.tail, _ = target(q, linkTail)
	s.settle(q)
}
