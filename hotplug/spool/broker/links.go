package broker

import (
	"golang.org/x/sys/unix"

	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
)

// links keeps head and tail of the queues that have them. head points to the event to be
// read next, tail to the newest. A client that removes head has read its event, so that
// is removed too, and head moves on.
//
// head is made as a new link where there was none, because a rename does not wake a
// client that waits for IN_CREATE. Else it is replaced, so that it is never missing.
type links struct {
	windows *windows
	*base
}

const (
	linkHead = "head"
	linkTail = "tail"
)

// add notes that n is the newest event of q.
func (l *links) add(q *queue, n uint64) {
	if !sys.Exists(q.fd, linkTail) {
		q.removeTarget(&q.tail) // the client removed it, and no update has seen that yet
	}
	q.order = append(q.order, n)
	if len(q.order) > 2*l.windows.of(q) {
		q.readOrder() // the client reads from the middle
	}
	if l.replace(q, linkTail, n) {
		q.tail = n
	}
	if q.head == 0 { // nothing was unread, or there was no room for a link
		if q.dropRead(); len(q.order) > 0 && l.make(q, linkHead, q.order[0]) {
			q.head = q.order[0]
		}
	}
	l.records.write(q)
}

// removeTarget removes the event that a link pointed to, after a client removed the link.
func (q *queue) removeTarget(n *uint64) {
	if *n != 0 {
		unix.Unlinkat(q.fd, spool.EventName(*n), 0)
		*n = 0
	}
}

// make makes a link, and reports whether it did. A caller must note only links that were
// made: a noted link that is missing counts as removed by the client.
func (l *links) make(q *queue, link string, n uint64) bool {
	err := unix.Symlinkat(spool.EventName(n), q.fd, link)
	if err == unix.EEXIST {
		return l.replace(q, link, n)
	}
	return l.succeeded(q, err)
}

// replace makes a link, in place of one that may be there.
func (l *links) replace(q *queue, link string, n uint64) bool {
	err := unix.Symlinkat(spool.EventName(n), l.files.making, link)
	if err == unix.EEXIST { // left by a publisher that was killed
		l.removeTemporary(link)
		err = unix.Symlinkat(spool.EventName(n), l.files.making, link)
	}
	if err == nil {
		if err = unix.Renameat(l.files.making, link, q.fd, link); err != nil {
			unix.Unlinkat(l.files.making, link, 0)
		}
	}
	return l.succeeded(q, err)
}

// succeeded reports a failure, unless it is that the queue is gone.
func (l *links) succeeded(q *queue, err error) bool {
	if err != nil && !q.isGone() {
		l.notice("cannot make head or tail of a queue: " + err.Error())
	}
	return err == nil
}

// moveHead makes head point to n. It exchanges the old link for the new one: where the
// client removes the old one at the same time, the exchange fails and head is made anew,
// which wakes the client.
func (l *links) moveHead(q *queue, n uint64) bool {
	l.removeTemporary(linkHead)
	err := unix.Symlinkat(spool.EventName(n), l.files.making, linkHead)
	if err == nil {
		err = unix.Renameat2(l.files.making, linkHead, q.fd, linkHead, unix.RENAME_EXCHANGE)
		l.removeTemporary(linkHead)
	}
	return err == nil || l.make(q, linkHead, n)
}

// removeTemporary removes from making what has the name of a link. That may be a
// directory, if a client had put one in the place of its head.
func (l *links) removeTemporary(link string) {
	if unix.Unlinkat(l.files.making, link, 0) == unix.EISDIR {
		l.trash.add(l.files.making, link)
	}
}

// linkTarget returns the event that a link of q points to, 0 if that is not an event,
// and whether there is anything of that name.
func linkTarget(q *queue, link string) (n uint64, exists bool) {
	// One byte more than a name has, so that no part of a longer target is taken for an event.
	var buf [spool.NameLength + 1]byte
	size, err := unix.Readlinkat(q.fd, link, buf[:])
	if err != nil || size < 0 {
		return 0, err == unix.EINVAL // not a link
	}
	n, _ = spool.EventNumber(string(buf[:size]))
	return n, true
}

// readOrder lists the events in q anew: where it is not known what the queue holds, or where
// order holds many that the client has removed from the middle.
func (q *queue) readOrder() {
	q.order = q.order[:0]
	names, _ := spool.EventNames(q.fd)
	for _, name := range names {
		n, _ := spool.EventNumber(name)
		q.order = append(q.order, n)
	}
}

// update corrects head and tail after the client removed something. It reads each link
// once: what the client removes meanwhile is for the next round.
func (l *links) update(q *queue) {
	before := [2]uint64{q.head, q.tail}
	oldHead, hasHead := linkTarget(q, linkHead)
	oldTail, hasTail := linkTarget(q, linkTail)
	if !hasHead {
		q.removeTarget(&q.head)
	}
	if !hasTail {
		q.removeTarget(&q.tail)
	}
	q.dropRead()
	if len(q.order) == 0 {
		q.removeLinks()
	} else {
		head, tail := q.order[0], q.order[len(q.order)-1]
		if oldTail == tail || l.replace(q, linkTail, tail) {
			q.tail = tail
		}
		if oldHead == head || hasHead && l.moveHead(q, head) || !hasHead && l.make(q, linkHead, head) {
			q.head = head
		}
	}
	// The next publisher takes a link that is recorded and missing for one that the client
	// removed.
	if before != [2]uint64{q.head, q.tail} {
		l.records.write(q)
	}
}

// dropRead drops the events at both ends of order that the client has removed: a client that
// follows head removes the oldest, one that follows tail the newest. Events removed from the
// middle stay in order until an end reaches them.
func (q *queue) dropRead() {
	for len(q.order) > 0 && !sys.Exists(q.fd, spool.EventName(q.order[0])) {
		q.order = q.order[1:]
	}
	for len(q.order) > 0 && !sys.Exists(q.fd, spool.EventName(q.order[len(q.order)-1])) {
		q.order = q.order[:len(q.order)-1]
	}
}

// removeLinks removes the links of a queue in which nothing is unread.
func (q *queue) removeLinks() {
	if q.head != 0 || q.tail != 0 {
		unix.Unlinkat(q.fd, linkHead, 0)
		unix.Unlinkat(q.fd, linkTail, 0)
	}
	q.head, q.tail, q.order = 0, 0, nil
}

// rebuild corrects head and tail after a publisher was killed. What was noted counts for
// nothing: a link that is missing may not have been made yet.
func (l *links) rebuild(q *queue) {
	q.readOrder()
	q.head, _ = linkTarget(q, linkHead)
	q.tail, _ = linkTarget(q, linkTail)
	l.update(q)
}
