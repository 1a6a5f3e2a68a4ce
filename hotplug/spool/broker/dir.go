package broker

import (
	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// openDirectory opens the directory name, one part, in a directory that strangers
// may write to: without following a link, nor into another file system.
func (s *Broker) openDirectory(at int, name string) (int, error) {
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

func (s *Broker) openBeneath(at int, name string, flags int) (int, error) {
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

// entrySize is what one entry adds to the size of a directory on tmpfs; an empty
// one has the size of two.
const entrySize = 20

// tellsEntries reports whether directories on the file system of dir, which is ours,
// say by their size how many entries they have.
func tellsEntries(dir int) bool {
	var st unix.Stat_t
	names := sys.List(dir)
	return len(names) > 0 && unix.Fstat(dir, &st) == nil && st.Size == int64(entrySize*(2+len(names)))
}

// entries returns how many entries a directory has. It takes the same time
// however many there are, where the file system tells.
func (s *Broker) entries(dir int) int {
	if s.dirSizes {
		var st unix.Stat_t
		if unix.Fstat(dir, &st) == nil {
			return int(st.Size)/entrySize - 2
		}
	}
	return len(sys.List(dir))
}
