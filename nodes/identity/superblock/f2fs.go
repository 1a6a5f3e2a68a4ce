package superblock

// F2FS: f2fs_fs.h of Linux, at 1 KiB.

const f2fsOffset = 1024

var f2fsFormat = format{
	name: "f2fs", usage: filesystem,
	magics: []magic{{f2fsOffset, "\x10\x20\xf5\xf2"}},
	probe: func(p *probe, _ magic) bool {
		b := p.at(f2fsOffset, 0x47c)
		if b == nil {
			return false
		}
		major, minor := uint64(le.Uint16(b[4:])), uint64(le.Uint16(b[6:]))
		if major == 1 && minor == 0 {
			return true // the structure is another one
		}
		p.setLabelText(decode(b[0x7c:], utf16LE))
		p.setUUID(b[0x6c:])
		p.setVersions(major, minor)
		if log := le.Uint32(b[16:]); log < 32 {
			p.setBlockSize(1 << log)
			p.setSize(le.Uint64(b[0x24:]) << log)
		}
		return true
	},
}
