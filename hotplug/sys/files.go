package sys

import (
	"errors"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ReadKernelFile returns what a file of the kernel's holds.
func ReadKernelFile(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	text, err := ReadAll(fd, 1<<20)
	unix.Close(fd)
	return text, err
}

// MaxFile is how many bytes a file may have that ReadFile reads: a hundred times
// what the largest configs have.
const MaxFile = 1 << 20

// The errors of ReadFile for what it does not read.
var (
	errNoFile  = errors.New("not a regular file; put one there")
	errTooLong = errors.New("longer than 1 MiB (1048576 bytes); make it shorter")
)

// ReadFile reads a whole file, such as a config. It takes fewer system calls than
// os.ReadFile, which makes every file ready for polling. What is no regular file,
// or longer than MaxFile, is refused.
func ReadFile(path string) (string, error) {
	fd, err := OpenRegular(path)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: path, Err: err}
	}
	text, err := ReadAll(fd, MaxFile+1)
	unix.Close(fd)
	if err == nil && len(text) > MaxFile {
		err = errTooLong
	}
	if err != nil {
		return "", &os.PathError{Op: "read", Path: path, Err: err}
	}
	return text, nil
}

// OpenRegular opens a regular file for reading, and nothing else: to open a FIFO
// would wait for its other end, and to open a device can set it going, as a watchdog
// or a tape is. So the look comes first; where another thing takes the place after
// it, the open at least does not wait.
func OpenRegular(path string) (fd int, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return -1, err
	}
	isNull := st.Mode&unix.S_IFMT == unix.S_IFCHR && uint64(st.Rdev) == unix.Mkdev(1, 3) // /dev/null stands for an empty file
	if st.Mode&unix.S_IFMT != unix.S_IFREG && !isNull {
		return -1, errNoFile
	}
	return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
}

// ReadAttribute reads a small file: at most a page, as sysfs attributes are, in one read.
// It never waits, whatever is there.
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

func ReadLink(path string) (string, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlink(path, buf[:])
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// Realpath returns where an absolute path leads, with no link left in it. (The
// function of path/filepath would cost the program 80 kB.)
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
		switch {
		case err == unix.EINVAL: // no link
			continue
		case err != nil:
			return "", &os.PathError{Op: "readlink", Path: done, Err: err}
		case links == MaxLinks:
			return "", &os.PathError{Op: "readlink", Path: done, Err: unix.ELOOP}
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

// ReadDir returns the names in a directory; none where it is not there.
func ReadDir(path string) (names []string) {
	eachDirent(path, func(part []byte) { _, _, names = unix.ParseDirent(part, -1, names) })
	return names
}

// Subdirs returns the names of the directories in a directory of sysfs.
func Subdirs(path string) (names []string) {
	eachDirent(path, func(part []byte) {
		for len(part) > 0 {
			d := (*unix.Dirent)(unsafe.Pointer(&part[0]))
			entry := part[:d.Reclen]
			part = part[d.Reclen:]
			if d.Type == unix.DT_DIR {
				_, _, names = unix.ParseDirent(entry, -1, names) // which leaves out . and ..
			}
		}
	})
	return names
}

// eachDirent calls f for each part of a directory, as getdents(2) gives them.
func eachDirent(path string, f func(part []byte)) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if n <= 0 || err != nil {
			break
		}
		f(buf[:n])
	}
	unix.Close(fd)
}

// MakeParents makes the directories that a path lies in, as far as they are missing.
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

// List returns the names in a directory, in no order; as many as can be read.
func List(dir int) []string {
	names, _ := TryList(dir)
	return names
}

// TryList is list for who must know that the directory is still there.
func TryList(dir int) (names []string, err error) {
	buf := make([]byte, 16<<10)
	unix.Seek(dir, 0, 0)
	for {
		n, err := unix.ReadDirent(dir, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return names, err
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// ListSome returns the next names in a directory, as many as buf has room for: none
// at its end.
func ListSome(dir int, buf []byte) (names []string) {
	for len(names) == 0 {
		n, err := unix.ReadDirent(dir, buf)
		if err != nil && err != unix.EINTR || err == nil && n <= 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:max(0, n)], -1, names)
	}
	return names
}

func Exists(dir int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// ReadAll returns what a file holds, up to limit bytes.
func ReadAll(fd, limit int) (string, error) {
	buf := make([]byte, 0, 4096)
	for len(buf) < limit {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := unix.Read(fd, buf[len(buf):min(cap(buf), limit)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", err
		}
		if n <= 0 {
			break
		}
		buf = buf[:len(buf)+n]
	}
	return string(buf), nil
}

// MaxLinks is how many links a path may lead through, as in the kernel.
const MaxLinks = 40

// ReadLinkAt returns the text of a symbolic link, as long as Linux lets it be.
func ReadLinkAt(at int, name string) (string, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(at, name, buf[:])
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
