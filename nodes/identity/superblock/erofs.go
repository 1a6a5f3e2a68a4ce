package superblock

// EROFS: erofs_fs.h of Linux, at 1 KiB.

const erofsOffset = 1024

var erofsFormat = format{
	name: "erofs", usage: filesystem,
	magics: []magic{{erofsOffset, "\xe2\xe1\xf5\xe0"}},
	probe: func(p *probe, _ magic) bool {
		b := p.at(erofsOffset, 128)
		if b == nil || b[12] > 16 {
			return false
		}
		block := uint64(1) << b[12]
		p.setLabel(b[64:80])
		p.setUUID(b[48:])
		p.setBlockSize(block)
		p.setSize(block * uint64(le.Uint32(b[36:])))
		return true
	},
}
