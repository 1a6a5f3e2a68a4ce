package superblock

// exFAT, by Microsoft's specification. The label is an entry of the root
// directory.

var exfatFormat = format{
	name: "exfat", usage: filesystem,
	magics: []magic{{3, exfatName}},
	probe:  probeExFAT,
}

const (
	exfatName  = "EXFAT   "
	exfatLabel = 0x83 // type of the directory entry
)

// exfatIsSane checks a boot sector.
func exfatIsSane(b []byte) bool {
	return string(b[:3]) == "\xeb\x76\x90" && string(b[3:11]) == exfatName && allZero(b[11:64]) &&
		b[108] >= 9 && b[108] <= 12 && int(b[108])+int(b[109]) <= 25 &&
		b[510] == 0x55 && b[511] == 0xaa
}

func probeExFAT(p *probe, _ magic) bool {
	b := p.at(0, 512)
	if b == nil || !exfatIsSane(b) {
		return false
	}
	sector := int64(1) << b[108]
	cluster := sector << b[109]
	fat, heap := int64(le.Uint32(b[80:]))*sector, int64(le.Uint32(b[88:]))*sector
	clusters := int64(le.Uint32(b[92:]))
	next := int64(le.Uint32(b[96:]))
	for range maxClusters {
		if next < 2 || next-2 >= clusters {
			break
		}
		dir := p.upTo(heap+(next-2)*cluster, int(min(cluster, maxDir)))
		if entry := exfatFind(dir); entry != nil {
			p.setLabelText(decode(entry[2:2+2*min(int(entry[1]), 11)], utf16LE))
			break
		}
		link := p.at(fat+4*next, 4)
		if link == nil {
			break
		}
		next = int64(le.Uint32(link))
	}
	if serial := b[100:104]; !allZero(serial) {
		p.setUUIDText(serialText(serial))
	}
	p.setVersions(uint64(b[105]), uint64(b[104]))
	p.setBlockSize(uint64(sector))
	p.setSize(uint64(sector) * le.Uint64(b[72:]))
	return true
}

// exfatFind returns the entry with the label, or the one that ends the directory
// as an empty label, or nil if what follows may have it.
func exfatFind(dir []byte) []byte {
	for ; len(dir) >= dirEntry; dir = dir[dirEntry:] {
		switch dir[0] {
		case 0:
			return make([]byte, dirEntry)
		case exfatLabel:
			return dir
		}
	}
	return nil
}
