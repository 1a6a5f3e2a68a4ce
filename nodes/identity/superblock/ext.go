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

func probeExt(p *probe, _ magic) bool {
	b := p.at(extOffset, 512)
	if b == nil {
		return false
	}
	features, readOnly := le.Uint32(b[96:]), le.Uint32(b[100:])
	if features&extJournalDev != 0 {
		return false
	}
	if features&^(ext2Features|extRecover) == 0 && readOnly&^ext2ReadOnly == 0 {
		switch {
		case le.Uint32(b[92:])&extHasJournal != 0:
			p.Type = "ext3"
		case features&extRecover == 0:
			p.Type = "ext2"
		default:
			return false
		}
	}
	setExt(p, b)
	return true
}

func probeJBD(p *probe, _ magic) bool {
	b := p.at(extOffset, 512)
	if b == nil || le.Uint32(b[96:])&extJournalDev == 0 {
		return false
	}
	setExt(p, b)
	return true
}

func setExt(p *probe, b []byte) {
	p.setLabel(b[120:136])
	p.setUUID(b[104:])
	p.setVersions(uint64(le.Uint32(b[76:])), uint64(le.Uint16(b[62:])))
	log := le.Uint32(b[24:])
	if log > 21 {
		return
	}
	block, blocks := uint64(1024)<<log, uint64(le.Uint32(b[4:]))
	p.setBlockSize(block)
	last := blocks
	if le.Uint32(b[96:])&ext64Bit != 0 {
		last |= uint64(le.Uint32(b[336:])) << 32
	}
	p.setLastBlock(last)
	p.setSize(block * last)
}
