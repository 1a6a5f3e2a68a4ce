package superblock

// F2FS: f2fs_fs.h of Linux, at 1 KiB.

const f2fsOffset = 1024

var f2fsFormat = format{
	name: "f2fs", usage: filesystem,
	magics: []magic{{f2fsOffset, "\x10\x20\xf5\xf2"}},
	probe:  probeF2FS,
}

// probeF2FS says nothing but the type of version 1.0, where the label and the UUID lie
// elsewhere.
func probeF2FS(p *probe) bool {
	if !p.load(f2fsOffset, 0x47c) {
		return false
	}
	major, minor := p.u(4, 2), p.u(6, 2)
	if major == 1 && minor == 0 {
		return true // the structure is another one
	}
	p.setLabel(utf16(p.cut(0x7c, 1024), false))
	p.uuid(0x6c)
	p.versions(major, minor)
	if log := p.u(16, 4); log < 32 {
		p.sizes(1<<log, 0, p.u(0x24, 8)<<log)
	}
	return true
}
