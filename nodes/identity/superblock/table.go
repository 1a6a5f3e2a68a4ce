package superblock

// Partition is a partition as the kernel describes it.
type Partition struct {
	Number int    // attribute partition
	Start  int64  // attribute start, in units of 512 bytes
	Size   int64  // attribute size, in units of 512 bytes
	Disk   string // number of the whole disk, "8:0"
}

// slot is a partition as its table describes it. Start and size are in units of
// 512 bytes.
type slot struct {
	number      int
	start, size int64
	flags       uint64
	kind        uint64 // in a table of MS-DOS
	entry       int64  // in a GPT: the offset of its entry on the disk
}

// table finds the partition table of the disk, sets p.slots to its partitions and
// returns its scheme: dos, gpt, PMBR
// where that is damaged, or "". With describe it adds the properties of
// the table and leaves out logical partitions, which cost reads.
func (p *probe) table(describe bool) (scheme string) {
	p.slots, p.big = nil, false
	uuid := ""
	switch {
	case p.hasMBR():
		scheme = "dos"
		if id := p.u(mbrID, 4); id != 0 {
			uuid = hex(id, 8)
		}
		for i := range 4 {
			if s := p.mbrSlot(i); s.size != 0 {
				p.slots = append(p.slots, s)
			}
		}
		for _, s := range p.slots {
			if isExtended(s.kind) && !describe {
				p.logical(s)
			}
		}
	case p.hasProtectiveMBR():
		if scheme = "PMBR"; p.loadGPT(1) || p.loadGPT(p.size/p.block-1) {
			scheme = "gpt"
			uuid = p.uuidOf(56, guidForm)
			p.gptSlots()
		}
	}
	p.Table = uuid
	if describe {
		p.add("ID_PART_TABLE_UUID", uuid)
		p.add("ID_PART_TABLE_TYPE", scheme)
	}
	return scheme
}

// inPartition reports whether a partition covers what lies from start to end, in
// bytes.
func (p *probe) inPartition(start, end int64) (inside bool) {
	p.table(false)
	for _, s := range p.slots {
		if s.start+s.size > p.size>>9 {
			return false // a table that is not of this disk
		}
		inside = inside || start>>9 >= s.start && end>>9 <= s.start+s.size
	}
	return inside
}

// Entry says what the partition table of a disk has about one of its partitions:
// ID_PART_ENTRY_*. It needs the contents of the whole disk. The result's UUID and
// Label are those for the links by-partuuid and by-partlabel, its Table is the table's own
// identity. A logical partition
// so far down the chain that reading it would cost too much is described by what
// the kernel says; its type and flags are missing.
func Entry(disk *Disk, part *Partition) (*Result, error) {
	p := newProbe(disk, tableSize)
	scheme := p.table(false)
	found := slot{number: part.Number, start: part.Start, size: part.Size}
	known := scheme == "dos" && part.Number >= firstLogical+maxLogical
	// The kernel makes an extended partition only as long as a boot loader needs, so that
	// nobody takes it for one to hold files.
	for _, s := range p.slots {
		if s.start == part.Start && (s.size == part.Size || isExtended(s.kind) && part.Size <= 1024) {
			found, known = s, true
			break
		}
	}
	if !known {
		return p.Result, p.err
	}
	kind := ""
	if p.load(found.entry, gptEntry); scheme == "gpt" {
		kind = p.uuidOf(0, guidForm)
		p.UUID = p.uuidOf(16, guidForm)
		p.Label = trimRight(utf16(p.cut(56, 72), false))
	} else {
		p.load(0, 512)
		if id := p.u(mbrID, 4); id != 0 {
			p.UUID = hex(id, 8) + "-" + hex(uint64(found.number), 2)
		}
		if found.kind != 0 {
			kind = "0x" + hex(found.kind, 1)
		}
	}
	p.add("ID_PART_ENTRY_SCHEME", scheme)
	p.add("ID_PART_ENTRY_NAME", Encode(p.Label))
	p.add("ID_PART_ENTRY_UUID", p.UUID)
	p.add("ID_PART_ENTRY_TYPE", kind)
	if found.flags != 0 {
		p.add("ID_PART_ENTRY_FLAGS", "0x"+hex(found.flags, 1))
	}
	p.add("ID_PART_ENTRY_NUMBER", decimal(uint64(found.number)))
	p.add("ID_PART_ENTRY_OFFSET", decimal(uint64(found.start)))
	p.add("ID_PART_ENTRY_SIZE", decimal(uint64(found.size)))
	p.add("ID_PART_ENTRY_DISK", part.Disk)
	return p.Result, p.err
}
