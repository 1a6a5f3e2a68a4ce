package superblock

// The partition table of MS-DOS in the first sector, and the chain of sectors
// that describe logical partitions.

const (
	mbrID      = 440 // identifies the disk
	mbrEntries = 446
	mbrEntry   = 16

	firstLogical = 5 // its number

	// maxLogical is how many logical partitions are looked at: each costs a read.
	maxLogical = 9

	mbrGPT = 0xee // type of the partition that stands for a GPT
)

// mbrSlot returns one of the four entries of a sector, with numbers from it. The
// unit is the number of 512 bytes in a logical block.
func mbrSlot(b []byte, i int, unit int64) slot {
	e := b[mbrEntries+i*mbrEntry:]
	return slot{
		flags:    uint64(e[0]),
		kind:     "0x" + hex(uint64(e[4]), 1),
		start:    int64(le.Uint32(e[8:])) * unit,
		size:     int64(le.Uint32(e[12:])) * unit,
		extended: e[4] == 0x05 || e[4] == 0x0f || e[4] == 0x85,
	}
}

// mbr returns the first sector, if it has such a table. The boot sectors of some
// file systems look alike.
func (p *probe) mbr() []byte {
	b := p.at(0, 512)
	if b == nil || b[510] != 0x55 || b[511] != 0xaa || string(b[:4]) == "\xc9\xc2\xd4\xc1" {
		return nil // the last is the mark of AIX
	}
	if m, ok := p.find(&vfatFormat); ok {
		if _, ok := fatGeometry(b, m); ok {
			return nil
		}
	}
	if _, _, _, ok := ntfsGeometry(b); ok && string(b[3:11]) == ntfsName || exfatIsSane(b) {
		return nil
	}
	for at := mbrEntries; at < 510; at += mbrEntry {
		if b[at]&0x7f != 0 || b[at+4] == mbrGPT {
			return nil
		}
	}
	return b
}

func (p *probe) mbrSlots(b []byte, f func(s slot) bool) {
	unit := p.block / 512
	for i := range 4 {
		s := mbrSlot(b, i, unit)
		s.number = i + 1
		if s.size != 0 && !f(s) {
			return
		}
	}
	number := firstLogical
	for i := range 4 {
		if s := mbrSlot(b, i, unit); s.size != 0 && s.extended {
			number = p.logicalSlots(s, number, f)
			if number == 0 {
				return
			}
		}
	}
}

// logicalSlots follows the chain in an extended partition. It returns the number
// of the next partition, or 0 if no other is wanted.
func (p *probe) logicalSlots(extended slot, number int, f func(s slot) bool) int {
	unit := p.block / 512
	at := extended
	for range maxLogical {
		b := p.at(at.start<<9, 512)
		if b == nil || b[510] != 0x55 || b[511] != 0xaa {
			break
		}
		next := slot{}
		for i := range 4 {
			s := mbrSlot(b, i, unit)
			if s.size == 0 {
				continue
			}
			if s.extended {
				if next.size == 0 {
					next = slot{start: extended.start + s.start, size: s.size}
				}
				continue
			}
			// Only the first two entries are always in use.
			inside := s.start+s.size <= at.size && at.start+s.start+s.size <= extended.start+extended.size
			if s.start += at.start; i >= 2 && !inside {
				continue
			}
			s.number, s.logical = number, true
			if !f(s) {
				return 0
			}
			number++
		}
		if next.size == 0 {
			break
		}
		at = next
	}
	return number
}
