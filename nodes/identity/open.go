package identity

import (
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
)

// OpenNodes returns a Prober.Open that opens the nodes which the kernel or an earlier
// event made below a directory. A node of other numbers is not opened: to open a device
// can set it going.
func OpenNodes(fs sysfs.FS, dev string) func(uevent.Dev) (fd int, err error) {
	return func(d uevent.Dev) (int, error) {
		text, err := sys.ReadAttribute(string(fs) + "/dev/" + sysfs.KindDir(d.Block) + "/" + d.Numbers() + "/uevent")
		if err != nil {
			return -1, err
		}
		// DEVNAME is never the first line: the kernel puts MAJOR and MINOR before it (dev_uevent in
		// drivers/base/core.c).
		_, name, found := strings.Cut(text, "\nDEVNAME=")
		name, _, _ = strings.Cut(name, "\n")
		if !found || name == "" {
			return -1, unix.ENOENT
		}
		path := dev + "/" + name
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return -1, err
		}
		if !isNode(&st, d) {
			return -1, unix.ESTALE
		}
		// O_NONBLOCK: a drive is opened without a medium too, and no open waits for one.
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NOCTTY, 0)
		if err != nil {
			return -1, err
		}
		// Another node may have come to the path between the look and the open.
		if err := unix.Fstat(fd, &st); err != nil || !isNode(&st, d) {
			unix.Close(fd)
			return -1, unix.ESTALE
		}
		return fd, nil
	}
}

// isNode reports whether st is of a node of the type and numbers of d.
func isNode(st *unix.Stat_t, d uevent.Dev) bool {
	kind := uint32(unix.S_IFCHR)
	if d.Block {
		kind = unix.S_IFBLK
	}
	return st.Mode&unix.S_IFMT == kind && uint64(st.Rdev) == unix.Mkdev(d.Major, d.Minor)
}
