package superblock

// A physical volume of LVM2: the label lies in one of the first four sectors,
// lib/format_text/layout.h of LVM2.

var lvmFormat = format{
	name: "LVM2_member", usage: raid, wiped: 8 << 10,
	magics: []magic{{0x218, lvmType}, {0x018, lvmType}, {0x418, lvmType}, {0x618, lvmType}},
	probe:  probeLVM,
}

const lvmType = "LVM2 001"

func probeLVM(p *probe, m magic) bool {
	offset := m.offset - 0x18
	b := p.at(offset, 512)
	if b == nil || string(b[:8]) != "LABELONE" || le.Uint64(b[8:]) != uint64(offset>>9) ||
		le.Uint32(b[16:]) != crc32(0xf597a6cf, b[20:]) {
		return false
	}
	// 32 characters, in groups of 6, 4, 4, 4, 4, 4 and 6.
	uuid := make([]byte, 0, 38)
	for i, c := range b[32:64] {
		if i >= 6 && i <= 26 && i%4 == 2 {
			uuid = append(uuid, '-')
		}
		uuid = append(uuid, c)
	}
	p.setUUIDText(cString(uuid))
	p.setVersion(lvmType)
	return true
}
