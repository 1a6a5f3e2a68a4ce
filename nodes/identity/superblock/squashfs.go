package superblock

// Squashfs: squashfs_fs.h of Linux. Up to version 3 the structure was another
// one, in the byte order of its maker.

var squashfsFormat = format{
	name: "squashfs", usage: filesystem,
	magics: []magic{{0, "hsqs"}, {0, "sqsh"}},
	probe: func(p *probe, m magic) bool {
		b := p.at(0, 48)
		if b == nil {
			return false
		}
		half := le.Uint16
		if m.bytes[0] == 's' {
			half = be.Uint16
		}
		major := uint64(half(b[28:]))
		p.setVersions(major, uint64(half(b[30:])))
		switch {
		case major < 4:
			p.Type = "squashfs3"
			p.setBlockSize(1024)
		case m.bytes[0] == 's':
			return false // version 4 is little endian only
		default:
			p.setBlockSize(uint64(le.Uint32(b[12:])))
			p.setSize(le.Uint64(b[40:]))
		}
		return true
	},
}
