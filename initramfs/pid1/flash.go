package pid1

import (
	"strings"

	"devspool/hotplug/sys"
)

// isFlash reports whether a root is a volume of UBI or a partition of MTD, by a word of the kernel: it is
// mounted by that word, since no node of a disk leads to it. (init/do_mounts.c looks for the same letters.)
func isFlash(root string) bool {
	return strings.HasPrefix(root, "ubi") || strings.HasPrefix(root, "mtd")
}

// flashIsThere reports whether the kernel has such a root: ubi0_1, ubi0:NAME, ubi:NAME, mtd2 or mtd:NAME.
func flashIsThere(root string) bool {
	class := root[:3]
	for _, device := range sys.ReadDir("/sys/class/" + class) {
		// A device of UBI has no name, only its volumes do.
		name, _ := sys.ReadAttribute("/sys/class/" + class + "/" + device + "/name")
		number, _, _ := strings.Cut(device, "_")
		if name = ":" + strings.TrimSuffix(name, "\n"); root == device || root == number+name || root == class+name {
			return true
		}
	}
	return false
}
