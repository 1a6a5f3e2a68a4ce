package superblock

// exFAT, by Microsoft's specification. The label is an entry of the root
// directory.

var exfatFormat = format{name: "exfat", usage: filesystem, magics: []magic{{3, exfatName}}, probe: probeExFAT}

const (
	exfatName  = "EXFAT   "
	exfatLabel = 0x83 // type of the directory entry
)

// isExFAT reports whether the structure is a boot sector of exFAT.
func isExFAT(p *probe) bool {
	sectorLog := p.u(108, 1)
	return p.is(0, "\xeb\x76\x90"+exfatName) && p.zero(11, 53) && p.is(510, mbrMark) &&
		sectorLog >= 9 && sectorLog <= 12 && sectorLog+p.u(109, 1) <= 25
}

func probeExFAT(p *probe) bool {
	if !p.load(0, 512) || !isExFAT(p) {
		return false
	}
	sectorLog := p.u(108, 1)
	if serial := p.serial(100); serial != "" {
		p.setUUID(serial)
	}
	p.versions(p.u(105, 1), p.u(104, 1))
	p.sizes(1<<sectorLog, 0, p.u(72, 8)<<sectorLog)
	p.chain(directory{
		fat:     int64(p.u(80, 4)) << sectorLog,
		heap:    int64(p.u(88, 4)) << sectorLog,
		cluster: int64(1) << (sectorLog + p.u(109, 1)),
		count:   p.u(92, 4) + 2,
		mask:    0xffffffff,
		look:    exfatLook,
	}, p.u(96, 4))
	return true
}

// exfatLook looks for the label in a part of a directory.
func exfatLook(p *probe) (more bool) {
	for at := 0; at < len(p.b); at += dirEntry {
		switch p.b[at] {
		case 0:
			return false
		case exfatLabel:
			p.setLabel(utf16(p.cut(at+2, 2*min(int(p.u(at+1, 1)), 11)), false))
			return false
		}
	}
	return true
}
