package broker

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
)

// counter is the file from which all publishers take the numbers of events. It is
// mapped: a number costs no system call, and what was stored outlives a publisher that
// is killed. It is changed only under the spool's lock. Its zero value is not open.
type counter struct{ words *[4]uint64 }

// The words of the file, in host byte order.
const (
	wordLast   = iota // the last number that was given
	wordBusy          // not 0 while a publisher puts an event into queues
	wordWriter        // id of the Broker that had the lock last
	wordSeqnum        // the kernel's highest SEQNUM among the events that are done
)

// open opens the counter in the spool's directory, and makes it where it is missing. The
// lock must be held.
func (c *counter) open(dir int) error {
	fd, err := sys.OwnFile(dir, "counter", unix.O_RDWR)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// Allocate the page now: on a full file system a store to a hole raises SIGBUS.
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	const size = unsafe.Sizeof(*c.words)
	if st.Size < int64(size) { // a longer one is of a later version, which begins alike
		n, err := unix.Pwrite(fd, make([]byte, size), 0)
		if err != nil {
			return err
		}
		if n < int(size) {
			return unix.ENOSPC
		}
	}
	words, err := unix.MmapPtr(fd, 0, nil, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err == nil {
		c.words = (*[4]uint64)(words)
	}
	return err
}

// close unmaps the counter. It may be called again.
func (c *counter) close() {
	if c.words != nil {
		unix.MunmapPtr(unsafe.Pointer(c.words), unsafe.Sizeof(*c.words))
		c.words = nil
	}
}

func (c *counter) load(word int) uint64         { return atomic.LoadUint64(&c.words[word]) }
func (c *counter) store(word int, value uint64) { atomic.StoreUint64(&c.words[word], value) }

// setBusy notes that a publisher puts an event into queues, or has done so.
func (c *counter) setBusy(busy bool) {
	value := uint64(0)
	if busy {
		value = 1
	}
	c.store(wordBusy, value)
}

// maxRestored is the highest number that is believed of a file's name: clients may give
// the files in their queues any name.
const maxRestored = 1 << 62

// highestNumber returns the highest number of an event file in the spool. A new counter
// starts there, so that no name comes twice.
func (b *Broker) highestNumber() (highest uint64) {
	look := func(dir int) {
		for _, name := range sys.List(dir) {
			if n, ok := spool.EventNumber(name); ok && n < maxRestored {
				highest = max(highest, n)
			}
		}
	}
	look(b.backlog.dir)
	for _, r := range b.registry.roots {
		for _, name := range sys.List(r.fd) {
			if fd, err := b.space.openDirectory(r.fd, name); err == nil {
				look(fd)
				unix.Close(fd)
			}
		}
	}
	return highest
}

// newID returns a number that tells a Broker from all others.
func newID() uint64 {
	var n uint64
	b := (*[unsafe.Sizeof(n)]byte)(unsafe.Pointer(&n))
	if _, err := unix.Getrandom(b[:], unix.GRND_NONBLOCK); err != nil {
		n = uint64(now())<<16 ^ uint64(unix.Getpid()) // early in a boot
	}
	return n | 1 // 0 is what a new counter holds
}
