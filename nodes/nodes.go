// Package nodes holds the Plan, and the only code that changes /dev.
//
// A Plan is plain data. Dir carries one out: it makes and removes device nodes
// and links, follows no link while it does so, never leaves /dev, and keeps a
// journal of what it made, so that it can take away just that. Carrying out a
// Plan twice changes nothing the second time.
//
// The package never decides what a device deserves, and never looks at /sys. Where
// rules give one path to several devices, claims.go says which one has it.
package nodes

import (
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

// Error tells which operation on which path below /dev failed.
type Error struct {
	Op   string // what was tried, in the words of the system call
	Path string // below /dev
	Err  error
}

// Error returns what failed, at which path and why, and where that is known what to do about it.
func (e *Error) Error() string {
	return e.Op + " " + uevent.Printable(e.Path) + ": " + e.Err.Error() + remedy(e.Err)
}

// Unwrap returns the errno.
func (e *Error) Unwrap() error { return e.Err }

// remedy says what to do about the errors that a board meets in practice.
func remedy(err error) string {
	switch failure(err) {
	case unix.EROFS:
		return " (mount a tmpfs or devtmpfs on /dev)"
	case unix.EPERM, unix.EACCES:
		return " (device nodes are made by root, on a file system mounted without nodev)"
	case unix.ELOOP, unix.ENOTDIR:
		return " (a link or file stands where a directory should be; remove it)"
	case unix.EEXIST:
		return " (something that is not ours stands there; remove it)"
	case unix.EISDIR:
		return " (a directory stands there; remove it)"
	}
	return ""
}

// faults gathers the errors of one Plan.
type faults []error

// add adds an error, if there is one.
func (f *faults) add(err error) {
	if err != nil {
		*f = append(*f, err)
	}
}

// join returns the errors as one, or nil for none. (errors.Join would do, in more bytes.)
func (f faults) join() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

// Error returns the errors, a line each.
func (f faults) Error() (text string) {
	for i, err := range f {
		if i > 0 {
			text += "\n"
		}
		text += err.Error()
	}
	return text
}

// Unwrap returns the errors one by one, for errors.Is and for logs with a line for each.
func (f faults) Unwrap() []error { return f }

// inTheWay reports whether something of another kind stood in a place.
func (f faults) inTheWay() bool {
	for _, err := range f {
		if isInTheWay(err) {
			return true
		}
	}
	return false
}

// isInTheWay reports whether an error says that something of another kind stands where a thing
// is to be made.
func isInTheWay(err error) bool {
	switch failure(err) {
	case unix.ENOTDIR, unix.EISDIR, unix.EEXIST, unix.ENOTEMPTY, unix.ELOOP:
		return true
	}
	return false
}

// failure returns the error of the system call that failed, or 0.
func failure(err error) syscall.Errno {
	if e, is := err.(*Error); is {
		err = e.Err
	}
	errno, _ := err.(syscall.Errno)
	return errno
}

// wrap returns nil for nil, so that call sites stay one line.
func wrap(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Path: path, Err: err}
}

// CleanPath reports whether p may be made below /dev.
func CleanPath(p string) bool { return Refusal(p) == "" }

// Refusal says why p may not be made below /dev, or returns "".
func Refusal(p string) string {
	if why := BadPath(p); why != "" {
		return why
	}
	if top, _, _ := strings.Cut(p, "/"); top == Private {
		return "belongs to devspool itself"
	}
	return ""
}

// BadPath says why p may lead out of a directory that it is to be found in, or
// cannot be a path at all, or returns "".
func BadPath(p string) string {
	switch {
	case p == "":
		return "is empty"
	case p[0] == '/':
		return "begins with a slash"
	case len(p) >= unix.PathMax, strings.IndexByte(p, 0) >= 0:
		return "cannot be a path"
	}
	for more := true; more; {
		var part string
		part, p, more = strings.Cut(p, "/")
		switch {
		case part == "":
			return "has an empty part"
		case part == ".", part == "..":
			return "has a part " + strconv.Quote(part)
		case len(part) > unix.NAME_MAX:
			return "has a part that is too long"
		}
	}
	return ""
}

// Name returns the node's path below /dev that the kernel means: DEVNAME, or
// where there is none the sysname, with '!' for '/'.
func Name(e *uevent.Event) string {
	name := e.Devname
	if name == "" {
		name = e.Sysname()
	}
	return Slashes(name)
}

// Slashes returns the path that a name in sysfs stands for, in which the kernel writes
// '!' for a slash. (strings.ReplaceAll would cost the program 4 kB.)
func Slashes(name string) string {
	if strings.IndexByte(name, '!') < 0 {
		return name
	}
	path := []byte(name)
	for i, c := range path {
		if c == '!' {
			path[i] = '/'
		}
	}
	return string(path)
}
