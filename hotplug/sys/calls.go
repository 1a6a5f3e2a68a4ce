package sys

import (
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawName holds a file name for a system call: one part of a path, and its NUL.
type rawName [unix.NAME_MAX + 1]byte

// set stores name, and reports whether it fits.
func (r *rawName) set(name string) bool { return copy(r[:unix.NAME_MAX], name) == len(name) }

// Mknodat makes the node, FIFO or regular file name in the directory at. mode holds its
// type, as in mknod(2); dev is as unix.Mkdev makes it.
func Mknodat(at int, name string, mode uint32, dev uint64) error {
	var raw rawName
	if !raw.set(name) {
		return unix.ENAMETOOLONG
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_MKNODAT, uintptr(at), uintptr(unsafe.Pointer(&raw)), uintptr(mode), uintptr(dev), 0, 0)
	return Failure(errno)
}

// Unlinkat removes the file name, which is not a directory, from the directory at.
func Unlinkat(at int, name string) error {
	var raw rawName
	if !raw.set(name) {
		return unix.ENAMETOOLONG
	}
	_, _, errno := unix.RawSyscall(unix.SYS_UNLINKAT, uintptr(at), uintptr(unsafe.Pointer(&raw)), 0)
	return Failure(errno)
}

// Release returns the release of the running kernel, such as "6.1.0-18-amd64", or "".
func Release() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// OpenUnnamed opens a new file without a name in a directory, for writing. The error is
// EOPNOTSUPP on a file system without such files, and EISDIR on a kernel before 3.11.
func OpenUnnamed(dir int, mode uint32) (int, error) {
	dot := [2]byte{'.'} // with its NUL
	fd, _, errno := unix.RawSyscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(&dot)),
		unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC|unix.O_LARGEFILE, uintptr(mode), 0, 0)
	if errno != 0 {
		return None, errno
	}
	return int(fd), nil
}

// LinkFD gives an open file a name in a directory. It needs CAP_DAC_READ_SEARCH, or a
// kernel (6.10) that lets the opener link its own file; without either the error is ENOENT.
func LinkFD(fd, dir int, name string) error {
	var raw rawName
	if !raw.set(name) {
		return unix.ENAMETOOLONG
	}
	var empty byte
	_, _, errno := unix.RawSyscall6(unix.SYS_LINKAT, uintptr(fd), uintptr(unsafe.Pointer(&empty)),
		uintptr(dir), uintptr(unsafe.Pointer(&raw)), unix.AT_EMPTY_PATH, 0)
	return Failure(errno)
}

// Fstat fills st with what the kernel says of an open file.
func Fstat(fd int, st *unix.Statx_t) error { return Stat(fd, "", unix.AT_EMPTY_PATH, st) }

// Stat fills st with what the kernel says of the file name in the directory at. flags are
// those of statx(2), such as unix.AT_SYMLINK_NOFOLLOW.
func Stat(at int, name string, flags int, st *unix.Statx_t) error {
	var raw rawName
	if !raw.set(name) {
		return unix.ENAMETOOLONG
	}
	return statx(at, &raw[0], flags, st)
}

// NoStatx is set where the kernel has no statx(2): before Linux 4.11, and in sandboxes that
// answer EPERM to system calls which they do not know. Tests set it to force the fallback.
var NoStatx atomic.Bool

// statx calls statx(2), or fstatat(2) where that is missing. name points to the first byte of a name that
// ends in NUL. Without statx there is no mount number: STATX_MNT_ID is not in st.Mask then.
func statx(at int, name *byte, flags int, st *unix.Statx_t) error {
	if !NoStatx.Load() {
		_, _, errno := unix.RawSyscall6(unix.SYS_STATX, uintptr(at), uintptr(unsafe.Pointer(name)), uintptr(flags),
			unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, uintptr(unsafe.Pointer(st)), 0)
		if st.Mnt_id == 0 {
			st.Mask &^= unix.STATX_MNT_ID // QEMU's user mode passes the mask on, and not the number
		}
		if errno != unix.ENOSYS && errno != unix.EPERM {
			return Failure(errno)
		}
		NoStatx.Store(true)
	}
	var old unix.Stat_t
	err := unix.Fstatat(at, unix.BytePtrToString(name), &old, flags)
	*st = unix.Statx_t{
		Mode: uint16(old.Mode), Uid: old.Uid, Gid: old.Gid, Nlink: uint32(old.Nlink), Size: uint64(old.Size), Ino: old.Ino,
		Mtime:      unix.StatxTimestamp{Sec: int64(old.Mtim.Sec), Nsec: uint32(old.Mtim.Nsec)},
		Rdev_major: unix.Major(uint64(old.Rdev)), Rdev_minor: unix.Minor(uint64(old.Rdev)),
		Dev_major: unix.Major(uint64(old.Dev)), Dev_minor: unix.Minor(uint64(old.Dev)),
	}
	return err
}

