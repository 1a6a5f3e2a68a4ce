package spool

import (
	"slices"

	"golang.org/x/sys/unix"
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
func (s *Spool) mark(q *queue, n uint64) {
	q.order = append(q.order, n)
	q.tail = n
	s.replaceLink(q, linkTail, n)
	if q.head == 0 {
		q.head = n
		s.makeLink(q, linkHead, n)
	}
	s.writeState(q)
}

func (s *Spool) makeLink(q *queue, link string, n uint64) {
	if err := unix.Symlinkat(fileName(n), q.fd, link); err == unix.EEXIST {
		s.replaceLink(q, link, n)
	}
}

// replaceLink makes a link, in place of another if there is one.
func (s *Spool) replaceLink(q *queue, link string, n uint64) {
	err := unix.Symlinkat(fileName(n), s.making, link)
	if err == unix.EEXIST { // of one that was killed
		unix.Unlinkat(s.making, link, 0)
		err = unix.Symlinkat(fileName(n), s.making, link)
	}
	if err == nil {
		if err = unix.Renameat(s.making, link, q.fd, link); err != nil {
			unix.Unlinkat(s.making, link, 0)
		}
	}
	if err != nil && !q.isGone() {
		s.log("no head and tail in a queue: " + err.Error())
	}
}

// moveHead makes head point to n. It changes places with the old one: a client that
// removes that at the same time is to be woken for the new one, as by any head that
// comes where there was none.
func (s *Spool) moveHead(q *queue, n uint64) {
	unix.Unlinkat(s.making, linkHead, 0)
	err := unix.Symlinkat(fileName(n), s.making, linkHead)
	if err == nil {
		err = unix.Renameat2(s.making, linkHead, q.fd, linkHead, unix.RENAME_EXCHANGE)
		unix.Unlinkat(s.making, linkHead, 0)
	}
	if err != nil {
		s.makeLink(q, linkHead, n)
	}
}

// target returns what a link of q points to, 0 if to nothing of ours, and whether
// there is one.
func target(q *queue, link string) (n uint64, there bool) {
	var buf [digits + 1]byte
	size, err := unix.Readlinkat(q.fd, link, buf[:])
	if err != nil || size < 0 {
		return 0, err == unix.EINVAL // not a link
	}
	n, _ = number(string(buf[:size]))
	return n, true
}

// readOrder finds out which events are in q.
func (s *Spool) readOrder(q *queue) {
	q.order = q.order[:0]
	for _, name := range list(q.fd) {
		if n, ok := number(name); ok {
			q.order = append(q.order, n)
		}
	}
	slices.Sort(q.order)
}

// settle makes head and tail right after q's client removed something. It looks at
// each only once: a client that removes one meanwhile is seen to at the next turn.
func (s *Spool) settle(q *queue) {
	oldHead, isHead := target(q, linkHead)
	oldTail, isTail := target(q, linkTail)
	if q.head != 0 && !isHead {
		unix.Unlinkat(q.fd, fileName(q.head), 0)
	}
	if q.tail != 0 && !isTail {
		unix.Unlinkat(q.fd, fileName(q.tail), 0)
	}
	q.trim()
	if len(q.order) == 0 {
		s.unlink(q)
		return
	}
	head, tail := q.order[0], q.order[len(q.order)-1]
	if oldTail != tail {
		s.replaceLink(q, linkTail, tail)
	}
	switch {
	case !isHead:
		s.makeLink(q, linkHead, head)
	case oldHead != head:
		s.moveHead(q, head)
	}
	if q.head != head || q.tail != tail {
		q.head, q.tail = head, tail
		s.writeState(q)
	}
}

// trim forgets events at both ends of the queue that are gone from it.
func (q *queue) trim() {
	for len(q.order) > 0 && !exists(q.fd, fileName(q.order[0])) {
		q.order = q.order[1:]
	}
	for len(q.order) > 0 && !exists(q.fd, fileName(q.order[len(q.order)-1])) {
		q.order = q.order[:len(q.order)-1]
	}
}

// unlink removes the links of a queue in which nothing is unread.
func (s *Spool) unlink(q *queue) {
	if q.head == 0 && q.tail == 0 {
		return
	}
	unix.Unlinkat(q.fd, linkHead, 0)
	unix.Unlinkat(q.fd, linkTail, 0)
	q.head, q.tail, q.order = 0, 0, nil
	s.writeState(q)
}

// resettle makes head and tail right where nothing that was noted can be relied on:
// a link that is missing was perhaps not made yet.
func (s *Spool) resettle(q *queue) {
	s.readOrder(q)
	q.head, _ = target(q, linkHead)
	q.tail, _ = target(q, linkTail)
	s.settle(q)
}
