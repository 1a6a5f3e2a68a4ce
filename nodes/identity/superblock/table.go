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
	number            int
	start, size       int64
	kind, uuid, name  string
	flags             uint64
	extended, logical bool
}

// table adds the partition table of the disk and returns its scheme, dos or gpt,
// or "".
func (p *probe) table() string {
	if b := p.mbr(); b != nil {
		if id := le.Uint32(b[mbrID:]); id != 0 {
			p.add("ID_PART_TABLE_UUID", hex(uint64(id), 8))
		}
		p.add("ID_PART_TABLE_TYPE", "dos")
		return "dos"
	}
	if header, _ := p.gpt(); header != nil {
		p.add("ID_PART_TABLE_UUID", formatGUID(header[56:]))
		p.add("ID_PART_TABLE_TYPE", "gpt")
		return "gpt"
	}
	return ""
}

// slots calls f for each partition of the disk until it returns false.
func (p *probe) slots(f func(s slot) bool) (scheme string) {
	if b := p.mbr(); b != nil {
		p.mbrSlots(b, f)
		return "dos"
	}
	if header, entries := p.gpt(); header != nil {
		p.gptSlots(header, entries, f)
		return "gpt"
	}
	return ""
}

// inPartition reports whether a partition covers what lies from start to end, in
// bytes. Logical partitions need not be asked: the extended one covers them.
func (p *probe) inPartition(start, end int64) bool {
	inside := false
	p.slots(func(s slot) bool {
		if s.logical {
			return false
		}
		if s.start+s.size > p.size>>9 {
			inside = false // a table that is not of this disk
			return false
		}
		inside = inside || start>>9 >= s.start && end>>9 <= s.start+s.size
		return true
	})
	return inside
}

// Entry says what the partition table of a disk has about one of its partitions:
// ID_PART_ENTRY_*. It needs the contents of the whole disk. The result's UUID and
// Label are those for the links by-partuuid and by-partlabel. A logical partition
// so far down the chain that reading it would cost too much is described by what
// the kernel says; its type and flags are missing.
func Entry(disk Disk, part Partition) (Result, error) {
	p := newProbe(disk)
	var found slot
	scheme := p.slots(func(s slot) bool {
		if s.start == part.Start && (s.size == part.Size || s.extended && part.Size <= 1024) {
			found = s
		}
		return found.number == 0
	})
	if found.number == 0 {
		if scheme != "dos" || part.Number < firstLogical+maxLogical {
			return Result{}, p.err
		}
		found = slot{number: part.Number, start: part.Start, size: part.Size}
	}
	p.Result = Result{Label: found.name, UUID: found.uuid}
	if scheme == "dos" {
		p.UUID = ""
		if id := le.Uint32(p.at(0, 512)[mbrID:]); id != 0 {
			p.UUID = hex(uint64(id), 8) + "-" + hex(uint64(found.number), 2)
		}
	}
	p.add("ID_PART_ENTRY_SCHEME", scheme)
	p.addUnlessEmpty("ID_PART_ENTRY_NAME", Encode(p.Label))
	p.addUnlessEmpty("ID_PART_ENTRY_UUID", p.UUID)
	p.addUnlessEmpty("ID_PART_ENTRY_TYPE", found.kind)
	if found.flags != 0 {
		p.add("ID_PART_ENTRY_FLAGS", "0x"+hex(found.flags, 1))
	}
	p.add("ID_PART_ENTRY_NUMBER", decimal(uint64(found.number)))
	p.add("ID_PART_ENTRY_OFFSET", decimal(uint64(found.start)))
	p.add("ID_PART_ENTRY_SIZE", decimal(uint64(found.size)))
	p.addUnlessEmpty("ID_PART_ENTRY_DISK", part.Disk)
	return p.Result, p.err
}

func (p *probe) addUnlessEmpty(key, value string) {
	if value != "" {
		p.add(key, value)
	}
}
