package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// listBuffer is how many bytes of entries are read from a directory at once.
const listBuffer = 16 << 10

// ReadDir returns the names in the directory at path, in no order, without . and .., as many as
// can be read: none where there is no directory.
func ReadDir(path string) []string {
	fd := openDirectory(path)
	names := List(fd)
	CloseAll(&fd)
	return names
}

// Subdirs returns the names of the directories in the directory at path, on a file system that
// tells the type of each entry, as sysfs does.
func Subdirs(path string) (names []string) {
	fd := openDirectory(path)
	buf := make([]byte, listBuffer)
	for n, _ := unix.ReadDirent(fd, buf); n > 0; n, _ = unix.ReadDirent(fd, buf) {
		for part := buf[:n]; len(part) > 0; {
			d := (*unix.Dirent)(unsafe.Pointer(&part[0]))
			if d.Type == unix.DT_DIR {
				_, _, names = unix.ParseDirent(part[:d.Reclen], -1, names)
			}
			part = part[d.Reclen:]
		}
	}
	CloseAll(&fd)
	return names
}

// openDirectory returns None where there is no directory. A read of None fails with EBADF, so callers
// need not ask: they find no names.
func openDirectory(path string) int {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return None
	}
	return fd
}

// List returns the names in an open directory as ReadDir does.
func List(dir int) []string {
	names, _ := TryList(dir)
	return names
}

// TryList is List with the error that ended it: ENOENT where the directory was removed.
func TryList(dir int) (names []string, err error) {
	if _, err := unix.Seek(dir, 0, 0); err != nil {
		return nil, err
	}
	buf := make([]byte, listBuffer)
	for {
		n, err := unix.ReadDirent(dir, buf)
		if n <= 0 {
			return names, err
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// ListSome returns the next names in an open directory, as many as buf has room for: none at its
// end. It skips . and .., which may be all that one read returns.
func ListSome(dir int, buf []byte) (names []string) {
	for len(names) == 0 {
		n, _ := unix.ReadDirent(dir, buf)
		if n <= 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
	return names
}
