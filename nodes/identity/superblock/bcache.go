package superblock

// A member of a bcache: bcache_ondisk.h of Linux, at 4 KiB.

const bcacheOffset = 0x1000

var bcacheFormat = format{
	name: "bcache", usage: other, minSize: 8192, wiped: bcacheOffset,
	magics: []magic{{bcacheOffset + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"}},
	probe: func(p *probe, _ magic) bool {
		b := p.at(bcacheOffset, 56)
		if b == nil || le.Uint64(b[8:]) != bcacheOffset/512 {
			return false
		}
		p.setUUID(b[40:])
		p.setVersion(decimal(le.Uint64(b[16:])))
		return true
	},
}
