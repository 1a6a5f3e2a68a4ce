package broker

import (
	"golang.org/x/sys/unix"

	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
)

// acquire takes the lock that publishers share. Where it is free that costs one system
// call, of which the Go scheduler is not told.
func (s *space) acquire() error { return sys.Flock(s.lock, unix.LOCK_EX) }

// release gives the lock to the next publisher.
func (s *space) release() { _ = sys.Flock(s.lock, unix.LOCK_UN) }

// openDirectory opens the directory name, one part of a path, in a directory that any
// user may write to. It follows no link and enters no other file system.
func (s *space) openDirectory(at int, name string) (int, error) {
	fd, err := s.openBeneath(at, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return sys.None, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || uint64(st.Dev) != s.dev {
		unix.Close(fd)
		return sys.None, unix.EXDEV
	}
	return fd, nil
}

// openBeneath opens the file name, one part of a path, following no link.
func (s *space) openBeneath(at int, name string, flags int) (int, error) {
	// O_NONBLOCK: a FIFO in the place of a filter would make the open wait for a writer.
	flags |= unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	if !s.noOpenat2 {
		fd, err := unix.Openat2(at, name, &unix.OpenHow{
			Flags:   uint64(flags),
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
		})
		if err != unix.ENOSYS && err != unix.EPERM { // some sandboxes return EPERM for unknown calls
			return fd, err
		}
		s.noOpenat2 = true
	}
	return unix.Openat(at, name, flags, 0) // the name is one part, so O_NOFOLLOW is enough
}

// entrySize is what one entry adds to the size of a directory on tmpfs (BOGO_DIRENT_SIZE in the
// kernel's mm/shmem.c). An empty directory has the size of two.
const entrySize = 20

// sizesCountEntries reports whether the size of a directory tells how many entries it
// has, as on tmpfs. dir is one of ours that is not empty.
func sizesCountEntries(dir int) bool {
	var st unix.Stat_t
	names := sys.List(dir)
	return len(names) > 0 && unix.Fstat(dir, &st) == nil && st.Size == int64(entrySize*(2+len(names)))
}

// entries returns how many entries a directory has, in the same time for any number
// where its size tells.
func (s *space) entries(dir int) int {
	if s.dirSizes {
		var st unix.Stat_t
		if unix.Fstat(dir, &st) == nil {
			return int(st.Size)/entrySize - 2
		}
	}
	return len(sys.List(dir))
}

// limits returns how many files and blocks the file system can have; 0 for no limit.
func (s *space) limits() (limits [2]int) {
	var fs unix.Statfs_t
	if unix.Fstatfs(s.dir, &fs) == nil {
		limits = [2]int{int(fs.Files), int(fs.Blocks)}
	}
	return limits
}

// trash removes directories of clients: from sight at once, and what they hold in time.
type trash struct {
	dir     int
	pending bool // there may be something in dir; true at first, for what a killed publisher left
	space   *space
	notice  func(text string)
}

// add moves the directory name out of a directory. In the trash its name is the time, since
// directories of several users may have the same name.
func (t *trash) add(dir int, name string) {
	if err := unix.Renameat(dir, name, t.dir, spool.EventName(uint64(now()))); err != nil {
		if err != unix.ENOENT {
			t.notice("cannot remove a directory: " + err.Error())
		}
		return
	}
	t.pending = true
}

// trashPerRound is how many files are removed in one round, while publishers wait.
const trashPerRound = 512

// empty removes a part of what is in the trash.
func (t *trash) empty() {
	for left := trashPerRound; t.pending && left > 0; {
		unix.Seek(t.dir, 0, 0)
		names := sys.ListSome(t.dir, t.space.buffer[:])
		t.pending = len(names) > 0 // look again: directories in these come beside them
		for _, name := range names {
			if left = t.emptyDirectory(name, left); left <= 0 {
				return
			}
			unix.Unlinkat(t.dir, name, unix.AT_REMOVEDIR)
		}
	}
}

// emptyDirectory removes the files of a directory in the trash, at most left, and
// returns how many more may be removed. It moves the directories in it beside it, so
// that their depth does not matter.
func (t *trash) emptyDirectory(name string, left int) int {
	fd, err := t.space.openDirectory(t.dir, name)
	if err != nil {
		unix.Unlinkat(t.dir, name, 0)
		return left - 1
	}
	// The user may still have it open, and must not make more files in it.
	if err = unix.Fchown(fd, 0, 0); err == nil {
		err = unix.Fchmod(fd, 0o700)
	}
	if err != nil {
		t.notice("cannot close a removed directory to its user: " + err.Error())
	}
	for left > 0 {
		names := sys.ListSome(fd, t.space.buffer[:])
		if len(names) == 0 {
			break
		}
		for _, entry := range names {
			if unix.Unlinkat(fd, entry, 0) == unix.EISDIR {
				t.add(fd, entry)
			}
		}
		left -= len(names)
	}
	// The directory itself counts as one, or a flood of empty ones would be removed in one round.
	unix.Close(fd)
	return left - 1
}
