package spool

import (
	"golang.org/x/sys/unix"
)

// ownDirectory opens a directory of ours that nobody else may enter, and makes
// it where it is missing. A stranger's is refused.
func ownDirectory(at int, name string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(at, name, flags, 0)
	if err == unix.ENOENT {
		if err = unix.Mkdirat(at, name, 0o700); err == nil || err == unix.EEXIST {
			fd, err = unix.Openat(at, name, flags, 0)
		}
	}
	if err != nil {
		return none, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && (int(st.Uid) != unix.Geteuid() || st.Mode&0o077 != 0) {
		err = ErrUnusable
	}
	if err != nil {
		unix.Close(fd)
		return none, err
	}
	return fd, nil
}

// ownFile opens a file in a directory of ours, and makes it where it is missing.
func ownFile(at int, name string, flags int) (int, error) {
	flags |= unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(at, name, flags, 0)
	if err == unix.ENOENT {
		fd, err = unix.Openat(at, name, flags|unix.O_CREAT, 0o600)
	}
	return fd, err
}

// openDirectory opens the directory name, one part, in a directory that strangers
// may write to: without following a link, nor into another file system.
func (s *Spool) openDirectory(at int, name string) (int, error) {
	fd, err := s.openBeneath(at, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return none, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || uint64(st.Dev) != s.dev {
		unix.Close(fd)
		return none, unix.EXDEV
	}
	return fd, nil
}

func (s *Spool) openBeneath(at int, name string, flags int) (int, error) {
	flags |= unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	if !s.noOpen2 {
		fd, err := unix.Openat2(at, name, &unix.OpenHow{
			Flags:   uint64(flags),
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
		})
		if err != unix.ENOSYS && err != unix.EPERM { // some sandboxes say EPERM for what they do not know
			return fd, err
		}
		s.noOpen2 = true
	}
	// The name is one part, so it is enough not to follow that.
	return unix.Openat(at, name, flags, 0)
}

// readFile returns what a file of the kernel's holds.
func readFile(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return readAll(fd, 1<<20)
}

// makeParents makes the directories that a path lies in, as far as they are missing.
func makeParents(path string) error {
	for i := 1; i < len(path); i++ {
		if path[i] != '/' {
			continue
		}
		if err := unix.Mkdir(path[:i], 0o755); err != nil && err != unix.EEXIST && !exists(unix.AT_FDCWD, path[:i]) {
			return err
		}
	}
	return nil
}

// list returns the names in a directory, in no order; as many as can be read.
func list(dir int) []string {
	names, _ := tryList(dir)
	return names
}

// tryList is list for who must know that the directory is still there.
func tryList(dir int) (names []string, err error) {
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

// listSome returns the next names in a directory, as many as buf has room for: none
// at its end.
func listSome(dir int, buf []byte) (names []string) {
	for len(names) == 0 {
		n, err := unix.ReadDirent(dir, buf)
		if err != nil && err != unix.EINTR || err == nil && n <= 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:max(0, n)], -1, names)
	}
	return names
}

// entrySize is what one entry adds to the size of a directory on tmpfs; an empty
// one has the size of two.
const entrySize = 20

// tellsEntries reports whether directories on the file system of dir, which is ours,
// say by their size how many entries they have.
func tellsEntries(dir int) bool {
	var st unix.Stat_t
	names := list(dir)
	return len(names) > 0 && unix.Fstat(dir, &st) == nil && st.Size == int64(entrySize*(2+len(names)))
}

// entries returns how many entries a directory has. It takes the same time
// however many there are, where the file system tells.
func (s *Spool) entries(dir int) int {
	if s.dirSizes {
		var st unix.Stat_t
		if unix.Fstat(dir, &st) == nil {
			return int(st.Size)/entrySize - 2
		}
	}
	return len(list(dir))
}
