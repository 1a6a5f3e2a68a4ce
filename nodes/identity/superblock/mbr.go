package superblock

// The partition table of MS-DOS in the first sector, and the chain of sectors
// that describe logical partitions.

const (
	mbrID      = 440 // identifies the disk
	mbrEntries = 446
	mbrEntry   = 16
	mbrEnd     = 510
	mbrMark    = "\x55\xaa"

	firstLogical = 5 // its number

	// maxLogical is how many logical partitions are looked at: each costs a read.
	maxLogical = 9

	mbrGPT = 0xee // type of the partition that stands for a GPT
)

// hasMBR loads the first sector and reports whether it has such a table. The boot
// sectors of some file systems look alike.
func (p *probe) hasMBR() bool {
	// isFAT goes by the mark that find leaves.
	fat := p.find(vfatFormat.magics)
	if !p.loadMBR(0) || p.is(0, "\xc9\xc2\xd4\xc1") { // the mark of AIX
		return false
	}
	if fat {
		if _, ok := isFAT(p); ok {
			return false
		}
	}
	// An entry begins with 0 or, if it is active, with 0x80. The code of a boot sector has
	// other bytes there. A partition that stands for a GPT is for hasProtectiveMBR.
	for at := mbrEntries; at < mbrEnd; at += mbrEntry {
		if p.u(at, 1)&0x7f != 0 || p.u(at+4, 1) == mbrGPT {
			return false
		}
	}
	contents := p.Result
	p.Result = &Result{}
	other := probeNTFS(p) || probeExFAT(p)
	p.Result = contents
	// The caller reads the table; the probes have loaded other structures.
	return !other && p.load(0, 512)
}

// loadMBR loads a sector and reports whether it has the mark of one with a table.
func (p *probe) loadMBR(offset int64) bool { return p.load(offset, 512) && p.is(mbrEnd, mbrMark) }

// mbrSlot returns one of the four entries of the loaded sector. Its size may be 0.
func (p *probe) mbrSlot(i int) slot {
	// The table counts in blocks of the disk, the kernel in units of 512 bytes.
	unit := p.block / 512
	at := mbrEntries + mbrEntry*i
	return slot{
		number: i + 1,
		start:  int64(p.u(at+8, 4)) * unit,
		size:   int64(p.u(at+12, 4)) * unit,
		flags:  p.u(at, 1),
		kind:   p.u(at+4, 1),
	}
}

// isExtended reports whether partitions of a type hold logical ones.
func isExtended(kind uint64) bool { return kind == 0x05 || kind == 0x0f || kind == 0x85 }

// logical adds the logical partitions of an extended one. Each lies behind a sector with a
// table of its own: an entry for the partition, counted from that sector, and one that leads to
// the next sector, counted from the begin of the extended partition.
func (p *probe) logical(extended slot) {
	at := extended
	for range maxLogical {
		if at.size == 0 || !p.loadMBR(at.start<<9) {
			return
		}
		next := slot{}
		for i := range 4 {
			s := p.mbrSlot(i)
			if isExtended(s.kind) {
				if next.size == 0 {
					next = slot{start: extended.start + s.start, size: s.size}
				}
				continue
			}
			end := s.start + s.size
			s.start += at.start
			// Only the first two entries are always in use.
			if s.size == 0 || i >= 2 && (end > at.size || s.start+s.size > extended.start+extended.size) {
				continue
			}
			s.number = max(p.slots[len(p.slots)-1].number+1, firstLogical)
			p.slots = append(p.slots, s)
		}
		at = next
	}
}
