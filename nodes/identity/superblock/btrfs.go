package superblock

// Btrfs: the superblock at 64 KiB, btrfs_tree.h of Linux. The copies at 64 MiB
// and 256 GiB are not looked at.

const btrfsOffset = 64 << 10

var btrfsFormat = format{
	name: "btrfs", usage: filesystem, minSize: 1 << 20,
	magics: []magic{{btrfsOffset + 64, "_BHRfS_M"}},
	probe: func(p *probe, _ magic) bool {
		b := p.at(btrfsOffset, 0x22b)
		if b == nil {
			return false
		}
		sector := uint64(le.Uint32(b[0x90:]))
		if sector == 0 {
			return false
		}
		size := le.Uint64(b[0x70:])
		p.setLabel(b[0x12b:])
		p.setUUID(b[0x20:])
		p.setSubUUID(b[0x10b:0x11b])
		p.setBlockSize(sector)
		p.setLastBlock(size / sector)
		p.setSize(size)
		return true
	},
}
