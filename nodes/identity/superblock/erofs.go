package superblock

// EROFS: erofs_fs.h of Linux, at 1 KiB.

const erofsOffset = 1024

var erofsFormat = format{
	name: "erofs", usage: filesystem,
	magics: []magic{{erofsOffset, "\xe2\xe1\xf5\xe0"}},
	probe:  probeEROFS,
}

// probeEROFS takes blocks of up to 64 KiB, the size of which stands there as a logarithm (12).
func probeEROFS(p *probe) bool {
	if !p.load(erofsOffset, 128) || p.u(12, 1) > 16 {
		return false
	}
	log := p.u(12, 1)
	p.label(64, 16)
	p.uuid(48)
	p.sizes(1<<log, 0, p.u(36, 4)<<log)
	return true
}
