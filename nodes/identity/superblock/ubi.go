package superblock

// UBI and UBIFS: ubi-media.h and ubifs-media.h of Linux.

var (
	ubiFormat   = format{name: "ubi", usage: raid, big: true, magics: []magic{{0, "UBI#"}}, probe: probeUBI}
	ubifsFormat = format{name: "ubifs", usage: filesystem, magics: []magic{{0, "\x31\x18\x10\x06"}}, probe: probeUBIFS}
)

// probeUBI reads the header of the first eraseblock. The sequence number of the image stands
// for a UUID; 0 is what older tools write.
func probeUBI(p *probe) bool {
	if !p.load(0, 64) {
		return false
	}
	p.version(decimal(p.u(4, 1)))
	if sequence := p.u(24, 4); sequence != 0 {
		p.setUUID(decimal(sequence))
	}
	return true
}

// probeUBIFS checks the CRC over the node, from which its type and all that follows is read.
func probeUBIFS(p *probe) bool {
	const superblockNode = 6
	if !p.load(0, 4096) || p.u(20, 1) != superblockNode ||
		p.u(4, 4) != p.crc32(0xffffffff, 8, 4096-8) {
		return false
	}
	p.uuid(108)
	p.sizes(0, 0, p.u(36, 4)*p.u(40, 4))
	p.version("w" + decimal(p.u(80, 4)) + "r" + decimal(p.u(124, 4)))
	return true
}
