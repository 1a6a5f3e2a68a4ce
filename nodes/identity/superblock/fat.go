package superblock

// FAT12, FAT16 and FAT32, by Microsoft's specification. The label is an entry of
// the root directory: the one in the boot sector is not kept up to date.

var vfatFormat = format{
	name: "vfat", usage: filesystem,
	// The last three may begin or end any boot sector: isFAT asks for more where only these are there.
	magics: []magic{
		{0x52, "MSWIN"}, {0x52, "FAT32   "}, {0x36, "MSDOS"}, {0x36, "FAT16   "}, {0x36, "FAT12   "},
		{0x36, "FAT     "}, {0, "\xeb"}, {0, "\xe9"}, {510, mbrMark},
	},
	probe: probeFAT,
}

const (
	// The largest numbers of clusters, as libblkid has them.
	fat12Max = 0xff4
	fat16Max = 0xfff4
	fat32Max = 0x0ffffff6

	// maxDir is how many bytes of a cluster of a directory are looked at, and
	// maxClusters is how many clusters: the label is one of the first entries.
	maxDir      = 16 << 10
	maxClusters = 3

	dirEntry = 32 // bytes of an entry of a directory
)

// isFAT reports whether the structure is a boot sector of FAT, and how many
// clusters there are. The mark is that which was found.
func isFAT(p *probe) (clusters uint64, ok bool) {
	// Other file systems fake a boot sector.
	if len(p.mark) <= 2 && (!p.is(510, mbrMark) || p.is(0x36, "JFS     ") || p.is(0x36, "HPFS    ")) {
		return 0, false
	}
	sector, cluster, reserved, fats, media := p.u(11, 2), p.u(13, 1), p.u(14, 2), p.u(16, 1), p.u(21, 1)
	if fats == 0 || reserved == 0 || media < 0xf8 && media != 0xf0 || !isPower(cluster) ||
		sector < 512 || sector > 4096 || !isPower(sector) {
		return 0, false
	}
	dir := (p.u(17, 2)*dirEntry + sector - 1) / sector
	// libblkid counts in 32 bits, and what is negative is too much.
	clusters = uint64(uint32(either(p, 19, 32)-reserved-fats*either(p, 22, 36)-dir)) / cluster
	// A table without a length in the short field is that of FAT32. Between the other two the
	// number of clusters decides, whatever the mark says.
	most := uint64(fat12Max)
	if p.zero(22, 2) && !p.zero(36, 4) {
		most = fat32Max
	} else if clusters > fat12Max {
		most = fat16Max
	}
	return clusters, clusters <= most
}

// either returns the number of sectors, or that of a table: the two bytes at an
// offset, or if they are 0, the four bytes at another.
func either(p *probe, offset2, offset4 int) uint64 {
	if n := p.u(offset2, 2); n != 0 {
		return n
	}
	return p.u(offset4, 4)
}

// probeFAT reads the boot sector, and the label from the root directory: in clusters for FAT32,
// in a place of its own for the others.
func probeFAT(p *probe) bool {
	if !p.load(0, 512) {
		return false
	}
	clusters, ok := isFAT(p)
	if !ok {
		return false
	}
	sector, sectors, length := p.u(11, 2), either(p, 19, 32), either(p, 22, 36)
	reserved := int64(p.u(14, 2) * sector)
	d := directory{
		fat:     reserved,
		heap:    reserved + int64(p.u(16, 1)*length*sector),
		cluster: int64(p.u(13, 1) * sector),
		count:   length * sector / 4,
		mask:    fat32Max | 0xf, // an entry of FAT32 has 28 bits
		look:    fatLook,
	}
	version, signature, info, root := "FAT32", 0x42, int64(p.u(48, 2)*sector), p.u(44, 4)
	if !p.zero(22, 2) {
		version, signature, info, root = "FAT12", 0x26, 0, 2
		if clusters >= fat12Max {
			version = "FAT16"
		}
		// The root directory lies before the clusters.
		d.cluster, d.count = int64(p.u(17, 2)*dirEntry), 0
	} else if p.zero(36, 4) {
		version, signature = "", 0
	}
	// 0x28 or 0x29 says that a serial number follows.
	if p.u(signature, 1)&^1 == 0x28 {
		p.setUUID(p.serial(signature + 1))
	}
	p.version(version)
	p.sizes(sector*p.u(13, 1), 0, sector*sectors)
	// The information sector of FAT32 has marks. Some tools leave it empty.
	if version == "FAT32" && info != 0 && (!p.load(info, 512) ||
		!p.is(0, "RRaA") && !p.is(0, "RRdA") && !p.zero(0, 4) || !p.is(484, "rrAa") && !p.zero(484, 4)) {
		return false
	}
	if version != "" {
		p.chain(d, root)
	}
	return true
}

// fatLook looks for the label in a part of a directory.
func fatLook(p *probe) (more bool) {
	for at := 0; at < len(p.b); at += dirEntry {
		switch attributes := p.u(at+11, 1); {
		case p.b[at] == 0:
			return false
		case p.b[at] == 0xe5, !p.zero(at+20, 2), !p.zero(at+26, 2), attributes&0x3f == 0x0f:
			// Deleted, with contents, or a part of a long name.
		case attributes&0x18 == 0x08:
			label := cString(p.cut(at, 11))
			if label[0] == 0x05 {
				label = "\xe5" + label[1:] // which means deleted where it stands
			}
			if label != "NO NAME    " {
				p.setLabel(label)
			}
			return false
		}
	}
	return true
}

// directory says where a directory lies: in clusters which a table chains, both
// at offsets in bytes. Count is how many entries the table has, 0 for a directory in one piece; mask
// has the bits of an entry that count. Look looks at a part of it, and says whether to go on.
type directory struct {
	fat, heap, cluster int64
	count, mask        uint64
	look               func(p *probe) (more bool)
}

// chain looks at the first clusters of a directory. It ends at a number that is no cluster: that stands
// for the end, or comes from a table that is damaged.
func (p *probe) chain(d directory, cluster uint64) {
	for range maxClusters {
		if cluster < 2 || cluster >= max(d.count, 3) ||
			!p.loadUpTo(d.heap+int64(cluster-2)*d.cluster, min(d.cluster, maxDir)) || !d.look(p) ||
			d.count == 0 || !p.load(d.fat+4*int64(cluster), 4) {
			return
		}
		cluster = p.u(0, 4) & d.mask
	}
}

// serial returns the four bytes of a serial number as FAT and exFAT show it, or
// "" if it is 0.
func (p *probe) serial(offset int) string {
	s := hex(p.u(offset, 4), 8)
	if s == "00000000" {
		return ""
	}
	return capitals(s[:4] + "-" + s[4:])
}
