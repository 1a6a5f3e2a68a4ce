package sys

import "golang.org/x/sys/unix"

// OwnFile opens a file in the private directory, and makes it where it is missing.
func OwnFile(at int, name string, flags int) (int, error) {
	flags |= unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(at, name, flags, 0)
	if err == unix.ENOENT {
		fd, err = unix.Openat(at, name, flags|unix.O_CREAT, 0o600)
	}
	if err != nil {
		return None, err
	}
	return fd, nil
}

// OwnDirectory opens a directory of ours that nobody else may enter, and makes
// it where it is missing. A stranger's is refused: what it says would be obeyed.
func OwnDirectory(at int, name string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(at, name, flags, 0)
	if err == unix.ENOENT {
		if err = unix.Mkdirat(at, name, 0o700); err != nil && err != unix.EEXIST {
			return None, err
		}
		fd, err = unix.Openat(at, name, flags, 0)
	}
	if err != nil {
		return None, err
	}
	var st unix.Statx_t
	if err = Fstat(fd, &st); err == nil && (int(st.Uid) != unix.Geteuid() || st.Mode&0o077 != 0) {
		err = unix.EACCES
	}
	if err != nil {
		unix.Close(fd)
		return None, err
	}
	return fd, nil
}
