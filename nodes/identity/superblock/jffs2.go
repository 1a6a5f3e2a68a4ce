package superblock

// JFFS2: jffs2.h of Linux. It has no superblock: a node lies at the begin of each
// eraseblock, the first of them a clean marker or an inode, in the byte order of
// its maker. libblkid does not know it.

var jffs2Format = format{
	name: "jffs2", usage: filesystem,
	magics: []magic{{0, "\x85\x19"}, {0, "\x19\x85"}},
	probe: func(p *probe, m magic) bool {
		b := p.at(0, 12)
		if b == nil {
			return false
		}
		word, half := le.Uint32, le.Uint16
		if m.bytes[0] == 0x19 {
			word, half = be.Uint32, be.Uint16
		}
		// The type of a node has the bits of two feature classes, and the
		// header is covered by a CRC that begins with 0.
		return half(b[2:])&0x2000 != 0 && word(b[4:]) >= 12 && word(b[8:]) == crc32(0, b[:8])
	},
}
