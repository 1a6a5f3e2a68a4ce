package superblock

// Squashfs: squashfs_fs.h of Linux. Up to version 3 the structure was another
// one, in the byte order of its maker.

var squashfsFormat = format{
	name: "squashfs", usage: filesystem,
	magics: []magic{{0, "hsqs"}, {0, squashfsBig}},
	probe:  probeSquashfs,
}

const squashfsBig = "sqsh"

// probeSquashfs tells by the mark in which byte order the numbers are.
func probeSquashfs(p *probe) bool {
	if !p.load(0, 48) {
		return false
	}
	p.big = p.mark == squashfsBig
	major := p.u(28, 2)
	p.versions(major, p.u(30, 2))
	if major < 4 {
		p.Type = "squashfs3"
		p.sizes(1024, 0, 0)
		return true
	}
	p.sizes(p.u(12, 4), 0, p.u(40, 8))
	// Version 4 is little endian on every machine.
	return !p.big
}
