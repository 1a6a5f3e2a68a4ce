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

// probeMD tries all places where a superblock may lie, those at the end of the disk first.
func probeMD(p *probe) bool {
	return p.size > mdReserved && (probeMD0(p, p.size&^(mdReserved-1)-mdReserved) ||
		probeMD1(p, p.size&^0xfff-0x2000, "1.0")) ||
		probeMD1(p, 0, "1.1") || probeMD1(p, 0x1000, "1.2")
}

// probeMD0 looks for version 0.90. The size of the member's data (32, in KiB) says whether the
// superblock can be of this disk: one of the last partition lies at the same place.
func probeMD0(p *probe, offset int64) bool {
	if !p.load(offset, mdSize) {
		return false
	}
	p.big = p.u(0, 4) != mdMagic
	size := int64(p.u(32, 4)) << 10
	// All is read before inPartition loads other structures.
	version := decimal(p.u(4, 4)) + "." + decimal(p.u(8, 4)) + "." + decimal(p.u(12, 4))
	uuid := hex(p.u(20, 4), 8) + hex(p.u(52, 4), 8) + hex(p.u(56, 4), 8) + hex(p.u(60, 4), 8)
	if p.u(0, 4) != mdMagic || p.size < size+mdReserved || offset < size ||
		!p.disk.Partition && p.inPartition(offset-size, offset+mdReserved) {
		p.big = false
		return false
	}
	p.version(version)
	p.setUUID(uuid[:8] + "-" + uuid[8:12] + "-" + uuid[12:16] + "-" + uuid[16:20] + "-" + uuid[20:])
	return true
}

// probeMD1 looks for version 1, which says where it lies and has a sum. Its name has the host
// in front where mdadm put that there: "host:0".
func probeMD1(p *probe, offset int64, version string) bool {
	if !p.load(offset, mdRoles) || p.u(0, 4) != mdMagic || p.u(4, 4) != 1 || p.u(144, 8) != uint64(offset)>>9 {
		return false
	}
	roles := p.u(220, 4)
	if roles > (mdSize-mdRoles)/2 || !p.load(offset, mdRoles+2*int(roles)) || mdSum(p) != p.u(216, 4) {
		return false
	}
	p.uuid(16)
	p.subUUID(168)
	p.label(32, 32)
	p.version(version)
	return true
}

// mdSum returns the sum of a superblock's words without the sum itself, folded
// to 32 bits.
func mdSum(p *probe) uint64 {
	sum := -p.u(216, 4)
	for i := 0; i < len(p.b); i += 4 {
		// An odd number of roles leaves two bytes at the end.
		sum += p.u(i, min(4, len(p.b)-i))
	}
	return uint64(uint32(sum) + uint32(sum>>32))
}
