package superblock

// The GUID partition table, by the UEFI specification: a header in the second
// block and one in the last, each with an array of entries, all with a CRC.

const (
	gptMinHeader = 92  // bytes
	gptEntry     = 128 // as in the kernel, which takes entries of no other size (block/partitions/efi.c)

	// maxGPT is how many entries are read. There are 128 as a rule.
	maxGPT = 1024
)

// hasProtectiveMBR reports whether the first sector has a partition which keeps
// programs that do not know of GPT from taking the disk for empty.
func (p *probe) hasProtectiveMBR() bool {
	found := false
	if p.loadMBR(0) {
		for i := range 4 {
			found = found || p.mbrSlot(i).kind == mbrGPT
		}
	}
	return found
}

// loadGPT loads the header in a block and reports whether it and its entries are
// sound.
func (p *probe) loadGPT(block int64) bool {
	last := uint64(p.size/p.block - 1)
	if !p.load(block*p.block, int(p.block)) || !p.is(0, "EFI PART") {
		return false
	}
	size := p.u(12, 4)
	low, high := p.u(40, 8), p.u(48, 8) // usable blocks
	start, count, crc := p.u(72, 8), p.u(80, 4), p.u(88, 4)
	// A header says where it lies itself. One that lies within the blocks for partitions is
	// none.
	if size < gptMinHeader || size > uint64(p.block) || p.u(24, 8) != uint64(block) ||
		high < low || high > last || low < uint64(block) && uint64(block) < high ||
		p.u(84, 4) != gptEntry || start > last || count == 0 || count > maxGPT {
		return false
	}
	sum := p.crc32(0xffffffff, 0, 16)
	for range 32 {
		sum = sum>>1 ^ -(sum&1)&0xedb88320 // zeroes stand for the CRC itself
	}
	if p.crc32(sum, 20, int(size)-20)^0xffffffff != p.u(16, 4) {
		return false
	}
	// The structure that is looked at is the header again when the entries were checked.
	header := p.b
	sound := p.load(int64(start)*p.block, int(count)*gptEntry) &&
		p.crc32(0xffffffff, 0, len(p.b))^0xffffffff == crc
	p.b = header
	return sound
}

// gptSlots adds the partitions of a header that is loaded. An entry takes its place, so what the header
// says is read first.
func (p *probe) gptSlots() {
	low, high, count, unit := p.u(40, 8), p.u(48, 8), int(p.u(80, 4)), p.block/512
	offset := int64(p.u(72, 8)) * p.block
	for i := range count {
		p.load(offset, gptEntry)
		start, end := p.u(32, 8), p.u(40, 8)
		// An entry without a type is not in use.
		if !p.zero(0, 16) && start >= low && end <= high && start <= end {
			p.slots = append(p.slots, slot{
				number: i + 1, entry: offset, flags: p.u(48, 8),
				start: int64(start) * unit, size: int64(end-start+1) * unit,
			})
		}
		offset += gptEntry
	}
}
