package sys

import "golang.org/x/sys/unix"

// OwnFile opens the file name in a directory of OwnDirectory, and makes it, with mode 0600, where
// it is missing. It follows no link.
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

// OwnDirectory opens the directory name in the directory at, and makes it, with mode 0700, where
// it is missing. The error is EACCES where the directory belongs to another user, or others may
// enter it: its files could not be trusted.
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
