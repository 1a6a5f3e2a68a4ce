package superblock

// XFS: xfs_format.h of Linux, big endian.

var xfsFormat = format{
	name: "xfs", usage: filesystem,
	magics: []magic{{0, "XFSB"}},
	probe: func(p *probe, _ magic) bool {
		b := p.at(0, 200)
		if b == nil || !xfsIsSane(b) {
			return false
		}
		block, blocks := uint64(be.Uint32(b[4:])), be.Uint64(b[8:])
		used := uint64(0) // by the log, if it is not on another disk
		if be.Uint64(b[48:]) != 0 {
			used = uint64(be.Uint32(b[96:]))
		}
		p.setLabel(b[108:120])
		p.setUUID(b[32:])
		p.setSize((blocks - used) * block)
		p.setLastBlock(blocks)
		p.setBlockSize(block)
		return true
	},
}

// xfsIsSane checks what is said twice in the superblock of XFS, and limits.
func xfsIsSane(b []byte) bool {
	sector, sectorLog := uint32(be.Uint16(b[102:])), b[121]
	block, blockLog := be.Uint32(b[4:]), b[120]
	inode, inodeLog := uint32(be.Uint16(b[104:])), b[122]
	extent := uint64(be.Uint32(b[80:])) * uint64(block)
	groupBlocks, groups := uint64(be.Uint32(b[84:])), uint64(be.Uint32(b[88:]))
	blocks := be.Uint64(b[8:])
	return sectorLog >= 9 && sectorLog <= 15 && sector == 1<<sectorLog &&
		blockLog >= 9 && blockLog <= 16 && block == 1<<blockLog &&
		inodeLog >= 8 && inodeLog <= 11 && inode == 1<<inodeLog &&
		blockLog-inodeLog == b[123] &&
		extent >= 4<<10 && extent <= 1<<30 && b[127] <= 100 &&
		groups > 0 && blocks != 0 && blocks <= groups*groupBlocks &&
		blocks >= (groups-1)*groupBlocks+64
}
