package superblock

// A physical volume of LVM2: the label lies in one of the first four sectors,
// lib/format_text/layout.h of LVM2.

var lvmFormat = format{
	name: "LVM2_member", usage: raid, wiped: 8 << 10,
	magics: []magic{{0x218, lvmType}, {0x018, lvmType}, {0x418, lvmType}, {0x618, lvmType}},
	probe:  probeLVM,
}

const lvmType = "LVM2 001"

// probeLVM takes a label that says in which sector it lies, and whose CRC is right: what was a
// physical volume once may still have the mark.
func probeLVM(p *probe) bool {
	offset := p.markAt - 0x18
	if !p.load(offset, 512) || !p.is(0, "LABELONE") || p.u(8, 8) != uint64(offset>>9) ||
		p.u(16, 4) != p.crc32(0xf597a6cf, 20, 492) {
		return false
	}
	uuid := cString(p.cut(32, 32))
	for i := 6; i < 32 && i < len(uuid); i += 5 {
		uuid = uuid[:i] + "-" + uuid[i:] // groups of 6, 4, 4, 4, 4, 4 and 6
	}
	p.setUUID(uuid)
	p.version(lvmType)
	return true
}
