//go:build !nonames

package pid1

import (
	"strings"

	"golang.org/x/sys/unix"

	"devspool/nodes/identity"
)

// kindOf returns the type of the file system on the disk with a node, or "". With it mount need
// not try all types that the kernel knows, each of which may log a failure.
func kindOf(node string) string {
	fd, err := unix.Open(node, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	for _, property := range identity.Superblocks(identity.Disk{Fd: fd, Whole: -1}) {
		if kind, is := strings.CutPrefix(property, "ID_FS_TYPE="); is {
			return kind
		}
	}
	return ""
}
