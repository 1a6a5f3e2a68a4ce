package sink

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"devspool/hotplug/sys"
)

// How messages are paced. A listener has a buffer of some 200 KiB where it has not asked for
// another, in which a message takes about 1 KiB, and what finds no room there is lost.
const (
	paceBatch = 32                   // messages sent at once
	paceTick  = 2 * time.Millisecond // and again not before this
	paceRoom  = 64 << 10             // bytes in the buffer of a listener that is waited for
	paceWait  = 250 * time.Millisecond
	// How long such a listener is waited for; one that takes nothing in that time is deaf.
	paceQueue = 2 << 20          // bytes that wait here at most
	paceLimit = 10 * time.Second // and how long
)

// pacer sends messages to netlink groups. The kernel tells no sender whether there was room
// for a message, but shows how much waits in each listener's buffer: so of a burst no more is
// sent at once than fits, and then what listeners have taken. The rest waits, but neither
// much nor long: beyond that it is sent at once, as if nobody were slow.
type pacer struct {
	groups uint32           // a mask, as the kernel shows the groups of a listener
	send   func(msg []byte) // called with mu locked, so one message at a time

	mu     sync.Mutex    // guards the fields below
	queue  [][]byte      // that wait, in order; nil for none, and else a timer calls tick
	size   int           // bytes in these
	since  sys.Time      // when the queue was begun
	last   sys.Time      // when a batch was begun
	batch  int           // messages of it that were sent
	waited time.Duration // how long slow listeners are being waited for
	deaf   []string      // inodes of sockets that are not waited for
}

// put sends a message, at once or later. It does not block.
func (p *pacer) put(msg []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.queue == nil {
		if p.last.Age() >= paceTick {
			p.last, p.batch = sys.Now(), 0
		}
		if p.batch < paceBatch {
			p.batch++
			p.send(msg)
			return
		}
		p.since = sys.Now()
		time.AfterFunc(paceTick, p.tick)
	}
	p.queue = append(p.queue, append([]byte(nil), msg...))
	// Too much waits: the oldest messages go at once, still in order, for listeners that are in
	// time.
	if p.size += len(msg); p.size > paceQueue {
		p.sendBatchLocked()
	}
}

// tick sends some of what waits, if listeners have room for it.
func (p *pacer) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if full := p.fullSockets(); p.since.Age() < paceLimit {
		// A listener that was slow for paceWait is not waited for again before it has taken
		// something.
		slow := slices.ContainsFunc(full, func(id string) bool { return !slices.Contains(p.deaf, id) })
		if slow && p.waited < paceWait {
			p.waited += paceTick
			time.AfterFunc(paceTick, p.tick)
			return
		}
		p.deaf, p.waited = full, 0 // those that took nothing, and that are so still
	}
	if p.sendBatchLocked(); p.queue != nil {
		time.AfterFunc(paceTick, p.tick)
	}
}

// sendBatchLocked sends some of what waits, the oldest first, whether listeners have room or not.
func (p *pacer) sendBatchLocked() {
	n := min(paceBatch, len(p.queue))
	for _, msg := range p.queue[:n] {
		p.size -= len(msg)
		p.send(msg)
	}
	clear(p.queue[:n]) // or the array would keep the messages
	if p.queue = p.queue[n:]; len(p.queue) == 0 {
		p.queue = nil
		p.last, p.batch = sys.Now(), n
	}
}

// flush waits until everything is sent, for limit at most, and then sends the rest. It lets go of the
// mutex while it sleeps, as tick needs it.
func (p *pacer) flush(limit time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for begun := sys.Now(); p.queue != nil; {
		if begun.Age() >= limit {
			p.sendBatchLocked()
			continue
		}
		p.mu.Unlock()
		time.Sleep(paceTick)
		p.mu.Lock()
	}
}

const kobjectUevent = "15" // NETLINK_KOBJECT_UEVENT

// fullSockets returns which listeners have little room, by their sockets' inodes. Without
// /proc there are none. The file shows the sockets of this network namespace, their groups in
// hexadecimal, and as Rmem the bytes that wait in the buffer.
func (p *pacer) fullSockets() (ids []string) {
	text, _ := sys.ReadFile("/proc/net/netlink")
	const columns = 10 // sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode, in the first line too
	for f := strings.Fields(text); len(f) >= columns; f = f[columns:] {
		groups, _ := strconv.ParseUint(f[3], 16, 32)
		waiting, _ := strconv.Atoi(f[4])
		if f[1] == kobjectUevent && uint32(groups)&p.groups != 0 && waiting > paceRoom {
			ids = append(ids, f[9])
		}
	}
	return ids
}
