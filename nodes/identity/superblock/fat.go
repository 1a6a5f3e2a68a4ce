package superblock

// FAT12, FAT16 and FAT32, by Microsoft's specification. The label is an entry of
// the root directory: the one in the boot sector is not kept up to date.

var vfatFormat = format{
	name: "vfat", usage: filesystem,
	magics: []magic{
		{0x52, "MSWIN"}, {0x52, "FAT32   "}, {0x36, "MSDOS"}, {0x36, "FAT16   "}, {0x36, "FAT12   "},
		{0x36, "FAT     "}, {0, "\xeb"}, {0, "\xe9"}, {0x1fe, "\x55\xaa"},
	},
	probe: probeFAT,
}

const (
	fat12Max = 0xff4
	fat16Max = 0xfff4
	fat32Max = 0x0ffffff6

	// maxDir is how many bytes of a cluster of a directory are looked at, and
	// maxClusters is how many clusters: the label is one of the first entries.
	maxDir      = 16 << 10
	maxClusters = 3

	dirEntry = 32
)

// fat is the geometry of a FAT file system. Sizes are in sectors unless they say
// otherwise.
type fat struct {
	sector     int64 // bytes
	cluster    int64
	reserved   int64
	fats       int64 // all of them together
	oneFat     int64
	dirEntries int64
	sectors    int64
	clusters   int64
	is32       bool
}

// fatGeometry returns what a boot sector says, and whether it is one of FAT. The
// magic is that which was found.
func fatGeometry(b []byte, m magic) (f fat, ok bool) {
	if len(m.bytes) <= 2 {
		// Other file systems fake a boot sector.
		name := string(b[0x36:0x3e])
		if b[0x1fe] != 0x55 || b[0x1ff] != 0xaa || name == "JFS     " || name == "HPFS    " {
			return f, false
		}
	}
	f.sector = int64(le.Uint16(b[11:]))
	f.cluster = int64(b[13])
	f.reserved = int64(le.Uint16(b[14:]))
	f.dirEntries = int64(le.Uint16(b[17:]))
	media := b[21]
	if b[16] == 0 || f.reserved == 0 || media < 0xf8 && media != 0xf0 ||
		f.cluster == 0 || f.cluster&(f.cluster-1) != 0 ||
		f.sector < 512 || f.sector > 4096 || f.sector&(f.sector-1) != 0 {
		return f, false
	}
	if f.sectors = int64(le.Uint16(b[19:])); f.sectors == 0 {
		f.sectors = int64(le.Uint32(b[32:]))
	}
	if f.oneFat = int64(le.Uint16(b[22:])); f.oneFat == 0 {
		f.oneFat = int64(le.Uint32(b[36:]))
		f.is32 = f.oneFat != 0
	}
	f.fats = f.oneFat * int64(b[16])
	dir := (f.dirEntries*dirEntry + f.sector - 1) / f.sector
	// libblkid counts in 32 bits, and what is negative is too much.
	f.clusters = int64(uint32(f.sectors-f.reserved-f.fats-dir)) / f.cluster
	most := int64(fat12Max)
	switch {
	case f.is32:
		most = fat32Max
	case f.clusters > fat12Max:
		most = fat16Max
	}
	return f, f.clusters <= most
}

func probeFAT(p *probe, m magic) bool {
	b := p.at(0, 512)
	if b == nil {
		return false
	}
	f, ok := fatGeometry(b, m)
	if !ok {
		return false
	}
	version, serial, signature := "FAT12", b[0x27:0x2b], b[0x26]
	label := ""
	switch {
	case f.is32:
		if info := int64(le.Uint16(b[48:])); info != 0 && !fatInfo(p.at(info*f.sector, 512)) {
			return false
		}
		version, serial, signature = "FAT32", b[0x43:0x47], b[0x42]
		label = fat32Label(p, f, int64(le.Uint32(b[44:])))
	case le.Uint16(b[22:]) == 0:
		version, serial = "", nil
	default:
		if f.clusters >= fat12Max {
			version = "FAT16"
		}
		dir := p.upTo((f.reserved+f.fats)*f.sector, int(min(f.dirEntries*dirEntry, maxDir)))
		label, _ = fatLabel(dir)
	}
	p.setLabelText(label)
	if serial != nil && (signature == 0x28 || signature == 0x29) && !allZero(serial) {
		p.setUUIDText(serialText(serial))
	}
	if version != "" {
		p.setVersion(version)
	}
	p.setBlockSize(uint64(f.sector * f.cluster))
	p.setSize(uint64(f.sector * f.sectors))
	return true
}

// fatInfo checks the marks of the information sector of FAT32. Some tools leave
// it empty.
func fatInfo(b []byte) bool {
	if b == nil {
		return false
	}
	first, second := string(b[:4]), string(b[484:488])
	return (first == "RRaA" || first == "RRdA" || first == "\x00\x00\x00\x00") &&
		(second == "rrAa" || second == "\x00\x00\x00\x00")
}

// fat32Label looks for the label in the root directory, which is a chain of
// clusters.
func fat32Label(p *probe, f fat, cluster int64) string {
	for range maxClusters {
		if cluster < 2 || cluster >= f.oneFat*f.sector/4 {
			break
		}
		at := (f.reserved + f.fats + (cluster-2)*f.cluster) * f.sector
		label, more := fatLabel(p.upTo(at, int(min(f.cluster*f.sector, maxDir))))
		if !more {
			return label
		}
		next := p.at(f.reserved*f.sector+4*cluster, 4)
		if next == nil {
			break
		}
		cluster = int64(le.Uint32(next) & 0x0fffffff)
	}
	return ""
}

// fatLabel returns the label in a part of a directory. It says too whether what
// follows may have it.
func fatLabel(dir []byte) (label string, more bool) {
	for ; len(dir) >= dirEntry; dir = dir[dirEntry:] {
		switch attributes := dir[11]; {
		case dir[0] == 0:
			return "", false
		case dir[0] == 0xe5, !allZero(dir[20:22]), !allZero(dir[26:28]), attributes&0x3f == 0x0f:
			// Deleted, with contents, or a part of a long name.
		case attributes&0x18 == 0x08:
			name := []byte(string(dir[:11]))
			if name[0] == 0x05 {
				name[0] = 0xe5 // which means deleted where it stands
			}
			if label = cString(name); label == "NO NAME    " {
				label = ""
			}
			return label, false
		}
	}
	return "", true
}

// serialText returns the four bytes of a serial number as FAT and exFAT show it.
func serialText(b []byte) string {
	return upper(hex(uint64(le.Uint16(b[2:])), 4) + "-" + hex(uint64(le.Uint16(b)), 4))
}
