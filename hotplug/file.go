package hotplug

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

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
	fd, err := openRegular(path)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var text []byte
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil {
			return "", &os.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			return string(text), nil
		}
		if len(text)+n > MaxFile {
			return "", &os.PathError{Op: "read", Path: path, Err: errTooLong}
		}
		text = append(text, buf[:n]...)
	}
}

// openRegular opens a regular file for reading, and nothing else: to open a FIFO
// would wait for its other end, and to open a device can set it going, as a watchdog
// or a tape is. So the look comes first; where another thing takes the place after
// it, the open at least does not wait.
func openRegular(path string) (fd int, err error) {
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

// readAttribute reads a small file: at most a page, as sysfs attributes are, in one read.
// It never waits, whatever is there.
func readAttribute(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var buf [4096]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

func readLink(path string) (string, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlink(path, buf[:])
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// realpath returns where an absolute path leads, with no link left in it. (The
// function of path/filepath would cost the program 80 kB.)
func realpath(path string) (string, error) {
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
		text, err := readLink(done)
		switch {
		case err == unix.EINVAL: // no link
			continue
		case err != nil:
			return "", &os.PathError{Op: "readlink", Path: done, Err: err}
		case links == maxLinks:
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

// readDir returns the names in a directory; none where it is not there.
func readDir(path string) (names []string) {
	eachDirent(path, func(part []byte) { _, _, names = unix.ParseDirent(part, -1, names) })
	return names
}

// subdirs returns the names of the directories in a directory of sysfs.
func subdirs(path string) (names []string) {
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
	defer unix.Close(fd)
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if n <= 0 || err != nil {
			return
		}
		f(buf[:n])
	}
}

// polled gives a descriptor to the runtime's poller: so a goroutine can wait for it,
// and no thread has to. The file closes it; where there is an error it is closed.
func polled(fd int, name string) (*os.File, syscall.RawConn, error) {
	unix.SetNonblock(fd, true) // or the runtime would not poll it
	file := os.NewFile(uintptr(fd), name)
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, conn, nil
}
