package superblock

// Btrfs: the superblock at 64 KiB, btrfs_tree.h of Linux. The copies at 64 MiB
// and 256 GiB are not looked at.

const btrfsOffset = 64 << 10

var btrfsFormat = format{
	name: "btrfs", usage: filesystem, minSize: 1 << 20,
	magics: []magic{{btrfsOffset + 64, "_BHRfS_M"}},
	probe:  probeBtrfs,
}

// probeBtrfs sets two UUIDs: that of the file system, which all of its disks have, and that of
// this disk (UUID_SUB).
func probeBtrfs(p *probe) bool {
	if !p.load(btrfsOffset, 0x22b) {
		return false
	}
	size, sector := p.u(0x70, 8), p.u(0x90, 4)
	if sector == 0 {
		return false
	}
	p.label(0x12b, 256)
	p.uuid(0x20)
	p.subUUID(0x10b)
	p.sizes(sector, size/sector, size)
	return true
}
