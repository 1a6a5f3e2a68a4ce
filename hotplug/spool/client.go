package spool

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// ErrEmpty is returned where a queue holds no unread event.
var ErrEmpty = errors.New("no unread event")

// Subscription says what kind of queue Subscribe makes.
type Subscription struct {
	Root   string   // the directory it is made in; "" stands for DefaultEvents
	Name   string   // what its name begins with; "" stands for the program's own
	Filter []string // conditions, as in the package's doc comment; none for every event
	Sticky bool     // it outlives Close and this process: NewReader may take it up again
}

// slots is how many queues of one name a process may have.
const slots = 10_000

// Subscribe makes a queue that gets every event from now on that passes the
// filter. It lives until Close, or until this process ends in whatever way.
//
// The context ends Next, not the queue.
func Subscribe(ctx Context, s Subscription) (*Reader, error) {
	if s.Root == "" {
		s.Root = DefaultEvents
	}
	if s.Name == "" {
		s.Name = filepath.Base(os.Args[0])
	}
	if s.Name[0] == '.' || strings.Contains(s.Name, "/") {
		return nil, Failed("subscribe as", s.Name, unix.EINVAL)
	}
	if err := s.checkFilter(); err != nil {
		return nil, err
	}
	name := s.Name + "-" + strconv.Itoa(os.Getpid())
	for slot := range slots {
		q := name
		if slot > 0 {
			q += "-" + strconv.Itoa(slot)
		}
		r, err := s.make(ctx, q)
		if !errors.Is(err, unix.EEXIST) {
			return r, err
		}
	}
	return nil, Failed("mkdir", s.Root+"/"+name, unix.EEXIST)
}

// checkFilter refuses what publishers would pass over.
func (s Subscription) checkFilter() error {
	size := 0
	for _, condition := range s.Filter {
		f, err := ParseFilter(condition)
		if err != nil || len(f) == 0 || strings.Contains(condition, "\n") {
			return Failed("subscribe to", condition, ErrFilter)
		}
		size += len(condition) + 1
	}
	if size > MaxFilter {
		return Failed("subscribe to", strings.Join(s.Filter, " "), unix.E2BIG)
	}
	return nil
}

// make makes the queue name. It is locked and complete before it is live.
func (s Subscription) make(ctx Context, name string) (*Reader, error) {
	live, hidden := s.Root+"/"+name, s.Root+"/."+name
	if err := unix.Mkdir(hidden, 0o700); err != nil {
		return nil, Failed("mkdir", hidden, err)
	}
	r, err := NewReader(ctx, hidden)
	if err != nil {
		unix.Rmdir(hidden)
		return nil, err
	}
	r.own = true
	if err = s.mark(r.dir); err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, hidden, unix.AT_FDCWD, live, unix.RENAME_NOREPLACE)
	}
	if err == nil {
		r.path = live
		r.bell.hush() // it tells of the dot files and of the new name
		r.bell.moved = false
		err = r.look()
	}
	if err != nil {
		r.Close()
		return nil, Failed("make", live, err)
	}
	r.own = !s.Sticky
	return r, nil
}

// mark locks the queue, which says whose it is, and writes its dot files.
func (s Subscription) mark(dir int) error {
	err := sys.RetryEINTR(func() error { return unix.Flock(dir, unix.LOCK_EX) })
	if err == nil && len(s.Filter) > 0 {
		err = writeAt(dir, FilterFile, strings.Join(s.Filter, "\n")+"\n")
	}
	if err == nil && s.Sticky {
		err = writeAt(dir, StickyFile, "")
	}
	if err == nil {
		err = writeAt(dir, NoLinksFile, "")
	}
	return err
}

func writeAt(dir int, name, text string) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	n, err := unix.Write(fd, []byte(text))
	if err == nil && n < len(text) {
		err = unix.ENOSPC
	}
	return err
}

func Failed(op, path string, err error) error {
	return &os.PathError{Op: op, Path: path, Err: err}
}
