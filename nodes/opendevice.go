package nodes

import (
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// opened counts the nodes of OpenDevice.
var opened atomic.Uint32

// maxOpened is how many names there are for the nodes of one disk: what a process leaves that
// is killed a later one takes for its own.
const maxOpened = 64

// OpenDevice opens a device by a node of our own, which is in the private directory for no
// longer than that takes. Disks are opened beside all else, so this shares no descriptor with
// a Dir, which closes its own when another file system is mounted over dev. The error is the
// errno of the call that failed.
func OpenDevice(dev string, d uevent.Dev) (fd int, err error) {
	top, err := unix.Open(dev, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return sys.None, err
	}
	defer unix.Close(top)
	private, err := sys.OwnDirectory(top, Private)
	if err != nil {
		return sys.None, err
	}
	defer unix.Close(private)
	// Another process may use the same name, for the same disk, and be done before us.
	for range 3 {
		name := "probe-" + d.String() + "-" + strconv.Itoa(int(opened.Add(1)%maxOpened))
		if err = sys.Mknodat(private, name, fileType(d)|0o600, unix.Mkdev(d.Major, d.Minor)); err != nil && err != unix.EEXIST {
			break
		}
		// The name goes at once, also where the open fails: the descriptor is all that is
		// wanted.
		fd, err = unix.Openat(private, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NOCTTY, 0)
		sys.Unlinkat(private, name)
		if err != unix.ENOENT {
			return fd, err
		}
	}
	return sys.None, err
}
