package superblock

// LUKS 1 and 2, by their on-disk format specifications. Version 2 has a second
// header, behind the first and its area of 16 KiB or more. It is looked for in
// the head only: that is where it lies unless a larger area was asked for.

var luksFormat = format{
	name: "crypto_LUKS", usage: crypto, big: true,
	magics: []magic{{0, "LUKS\xba\xbe"}, {0x4000, luksSecond}, {0x8000, luksSecond}, {0x10000, luksSecond}},
	probe:  probeLUKS,
}

const luksSecond = "SKUL\xba\xbe"

// probeLUKS reads the header at the mark: the first one, or where that was destroyed the second
// one, which says where it lies.
func probeLUKS(p *probe) bool {
	if !p.load(p.markAt, 512) {
		return false
	}
	version := p.u(6, 2)
	if version == 2 && p.u(256, 8) != uint64(p.markAt) {
		return false
	}
	p.version(decimal(version))
	if version == 1 || version == 2 {
		p.setUUID(cString(p.cut(168, 40)))
	}
	if version == 2 {
		p.label(24, 48)
	}
	return true
}
