package superblock

// NTFS, by the documentation of the Linux-NTFS project: the label is in record 3
// of the master file table.

var ntfsFormat = format{name: "ntfs", usage: filesystem, magics: []magic{{3, ntfsName}}, probe: probeNTFS}

const (
	ntfsName       = "NTFS    "
	ntfsMark       = "FILE"
	ntfsVolumeName = 0x60
	ntfsRecord     = 4096 // bytes of a record that are looked at
)

// probeNTFS checks the boot sector, and then that the records 0 and 3 of the table are records:
// a disk that was made anew without its begin being wiped has the first alone.
func probeNTFS(p *probe) bool {
	if !p.load(0, 512) {
		return false
	}
	sector, perCluster := p.u(11, 2), p.u(13, 1)
	cluster := sector * perCluster
	// NTFS has 0 where FAT has its reserved sectors, its tables, the entries of its root
	// directory and its sectors (14 to 20, 22 and 32).
	if !p.is(3, ntfsName) || sector < 256 || sector > 4096 || !isPower(perCluster) ||
		cluster > 64<<10 || !p.zero(14, 7) || !p.zero(22, 2) || !p.zero(32, 4) {
		return false
	}
	// The size of a record is a number of clusters, or the logarithm of its size
	// as a negative number.
	perRecord := p.u(64, 1)
	record := perRecord * cluster
	if perRecord >= 0xe1 && perRecord <= 0xf7 {
		record = 1 << (0x100 - perRecord)
	} else if !isPower(perRecord) || perRecord > 64 {
		return false
	}
	sectors, table, serial := p.u(40, 8), p.u(48, 8), p.u(72, 8)
	if last := sectors / perCluster; table > last || p.u(56, 8) > last || table > uint64(p.size)/cluster {
		return false
	}
	offset := int64(table * cluster)
	if !p.load(offset, 512) || !p.is(0, ntfsMark) ||
		!p.load(offset+3*int64(record), int(min(record, ntfsRecord))) || !p.is(0, ntfsMark) {
		return false
	}
	ntfsLabel(p)
	p.sizes(cluster, 0, sectors*sector)
	if serial != 0 {
		p.setUUID(capitals(hex(serial, 16)))
	}
	return true
}

// ntfsLabel looks through the attributes of a record for the name of the volume. Of an
// attribute it reads the type, the length, and the length and offset of a value that lies in
// the record. What lies outside of the record reads as 0, which ends it.
func ntfsLabel(p *probe) {
	for at := int(p.u(20, 2)); at < ntfsRecord; {
		if p.u(at, 4) == ntfsVolumeName {
			p.setLabel(utf16(p.cut(at+int(p.u(at+20, 2)), int(p.u(at+16, 4))), false))
			break
		}
		length := int(p.u(at+4, 4))
		if length < 24 {
			break
		}
		at += length
	}
}

func capitals(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = capital(c)
	}
	return string(b)
}
