package superblock

// exFAT, by Microsoft's specification. The label is an entry of the root
// directory.

var exfatFormat = format{name: "exfat", usage: filesystem, magics: []magic{{3, exfatName}}, probe: probeExFAT}

const (
	exfatName  = "EXFAT   "
	exfatLabel = 0x83 // type of the directory entry
)

// probeExFAT checks the boot sector, and by a sum the whole of the boot region.
func probeExFAT(p *probe) bool {
	p.load(0, 512)
	// Where FAT has its parameters, exFAT has zeroes (11 to 63), so that neither is taken for the other.
	// A cluster has at most 32 MiB (25).
	sectorLog := p.u(108, 1)
	if !p.is(0, "\xeb\x76\x90"+exfatName) || !p.zero(11, 53) || !p.is(510, mbrMark) ||
		sectorLog < 9 || sectorLog > 12 || sectorLog+p.u(109, 1) > 25 || !p.load(0, 12<<sectorLog) {
		return false
	}
	// The twelfth sector has the sum of those before, without what changes while
	// the file system is mounted.
	sum := uint32(0)
	for i, c := range p.cut(0, 11<<sectorLog) {
		if i != 106 && i != 107 && i != 112 {
			sum = sum>>1 | sum<<31
			sum += uint32(c)
		}
	}
	if p.u(11<<sectorLog, 4) != uint64(sum) {
		return false
	}
	if serial := p.serial(100); serial != "" {
		p.setUUID(serial)
	}
	p.versions(p.u(105, 1), p.u(104, 1))
	p.sizes(1<<sectorLog, 0, p.u(72, 8)<<sectorLog)
	p.chain(directory{
		fat:     int64(p.u(80, 4)) << sectorLog,
		heap:    int64(p.u(88, 4)) << sectorLog,
		cluster: int64(1) << (sectorLog + p.u(109, 1)),
		count:   p.u(92, 4) + 2, // clusters are counted from 2
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
