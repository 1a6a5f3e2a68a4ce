package superblock

// ext2, ext3, ext4 and their external journal: fs/ext4/ext4.h of Linux. They
// differ in the features that they use. The checksum is not checked: it is
// wrong for moments while the file system is mounted, and a link that goes costs
// more than one to a damaged file system.

var (
	extMagics = []magic{{extOffset + 56, "\x53\xef"}}
	extFormat = format{name: "ext4", usage: filesystem, magics: extMagics, probe: probeExt}
	jbdFormat = format{name: "jbd", usage: other, magics: extMagics, probe: probeJBD}
)

const (
	extOffset = 1024

	extHasJournal = 4 // compatible feature
	extJournalDev = 8 // incompatible features
	extRecover    = 4
	ext64Bit      = 0x80

	// The features of ext2 that older kernels may not write, and not read.
	ext2ReadOnly = 1 | 2 | 4
	ext2Features = 2 | 0x10
)

// probeExt takes for ext2 or ext3 what has no feature of ext4 alone, and tells these two apart
// by the journal.
func probeExt(p *probe) bool {
	if !p.load(extOffset, 512) {
		return false
	}
	// Three sets of features: compatible ones (92), incompatible ones (96), and those (100)
	// that make the file system read-only to a kernel which does not know them.
	features := p.u(96, 4)
	if features&^(ext2Features|extRecover) == 0 && p.u(100, 4)&^ext2ReadOnly == 0 {
		p.Type = "ext3"
		if p.u(92, 4)&extHasJournal == 0 {
			p.Type = "ext2"
			// Without a journal there is nothing to recover from: this is none of the three.
			if features&extRecover != 0 {
				return false
			}
		}
	}
	return features&extJournalDev == 0 && ext(p)
}

// probeJBD looks for a journal on a disk of its own, which holds no files.
func probeJBD(p *probe) bool {
	return p.load(extOffset, 512) && p.u(96, 4)&extJournalDev != 0 && ext(p)
}

// ext sets what all have. It returns true: a label that is empty, or a size that cannot be,
// does not make it another format.
func ext(p *probe) bool {
	p.label(120, 16)
	p.uuid(104)
	p.versions(p.u(76, 4), p.u(62, 2))
	// Blocks have 1024<<log bytes, 64 KiB at most in practice; the bound keeps the shift in 32
	// bits.
	if log := p.u(24, 4); log < 22 {
		blocks := p.u(4, 4)
		if p.u(96, 4)&ext64Bit != 0 {
			blocks |= p.u(336, 4) << 32
		}
		p.sizes(1024<<log, blocks, blocks<<(10+log))
	}
	return true
}
