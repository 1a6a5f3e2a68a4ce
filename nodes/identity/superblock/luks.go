package superblock

// LUKS 1 and 2, by their on-disk format specifications. Version 2 has a second
// header, behind the first and its area of 16 KiB or more. It is looked for in
// the head only: that is where it lies unless a larger area was asked for.

var luksFormat = format{name: "crypto_LUKS", usage: crypto, probe: probeLUKS}

const luksSize = 512

func probeLUKS(p *probe, _ magic) bool {
	for _, offset := range [...]int64{0, 0x4000, 0x8000, 0x10000} {
		b := p.at(offset, luksSize)
		if b == nil {
			continue
		}
		mark := "SKUL\xba\xbe"
		if offset == 0 {
			mark = "LUKS\xba\xbe"
		}
		version := uint64(be.Uint16(b[6:]))
		if string(b[:6]) != mark || version == 2 && be.Uint64(b[256:]) != uint64(offset) {
			continue
		}
		p.setVersion(decimal(version))
		if version == 1 || version == 2 {
			p.setUUIDText(cString(b[168:208]))
		}
		if version == 2 {
			p.setLabel(b[24:72])
		}
		return true
	}
	return false
}
