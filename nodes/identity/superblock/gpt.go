package superblock

// The GUID partition table, by the UEFI specification: a header in the second
// block and one in the last, each with an array of entries, all with a CRC.

const (
	gptMinHeader = 92
	gptEntry     = 128

	// maxGPT is how many bytes of entries are read: 1024 of them. There are 128
	// as a rule.
	maxGPT = 128 << 10
)

// gpt returns a header and its entries, the first that are sound, or nil.
func (p *probe) gpt() (header, entries []byte) {
	if !p.hasProtectiveMBR() {
		return nil, nil
	}
	last := p.size/p.block - 1
	for _, block := range [...]int64{1, last} {
		if header, entries = p.gptAt(block, uint64(last)); header != nil {
			return header, entries
		}
	}
	return nil, nil
}

// hasProtectiveMBR reports whether the first sector has a partition that keeps
// programs which do not know of GPT from taking the disk for empty.
func (p *probe) hasProtectiveMBR() bool {
	b := p.at(0, 512)
	if b == nil || b[510] != 0x55 || b[511] != 0xaa {
		return false
	}
	for at := mbrEntries + 4; at < 510; at += mbrEntry {
		if b[at] == mbrGPT {
			return true
		}
	}
	return false
}

func (p *probe) gptAt(block int64, last uint64) (header, entries []byte) {
	b := p.at(block*p.block, int(p.block))
	if b == nil || string(b[:8]) != "EFI PART" {
		return nil, nil
	}
	size := int64(le.Uint32(b[12:]))
	if size < gptMinHeader || size > p.block {
		return nil, nil
	}
	crc := crc32(^uint32(0), b[:16])
	crc = crc32(crc, []byte{0, 0, 0, 0}) // stands for the CRC itself
	crc = crc32(crc, b[20:size])
	low, high := le.Uint64(b[40:]), le.Uint64(b[48:]) // usable blocks
	if ^crc != le.Uint32(b[16:]) || le.Uint64(b[24:]) != uint64(block) ||
		high < low || high > last || low < uint64(block) && uint64(block) < high ||
		le.Uint32(b[84:]) != gptEntry {
		return nil, nil
	}
	start, count := le.Uint64(b[72:]), int64(le.Uint32(b[80:]))
	if start > last || count == 0 || count > maxGPT/gptEntry {
		return nil, nil
	}
	entries = p.at(int64(start)*p.block, int(count*gptEntry))
	if entries == nil || ^crc32(^uint32(0), entries) != le.Uint32(b[88:]) {
		return nil, nil
	}
	return b, entries
}

func (p *probe) gptSlots(header, entries []byte, f func(s slot) bool) {
	low, high := le.Uint64(header[40:]), le.Uint64(header[48:])
	unit := p.block / 512
	for i := 0; len(entries) >= gptEntry; i, entries = i+1, entries[gptEntry:] {
		start, end := le.Uint64(entries[32:]), le.Uint64(entries[40:])
		if allZero(entries[:16]) || start < low || end > high || end < start {
			continue
		}
		s := slot{
			number: i + 1,
			start:  int64(start) * unit,
			size:   int64(end-start+1) * unit,
			kind:   formatGUID(entries),
			flags:  le.Uint64(entries[48:]),
			name:   trimRight(decode(entries[56:128], utf16LE)),
		}
		if uuid := entries[16:32]; !allZero(uuid) {
			s.uuid = formatGUID(uuid)
		}
		if !f(s) {
			return
		}
	}
}
