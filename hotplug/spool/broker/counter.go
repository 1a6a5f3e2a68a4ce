package broker

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
)

// counter is the file from which all publishers take their numbers. It is mapped,
// so that a number costs no system call, and what was stored outlives a publisher
// that is killed. It is changed under the spool's lock only.
type counter struct{ words *[4]uint64 }

// The words of the file.
const (
	wordLast   = iota // the number that was given last
	wordBusy          // not 0: somebody puts events into queues
	wordWriter        // who held the lock last
	wordSeqnum        // the kernel's highest number among the events that are at their end
)

// openCounter opens the counter in the spool's directory, and makes it where it is
// missing. The lock must be held.
func openCounter(dir int) (*counter, error) {
	fd, err := sys.OwnFile(dir, "counter", unix.O_RDWR)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	// The page must be there: a full file system would kill us at the first store.
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	const size = unsafe.Sizeof([4]uint64{})
	if st.Size != int64(size) {
		if _, err := unix.Pwrite(fd, make([]byte, size), 0); err != nil {
			return nil, err
		}
	}
	words, err := unix.MmapPtr(fd, 0, nil, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return &counter{(*[4]uint64)(words)}, nil
}

func (c *counter) close() {
	if c != nil {
		unix.MunmapPtr(unsafe.Pointer(c.words), unsafe.Sizeof(*c.words))
	}
}

func (c *counter) load(word int) uint64         { return atomic.LoadUint64(&c.words[word]) }
func (c *counter) store(word int, value uint64) { atomic.StoreUint64(&c.words[word], value) }

func (c *counter) last() uint64            { return c.load(wordLast) }
func (c *counter) setLast(n uint64)        { c.store(wordLast, n) }
func (c *counter) busy() bool              { return c.load(wordBusy) != 0 }
func (c *counter) writer() uint64          { return c.load(wordWriter) }
func (c *counter) setWriter(writer uint64) { c.store(wordWriter, writer) }

func (c *counter) setBusy(busy bool) {
	value := uint64(0)
	if busy {
		value = 1
	}
	c.store(wordBusy, value)
}

// maxRestored is the highest number that a name is believed to have: a client may
// name the files in its queue as it likes.
const maxRestored = 1 << 62

// restoreCounter begins to count where the names that are there end.
func (s *Broker) restoreCounter() {
	highest := uint64(0)
	look := func(dir int) {
		for _, name := range sys.List(dir) {
			if n, ok := spool.EventNumber(name); ok && n < maxRestored {
				highest = max(highest, n)
			}
		}
	}
	look(s.held)
	for _, r := range s.roots {
		for _, name := range sys.List(r.fd) {
			if fd, err := s.openDirectory(r.fd, name); err == nil {
				look(fd)
				unix.Close(fd)
			}
		}
	}
	s.counter.setLast(highest)
}

// self returns a number by which other publishers know this one.
func self() uint64 {
	var n uint64
	b := (*[unsafe.Sizeof(n)]byte)(unsafe.Pointer(&n))
	if _, err := unix.Getrandom(b[:], unix.GRND_NONBLOCK); err != nil {
		n = uint64(now())<<16 ^ uint64(unix.Getpid()) // early in a boot
	}
	return n | 1
}
