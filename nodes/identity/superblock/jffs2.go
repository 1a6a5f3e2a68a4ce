package superblock

// JFFS2: jffs2.h of Linux. It has no superblock: a node lies at the begin of each
// eraseblock, the first of them a clean marker or an inode, in the byte order of
// its maker. libblkid does not know it.

var jffs2Format = format{
	name: "jffs2", usage: filesystem,
	magics: []magic{{0, "\x85\x19"}, {0, jffs2Big}},
	probe:  probeJFFS2,
}

const jffs2Big = "\x19\x85"

// probeJFFS2 takes what begins with the sound header of a node. Its mark tells the byte order.
func probeJFFS2(p *probe) bool {
	p.big = p.mark == jffs2Big
	// Each type of a node has a bit of its own and one of the class of features.
	// The header is covered by a CRC that begins with 0.
	return p.load(0, 12) && p.u(2, 2)&0x2000 != 0 && p.u(4, 4) >= 12 && p.u(8, 4) == p.crc32(0, 0, 8)
}
