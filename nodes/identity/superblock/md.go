package superblock

// A member of an md array: drivers/md and md_p.h of Linux. Version 0.90 lies at
// the last multiple of 64 KiB that leaves 64 KiB to the end, in the byte order
// of its maker. Version 1 is little endian and lies 8 KiB before the end (1.0),
// at the begin (1.1) or 4 KiB behind that (1.2).

var mdFormat = format{name: "linux_raid_member", usage: raid, probe: probeMD}

const (
	mdMagic    = 0xa92b4efc
	mdReserved = 64 << 10
	mdSize     = 4096 // of either superblock, at most
	mdRoles    = 256  // offset of the array of roles in version 1
)

func probeMD(p *probe, _ magic) bool {
	if p.size > mdReserved {
		if probeMD0(p, p.size&^(mdReserved-1)-mdReserved) {
			return true
		}
		if probeMD1(p, p.size&^0xfff-0x2000, "1.0") {
			return true
		}
	}
	return probeMD1(p, 0, "1.1") || probeMD1(p, 0x1000, "1.2")
}

func probeMD0(p *probe, offset int64) bool {
	b := p.at(offset, mdSize)
	if b == nil {
		return false
	}
	word := le.Uint32
	if word(b) != mdMagic {
		if word = be.Uint32; word(b) != mdMagic {
			return false
		}
	}
	size := int64(word(b[32:])) << 10
	if p.size < size+mdReserved || offset < size ||
		!p.disk.Partition && p.inPartition(offset-size, offset+mdReserved) {
		return false
	}
	var uuid [16]byte
	for i, at := range [...]int{20, 52, 56, 60} {
		be.PutUint32(uuid[4*i:], word(b[at:]))
		if word(b[8:]) < 90 {
			break
		}
	}
	p.setVersion(decimal(uint64(word(b[4:]))) + "." + decimal(uint64(word(b[8:]))) + "." + decimal(uint64(word(b[12:]))))
	p.setUUID(uuid[:])
	return true
}

func probeMD1(p *probe, offset int64, version string) bool {
	b := p.at(offset, mdRoles)
	if b == nil || le.Uint32(b) != mdMagic || le.Uint32(b[4:]) != 1 ||
		le.Uint64(b[144:]) != uint64(offset)>>9 {
		return false
	}
	roles := le.Uint32(b[220:])
	if roles > (mdSize-mdRoles)/2 {
		return false
	}
	all := p.at(offset, mdRoles+2*int(roles))
	if all == nil || mdSum(all) != le.Uint32(b[216:]) {
		return false
	}
	p.setUUID(b[16:])
	p.setSubUUID(b[168:184])
	p.setLabel(b[32:64])
	p.setVersion(version)
	return true
}

// mdSum returns the sum of a superblock's words without the sum itself, folded
// to 32 bits.
func mdSum(b []byte) uint32 {
	sum := -uint64(le.Uint32(b[216:]))
	for ; len(b) >= 4; b = b[4:] {
		sum += uint64(le.Uint32(b))
	}
	if len(b) == 2 {
		sum += uint64(le.Uint16(b))
	}
	return uint32(sum) + uint32(sum>>32)
}
