package superblock

// XFS: xfs_format.h of Linux.

var xfsFormat = format{name: "xfs", usage: filesystem, big: true, magics: []magic{{0, "XFSB"}}, probe: probeXFS}

// probeXFS takes a superblock whose numbers agree with each other. The checksum, which version 5 alone
// has, is not looked at.
func probeXFS(p *probe) bool {
	if !p.load(0, 200) {
		return false
	}
	block, blocks := p.u(4, 4), p.u(8, 8)
	extent := p.u(80, 4) * block
	groupBlocks, groups := p.u(84, 4), p.u(88, 4)
	blockLog, sectorLog, inodeLog := p.u(120, 1), p.u(121, 1), p.u(122, 1)
	// The numbers are unsigned, so that one comparison rules out what is below the range and
	// above it. The mark has four bytes of ASCII, which other contents may begin with: hence so
	// many checks.
	if sectorLog-9 > 15-9 || p.u(102, 2) != 1<<sectorLog ||
		blockLog-9 > 16-9 || block != 1<<blockLog ||
		inodeLog-8 > 11-8 || p.u(104, 2) != 1<<inodeLog || blockLog-inodeLog != p.u(123, 1) ||
		extent < 4<<10 || extent > 1<<30 || p.u(127, 1) > 100 || // the last one is a percentage
		groups == 0 || blocks > groups*groupBlocks || blocks < (groups-1)*groupBlocks+64 { // 64 is XFS_MIN_AG_BLOCKS
		return false
	}
	p.label(108, 12)
	p.uuid(32)
	used := p.u(96, 4) // by the log
	if p.u(48, 8) == 0 {
		used = 0 // it is on another disk
	}
	p.sizes(block, blocks, (blocks-used)*block)
	return true
}
