package spool

import (
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// Context ends a wait. Any context.Context is one; that package itself would cost
// the program dear.
type Context interface {
	Done() <-chan struct{}
	Err() error
}

// Reader reads a queue. Several Readers, in any number of processes, may share
// one: each event comes to one of them, and to each they come in order. The
// methods may be called by several goroutines.
type Reader struct {
	path string
	own  bool // the queue goes with Close

	ctx    Context
	closed chan struct{} // by Close
	bell   *bell
	wait   syscall.RawConn // by which a goroutine waits for the bell

	mu     sync.Mutex // guards what follows
	dir    int
	unread []string // names that were seen and not read yet, the oldest first
}

// NewReader returns a Reader of the queue at path, which stays there at Close.
// The context ends Next.
func NewReader(ctx Context, path string) (*Reader, error) {
	dir, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, Failed("open", path, err)
	}
	r := &Reader{path: path, ctx: ctx, closed: make(chan struct{}), dir: dir}
	if r.bell, err = newBell(path); err != nil {
		unix.Close(dir)
		return nil, Failed("watch", path, err)
	}
	if r.wait, err = r.bell.file.SyscallConn(); err == nil {
		err = r.look() // what is there already rings too
	}
	if err != nil {
		r.Close()
		return nil, Failed("read", path, err)
	}
	if ctx.Done() != nil {
		go r.heed()
	}
	return r, nil
}

// heed ends Next when the context ends.
func (r *Reader) heed() {
	select {
	case <-r.ctx.Done():
		r.bell.file.SetReadDeadline(time.Unix(1, 0))
	case <-r.closed:
	}
}

// Path returns the queue's path.
func (r *Reader) Path() string { return r.path }

// Fd returns a descriptor for poll, select or epoll that is readable as long as
// there are unread events. It stays so however the events came to be there, and
// whatever inotify has lost. It is not to be read from, nor closed.
//
// Where others read the queue too, it may be readable once in vain.
func (r *Reader) Fd() int { return r.bell.epoll }

// Next waits for the oldest event, takes it out of the queue and returns it. After
// ErrMalformed, for what somebody else put into the queue, the next call goes on
// behind it. When the context has ended its error is returned, and after Close
// os.ErrClosed.
func (r *Reader) Next() (p Packet, err error) {
	woken := r.wait.Read(func(uintptr) bool {
		p, err = r.TryNext()
		return err != ErrEmpty
	})
	switch {
	case woken == nil:
		return p, err
	case r.ctx.Err() != nil:
		return p, r.ctx.Err()
	}
	return p, os.ErrClosed
}

// TryNext is Next for who waits by Fd: where there is no event it returns ErrEmpty.
func (r *Reader) TryNext() (Packet, error) {
	text, err := r.pop()
	if err != nil {
		return Packet{}, err
	}
	return Parse([]byte(text))
}

// pop takes out the oldest event. Of several readers the one whose unlink succeeds
// has it; a reader that dies before that has taken nothing.
func (r *Reader) pop() (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dir == sys.None {
		return "", os.ErrClosed
	}
	for {
		if len(r.unread) == 0 {
			if err := r.look(); err != nil {
				return "", Failed("read", r.path, err)
			}
		}
		if len(r.unread) == 0 {
			return "", ErrEmpty
		}
		name := r.unread[0]
		text, err := r.read(name)
		if err == nil {
			err = unix.Unlinkat(r.dir, name, 0)
		}
		if err != nil && err != unix.ENOENT {
			return "", Failed("take", r.path+"/"+name, err)
		}
		r.unread = r.unread[1:]
		if err == nil {
			if len(r.unread) == 0 {
				r.look() // an error comes back at the next call
			}
			return text, nil
		}
	}
}

// look lists the queue anew and makes the bell say whether there is something
// unread. What comes after the bell was hushed rings it again.
func (r *Reader) look() (err error) {
	r.bell.hush()
	r.unread, err = EventNames(r.dir)
	if r.bell.moved {
		err = unix.ENOENT // it was taken away, and is on its way out
	}
	r.bell.ring(len(r.unread) > 0 || err != nil)
	return err
}

// read reads one event file.
func (r *Reader) read(name string) (string, error) {
	fd, err := unix.Openat(r.dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return sys.ReadAll(fd, MaxEvent)
}

// Close ends the Reader, and the queue with it where Subscribe made it. A Next
// that waits returns os.ErrClosed.
func (r *Reader) Close() error {
	r.bell.wake() // Next holds the mutex while it looks, never while it waits
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dir == sys.None {
		return os.ErrClosed
	}
	close(r.closed)
	r.bell.close()
	var err error
	if r.own {
		err = r.remove()
	}
	unix.Close(r.dir)
	r.dir = sys.None
	return err
}

// remove removes the queue. Renamed, it gets no more events; one that was under way
// then may still come.
func (r *Reader) remove() error {
	at := strings.LastIndexByte(r.path, '/') + 1
	path, hidden := r.path, r.path[:at]+"."+r.path[at:]
	if unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, hidden, unix.RENAME_NOREPLACE) == nil {
		path = hidden
	}
	var err error
	for range 100 {
		for _, name := range sys.List(r.dir) {
			unix.Unlinkat(r.dir, name, 0)
		}
		if err = unix.Rmdir(path); err != unix.ENOTEMPTY {
			break
		}
	}
	if err != nil && err != unix.ENOENT {
		return Failed("rmdir", path, err)
	}
	return nil
}
