package superblock

// A member of a bcache: bcache_ondisk.h of Linux, at 4 KiB.

const bcacheOffset = 0x1000

var bcacheFormat = format{
	name: "bcache", usage: other, minSize: 8192, wiped: bcacheOffset,
	magics: []magic{{bcacheOffset + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"}},
	probe:  probeBcache,
}

// probeBcache takes a superblock that says itself that it lies at this sector (8).
func probeBcache(p *probe) bool {
	if !p.load(bcacheOffset, 56) || p.u(8, 8) != bcacheOffset/512 {
		return false
	}
	p.uuid(40)
	p.version(decimal(p.u(16, 8)))
	return true
}
