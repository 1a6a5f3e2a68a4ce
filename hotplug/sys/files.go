package sys

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFile is how many bytes a file may have that ReadFile reads: a hundred times what the
// largest configs have.
const maxFile = 1 << 20

// The errors of ReadFile for files that it does not read.
var (
	errNotRegular = errors.New("not a regular file; put one there")
	errTooLong    = errors.New("longer than 1 MiB (1048576 bytes); make it shorter")
)

// PathError returns an *os.PathError. (Each that is made where it is needed costs the program 80 bytes.)
func PathError(op, path string, err error) error {
	return &os.PathError{Op: op, Path: path, Err: err}
}

// ReadFile returns the content of a file, such as a config or a file in /proc. It makes fewer
// system calls than os.ReadFile, which prepares every file for polling. The error, an
// os.PathError, says so where the file is not regular, or longer than 1 MiB.
func ReadFile(path string) (string, error) {
	fd, err := OpenRegular(path)
	if err != nil {
		return "", PathError("open", path, err)
	}
	text, err := ReadAll(fd, maxFile+1)
	unix.Close(fd)
	if err == nil && len(text) > maxFile {
		err = errTooLong
	}
	if err != nil {
		return "", PathError("read", path, err)
	}
	return text, nil
}

// OpenRegular opens a regular file, or /dev/null, for reading, and nothing else: to open a FIFO
// would wait for its other end, and to open a device can start it, as with a watchdog or a
// tape. So it checks the type first; where another file takes the path after the check, the
// open at least does not wait.
func OpenRegular(path string) (fd int, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return None, err
	}
	isNull := st.Mode&unix.S_IFMT == unix.S_IFCHR && uint64(st.Rdev) == unix.Mkdev(1, 3) // in place of an empty file
	if st.Mode&unix.S_IFMT != unix.S_IFREG && !isNull {
		return None, errNotRegular
	}
	return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
}

// ReadAll returns what can be read from a descriptor until its end, up to limit bytes.
func ReadAll(fd, limit int) (string, error) {
	buf := make([]byte, 0, 4096)
	for len(buf) < limit {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := ReadBlocking(fd, buf[len(buf):min(cap(buf), limit)])
		if err != nil {
			return "", err
		}
		if n == 0 {
			break
		}
		buf = buf[:len(buf)+n]
	}
	return string(buf), nil
}

// ReadAttribute returns the content of a small file, up to a page (4096 bytes), by one read: that
// is all of a sysfs attribute, and of most files in /proc. It never waits, whatever the file is.
func ReadAttribute(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	var buf [4096]byte
	n, err := unix.Read(fd, buf[:])
	unix.Close(fd)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// MaxLinks is how many links a path may lead through, as in the kernel (path_resolution(7)).
const MaxLinks = 40

// ReadLink returns the text of the symbolic link at path. The error is EINVAL where the file is
// no link.
func ReadLink(path string) (string, error) { return ReadLinkAt(unix.AT_FDCWD, path) }

// ReadLinkAt returns the text of the symbolic link name in the directory at.
func ReadLinkAt(at int, name string) (string, error) {
	var buf [unix.PathMax]byte // the longest text that Linux takes
	n, err := unix.Readlinkat(at, name, buf[:])
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// Realpath returns where an absolute path leads, with no link left in it. The error is an
// os.PathError. (The function of path/filepath would cost the program 80 kB.)
func Realpath(path string) (string, error) {
	done := ""
	for links := 0; path != ""; {
		part, rest, _ := strings.Cut(path, "/")
		path = rest
		switch part {
		case "", ".":
			continue
		case "..":
			done = done[:max(0, strings.LastIndexByte(done, '/'))]
			continue
		}
		done += "/" + part
		text, err := ReadLink(done)
		if err == unix.EINVAL { // no link
			continue
		}
		if err == nil && links == MaxLinks {
			err = unix.ELOOP
		}
		if err != nil {
			return "", PathError("readlink", done, err)
		}
		links++
		done = done[:strings.LastIndexByte(done, '/')]
		if strings.HasPrefix(text, "/") {
			done = ""
		}
		path = text + "/" + path
	}
	return done, nil
}

// MakeParents makes the directories that a path lies in, where they are missing.
func MakeParents(path string) error {
	for i := 1; i < len(path); i++ {
		if path[i] != '/' {
			continue
		}
		if err := unix.Mkdir(path[:i], 0o755); err != nil && err != unix.EEXIST && !Exists(unix.AT_FDCWD, path[:i]) {
			return err
		}
	}
	return nil
}

// Exists reports whether the directory dir has a file called name, a dangling link included.
func Exists(dir int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}
