package superblock

// NTFS, by the documentation of the Linux-NTFS project: the label is in record 3
// of the master file table.

var ntfsFormat = format{
	name: "ntfs", usage: filesystem,
	magics: []magic{{3, ntfsName}},
	probe:  probeNTFS,
}

const (
	ntfsName       = "NTFS    "
	ntfsMark       = "FILE"
	ntfsVolumeName = 0x60
	ntfsEnd        = 0xffffffff
	ntfsRecord     = 4096 // bytes of a record that are looked at
)

// ntfsGeometry returns the sizes in bytes of a sector, a cluster and a record of
// the file table from a boot sector, or false if it is none of NTFS.
func ntfsGeometry(b []byte) (sector, cluster, record int64, ok bool) {
	sector = int64(le.Uint16(b[11:]))
	perCluster, perRecord := int64(b[13]), int64(int8(b[64]))
	cluster = sector * perCluster
	if sector < 256 || sector > 4096 || perCluster == 0 || perCluster&(perCluster-1) != 0 ||
		cluster > 64<<10 || !allZero(b[14:21]) || !allZero(b[22:24]) || !allZero(b[32:36]) {
		return 0, 0, 0, false
	}
	switch {
	case perRecord >= -31 && perRecord <= -9:
		record = 1 << -perRecord
	case perRecord > 0 && perRecord <= 64 && perRecord&(perRecord-1) == 0:
		record = perRecord * cluster
	default:
		return 0, 0, 0, false
	}
	return sector, cluster, record, true
}

func probeNTFS(p *probe, _ magic) bool {
	b := p.at(0, 512)
	if b == nil {
		return false
	}
	sector, cluster, record, ok := ntfsGeometry(b)
	if !ok {
		return false
	}
	sectors := le.Uint64(b[40:])
	clusters := sectors / uint64(cluster/sector)
	table := le.Uint64(b[48:])
	if table > clusters || le.Uint64(b[56:]) > clusters || table > uint64(p.size/cluster) {
		return false
	}
	offset := int64(table) * cluster
	if string(p.at(offset, len(ntfsMark))) != ntfsMark {
		return false
	}
	volume := p.at(offset+3*record, int(min(record, ntfsRecord)))
	if len(volume) < 512 || string(volume[:len(ntfsMark)]) != ntfsMark {
		return false
	}
	p.setLabelText(ntfsLabel(volume))
	p.setBlockSize(uint64(cluster))
	p.setSize(sectors * uint64(sector))
	if serial := le.Uint64(b[72:]); serial != 0 {
		p.setUUIDText(upper(hex(serial, 16)))
	}
	return true
}

// ntfsLabel looks through the attributes of a record for the name of the volume.
func ntfsLabel(b []byte) string {
	for at := int(le.Uint16(b[20:])); at+24 <= len(b); {
		attribute := b[at:]
		kind, length := le.Uint32(attribute), int64(le.Uint32(attribute[4:]))
		if kind == ntfsEnd || length < 24 || length > int64(len(attribute)) {
			break
		}
		if kind == ntfsVolumeName {
			start, size := int64(le.Uint16(attribute[20:])), int64(le.Uint32(attribute[16:]))
			if start+size > int64(len(attribute)) {
				break
			}
			return decode(attribute[start:start+size], utf16LE)
		}
		at += int(length)
	}
	return ""
}

// upper returns s with small letters of ASCII as capitals.
func upper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'a' && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}
