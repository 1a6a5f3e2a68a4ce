package sys

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Poller is a set of descriptors to wait for: an epoll set in the set of the runtime's own poller.
// A goroutine that waits for it takes no thread.
type Poller struct {
	_    NotComparable
	fd   int
	file *os.File // owns fd
	conn syscall.RawConn
}

// NewPoller returns an empty set. The name is for error messages.
func NewPoller(name string) (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	p := &Poller{fd: fd}
	if p.file, p.conn, err = Polled(fd, name); err != nil {
		return nil, err
	}
	return p, nil
}

// Fd returns the set's descriptor: it is readable while one in the set is ready.
func (p *Poller) Fd() int { return p.fd }

// Add adds fd to the set. events is a mask of unix.EPOLLIN and the like; tag comes back
// from Wait.
func (p *Poller) Add(fd int, events uint32, tag uint64) error {
	// The tag fills epoll_data, a union of 64 bits, the halves of which package unix calls Fd and Pad.
	e := unix.EpollEvent{Events: events, Fd: int32(uint32(tag)), Pad: int32(uint32(tag >> 32))}
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &e)
}

// Wait waits until a descriptor is ready or the deadline is over, and appends the tags
// of those that are ready, at most 64. After Close it returns an error.
func (p *Poller) Wait(tags []uint64) ([]uint64, error) {
	var events [64]unix.EpollEvent
	err := p.Until(func(uintptr) bool {
		// It does not wait: that is left to the runtime's poller, which calls this again.
		n, err := unix.EpollWait(p.fd, events[:], 0)
		if err != nil {
			n = 0
		}
		for _, e := range events[:max(0, n)] {
			tags = append(tags, uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32)
		}
		return n > 0
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return tags, err
}

// Until calls done with the set's descriptor, at once and each time that a descriptor in it
// becomes ready, until done returns true. The error is os.ErrDeadlineExceeded where the deadline
// is over first; after Close it is another one.
func (p *Poller) Until(done func(fd uintptr) bool) error { return p.conn.Read(done) }

// SetDeadline has Wait and Until return at a time, or never with the zero time.
func (p *Poller) SetDeadline(t time.Time) { p.file.SetReadDeadline(t) }

// Close closes the set, which has Wait and Until return. The descriptors in it stay open.
func (p *Poller) Close() error { return p.file.Close() }