// FileID identifies a file by its file system's number and its inode. It is comparable: a
// directory that another file system is mounted over gets another FileID.
type FileID struct {
	Major, Minor uint32 // of the file system
	ino          uint64 // within the file system; free for another file once this one is gone
}

// OnSameFileSystem reports whether both files are on one file system.
func (id FileID) OnSameFileSystem(other FileID) bool {
	return id.Major == other.Major && id.Minor == other.Minor
}

// FileIDOf returns the FileID of the file at path, or the zero FileID where there is none.
func FileIDOf(path string) FileID {
	var st unix.Statx_t
	if statx(unix.AT_FDCWD, &append([]byte(path), 0)[0], 0, &st) != nil {
		return FileID{}
	}
	return FileIDOfStat(&st)
}

// FileIDOfStat returns the FileID of the file that st is about.
func FileIDOfStat(st *unix.Statx_t) FileID { return FileID{st.Dev_major, st.Dev_minor, st.Ino} }

// EnterRoot makes a directory the root of this process, and its working directory. Chroot(2)
// takes a path, so the working directory stands for the descriptor.
func EnterRoot(dir int) error {
	if err := unix.Fchdir(dir); err != nil {
		return err
	}
	return unix.Chroot(".")
}

// IsInMemory reports whether the open directory lies in a file system such as an initramfs is.
func IsInMemory(dir int) bool {
	const ramfs = 0x858458f6 // RAMFS_MAGIC of statfs(2), which package unix lacks
	var fs unix.Statfs_t
	return unix.Fstatfs(dir, &fs) == nil && (uint32(fs.Type) == ramfs || uint32(fs.Type) == unix.TMPFS_MAGIC)
}

// Flock takes or releases a lock, as flock(2) does with the operation how. Without
// unix.LOCK_NB it waits; with it the error is EWOULDBLOCK where another process holds the lock.
func Flock(fd int, how int) error {
	// Nearly always the lock is free, so the first attempt need not involve Go's scheduler.
	_, _, errno := unix.RawSyscall(unix.SYS_FLOCK, uintptr(fd), uintptr(how|unix.LOCK_NB), 0)
	if errno == unix.EWOULDBLOCK && how&unix.LOCK_NB == 0 {
		return RetryEINTR(func() error { return unix.Flock(fd, how) })
	}
	return Failure(errno)
}

// OpenBeneath opens the directory at path below another one for unix.O_PATH. It follows no
// link, and enters no other file system. The error is ENOSYS before Linux 5.6.
func OpenBeneath(at int, path string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	name := append([]byte(path), 0)
	fd, _, errno := unix.RawSyscall6(unix.SYS_OPENAT2, uintptr(at), uintptr(unsafe.Pointer(&name[0])),
		uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
	return int(fd), Failure(errno)
}

// Close closes a descriptor of a file in memory, whose closing never waits.
func Close(fd int) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// Write writes text to a file in memory, by one call of write(2), and returns how many bytes
// it wrote.
func Write(fd int, text []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(text))), uintptr(len(text)))
	return int(n), Failure(errno)
}

// Failure returns the error number of a raw system call as an error: nil for 0.
func Failure(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

// Openat opens the file name in the directory at. It is for files in memory (tmpfs,
// sysfs), whose opening never waits.
func Openat(at int, name string, flags int, mode uint32) (int, error) {
	var raw rawName
	if !raw.set(name) {
		return None, unix.ENAMETOOLONG
	}
	fd, _, errno := unix.RawSyscall6(unix.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(&raw)), uintptr(flags|unix.O_CLOEXEC), uintptr(mode), 0, 0)
	if errno != 0 {
		return None, errno
	}
	return int(fd), nil
}

// Fchmod sets the permission bits of an open file. Unlike unix.Fchmod it does not tell the
// scheduler of the runtime about the call.
func Fchmod(fd int, mode uint32) error {
	_, _, errno := unix.RawSyscall(unix.SYS_FCHMOD, uintptr(fd), uintptr(mode), 0)
	return Failure(errno)
}

// Read reads from a file in memory, as Openat opens them.
func Read(fd int, to []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(to))), uintptr(len(to)))
	return int(n), Failure(errno)
}
