package spool

import (
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// Context ends a wait. Any context.Context is one; importing that package here would add
// to the size of the boot program.
type Context interface {
	Done() <-chan struct{}
	Err() error
}

// Reader reads a queue. Several Readers, in any number of processes, may share one queue:
// each event goes to one of them, and each gets its events in order. The methods may be
// called by several goroutines.
type Reader struct {
	path    string
	removes bool // Close removes the queue

	ctx      Context
	closed   chan struct{} // closed by Close, which ends watchContext
	notifier *notifier

	mu     sync.Mutex // guards what follows, and the notifier but for Until and Fd
	dir    int        // none after Close
	unread []string   // names that were listed and not read, the oldest first
}

// NewReader returns a Reader of the queue at path, which Close does not remove. The end
// of the context ends Next.
func NewReader(ctx Context, path string) (*Reader, error) {
	dir, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, pathError("open", path, err)
	}
	r := &Reader{path: path, ctx: ctx, closed: make(chan struct{}), dir: dir}
	if r.notifier, err = newNotifier(path); err != nil {
		unix.Close(dir)
		return nil, err
	}
	if err = r.list(); err != nil { // what is there already makes it readable too
		r.Close()
		return nil, pathError("read", path, err)
	}
	if ctx.Done() != nil {
		go r.watchContext()
	}
	return r, nil
}

// watchContext ends Next when the context ends.
func (r *Reader) watchContext() {
	select {
	case <-r.ctx.Done():
		r.notifier.poller.SetDeadline(time.Unix(1, 0)) // long over
	case <-r.closed:
	}
}

// Path returns the path of the queue.
func (r *Reader) Path() string { return r.path }

// Fd returns a descriptor for poll, select or epoll that is readable while there are
// unread events, however they came there and whatever inotify lost. Do not read or close
// it. Where others read the queue too, it may be readable once though nothing is unread.
func (r *Reader) Fd() int { return r.notifier.poller.Fd() }

// Next waits for the oldest event, removes it from the queue and returns it. After
// ErrMalformed, for a file that another process put into the queue, the next call goes on
// behind that. When the context has ended, Next returns its error; after Close,
// os.ErrClosed.
func (r *Reader) Next() (p Packet, err error) {
	interrupted := r.notifier.poller.Until(func(uintptr) bool {
		p, err = r.TryNext()
		return err != ErrEmpty
	})
	switch {
	case interrupted == nil:
		return p, err
	case r.ctx.Err() != nil:
		return p, r.ctx.Err()
	}
	return p, os.ErrClosed
}

// TryNext is Next without the wait, for programs that wait for Fd: where there is no
// event it returns ErrEmpty.
func (r *Reader) TryNext() (Packet, error) {
	text, err := r.pop()
	if err != nil {
		return Packet{}, err
	}
	return Parse([]byte(text))
}

// pop removes the oldest event and returns its text. Of several readers the one whose
// unlink succeeds has the event; a reader that dies before that has taken nothing.
func (r *Reader) pop() (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dir == sys.None {
		return "", os.ErrClosed
	}
	for {
		if len(r.unread) == 0 {
			if err := r.list(); err != nil {
				return "", pathError("read", r.path, err)
			}
		}
		if len(r.unread) == 0 {
			return "", ErrEmpty
		}
		text, err := r.take(r.unread[0])
		if err != nil && err != unix.ENOENT { // ENOENT: another Reader has this event
			return "", pathError("read", r.path+"/"+r.unread[0], err)
		}
		r.unread = r.unread[1:]
		if err == nil {
			if len(r.unread) == 0 {
				_ = r.list() // an error comes back at the next call
			}
			return text, nil
		}
	}
}

// take reads and removes one event file.
func (r *Reader) take(name string) (string, error) {
	// O_NONBLOCK: a FIFO of that name would make the open wait for a writer.
	fd, err := unix.Openat(r.dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	text, err := sys.ReadAll(fd, MaxEvent)
	if err == nil {
		err = unix.Unlinkat(r.dir, name, 0)
	}
	return text, err
}

// list lists the queue and sets the notifier. It drains that before, so that what comes
// after the list makes the descriptor readable again.
func (r *Reader) list() (err error) {
	r.notifier.drain()
	r.unread, err = EventNames(r.dir)
	if r.notifier.renamed {
		err = unix.ENOENT // it was taken away, and will be removed: Next is to end, not to wait
	}
	if failed := r.notifier.set(len(r.unread) > 0 || err != nil); err == nil {
		err = failed
	}
	return err
}

// Close closes the Reader, and removes the queue where Subscribe made it. A Next that
// waits returns os.ErrClosed.
func (r *Reader) Close() error {
	r.notifier.interrupt() // Next holds the mutex while it lists, never while it waits
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dir == sys.None {
		return os.ErrClosed
	}
	close(r.closed)
	r.notifier.close()
	var err error
	if r.removes {
		err = r.remove()
	}
	unix.Close(r.dir)
	r.dir = sys.None
	return err
}

// remove removes the queue. It renames it first: from then on it gets no events, but for
// one that a publisher is about to deliver. So it may take several attempts.
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
		return pathError("rmdir", path, err)
	}
	return nil
}
