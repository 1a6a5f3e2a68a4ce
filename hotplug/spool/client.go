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

// Subscription says which queue Subscribe makes.
type Subscription struct {
	Root   string   // the directory to make it in; "" for DefaultEvents
	Name   string   // what its name begins with; "" for the program's name
	Filter []string // conditions, see the package comment; none for every event
	Sticky bool     // it outlives Close and this process: NewReader may open it again
}

// maxSlots is how many queues of one name a process may have.
const maxSlots = 10_000

// Subscribe makes a queue that gets every event from now on that passes the filter. It
// lives until Close, or until this process ends in any way. A name with a slash or a
// leading dot is EINVAL, a filter of more than MaxFilter bytes E2BIG, a condition that
// is none ErrFilter.
//
// The end of the context ends Next, not the queue.
func Subscribe(ctx Context, s Subscription) (*Reader, error) {
	if s.Root == "" {
		s.Root = DefaultEvents
	}
	if s.Name == "" {
		s.Name = filepath.Base(os.Args[0])
	}
	if s.Name[0] == '.' || strings.Contains(s.Name, "/") {
		return nil, pathError("mkdir", s.Root+"/"+s.Name, unix.EINVAL)
	}
	if err := s.checkFilter(); err != nil {
		return nil, err
	}
	name := s.Name + "-" + strconv.Itoa(os.Getpid())
	for slot := range maxSlots {
		q := name
		if slot > 0 {
			q += "-" + strconv.Itoa(slot)
		}
		r, err := s.makeQueue(ctx, q)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EXDEV) {
			// The root may be new, and the broker have mounted its file system there meanwhile.
			r, err = s.makeQueue(ctx, q)
		}
		// EEXIST: another queue of this process has the name, or a sticky one that is left of a
		// process which had the same number.
		if !errors.Is(err, unix.EEXIST) {
			return r, err
		}
	}
	return nil, pathError("mkdir", s.Root+"/"+name, unix.EEXIST)
}

// checkFilter refuses what publishers would ignore, and what is more than one line of .filter.
func (s Subscription) checkFilter() error {
	size := 0
	for _, condition := range s.Filter {
		f, err := ParseFilter(condition)
		if err != nil || len(f) == 0 || strings.Contains(condition, "\n") {
			return filterError(condition)
		}
		size += len(condition) + 1
	}
	if size > MaxFilter {
		return pathError("write", FilterFile, unix.E2BIG)
	}
	return nil
}

// makeQueue makes the queue name. It is locked and complete before it is renamed to its
// final name: publishers and the broker pass over names that begin with a dot.
func (s Subscription) makeQueue(ctx Context, name string) (*Reader, error) {
	live, hidden := s.Root+"/"+name, s.Root+"/."+name
	if err := unix.Mkdir(hidden, 0o700); err != nil {
		return nil, pathError("mkdir", hidden, err)
	}
	r, err := NewReader(ctx, hidden)
	if err != nil {
		unix.Rmdir(hidden)
		return nil, err
	}
	r.removes = true // also a sticky one, until it is complete
	op, path := "write", hidden
	if err = s.prepare(r.dir); err == nil {
		op = "rename"
		err = unix.Renameat2(unix.AT_FDCWD, hidden, unix.AT_FDCWD, live, unix.RENAME_NOREPLACE)
	}
	if err == nil {
		op, path = "read", live
		r.path = live
		r.notifier.drain() // it reports the dot files and the new name
		r.notifier.renamed = false
		err = r.list()
	}
	if err != nil {
		r.Close()
		return nil, pathError(op, path, err)
	}
	r.removes = !s.Sticky
	return r, nil
}

// prepare locks the queue, which says who owns it, and writes its dot files.
func (s Subscription) prepare(dir int) error {
	err := sys.Flock(dir, unix.LOCK_EX)
	if err == nil && len(s.Filter) > 0 {
		err = writeAt(dir, FilterFile, strings.Join(s.Filter, "\n")+"\n")
	}
	if err == nil && s.Sticky {
		err = writeAt(dir, StickyFile, "")
	}
	if err == nil {
		// A Reader lists the queue. Head and tail would cost the broker system calls for
		// nothing.
		err = writeAt(dir, NoLinksFile, "")
	}
	return err
}

// writeAt writes a new file in a directory.
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

// pathError is the error of a system call, op, on a path.
func pathError(op, path string, err error) error {
	return &os.PathError{Op: op, Path: path, Err: err}
}
