package superblock

// UBI and UBIFS: ubi-media.h and ubifs-media.h of Linux.

var ubiFormat = format{
	name: "ubi", usage: raid,
	magics: []magic{{0, "UBI#"}},
	probe: func(p *probe, _ magic) bool {
		b := p.at(0, 64)
		if b == nil {
			return false
		}
		p.setVersion(decimal(uint64(b[4])))
		if sequence := be.Uint32(b[24:]); sequence != 0 {
			p.setUUIDText(decimal(uint64(sequence)))
		}
		return true
	},
}

var ubifsFormat = format{
	name: "ubifs", usage: filesystem,
	magics: []magic{{0, "\x31\x18\x10\x06"}},
	probe: func(p *probe, _ magic) bool {
		b := p.at(0, 4096)
		if b == nil || b[20] != 6 {
			return false // no superblock node
		}
		p.setUUID(b[108:])
		p.setSize(uint64(le.Uint32(b[36:])) * uint64(le.Uint32(b[40:])))
		p.setVersion("w" + decimal(uint64(le.Uint32(b[80:]))) + "r" + decimal(uint64(le.Uint32(b[124:]))))
		return true
	},
}
