// Package superblock says what lies on a disk or partition: the type, version,
// label and UUID of its contents, its partition table, and for a partition its
// entry in the table of the disk. It answers as libblkid's safe probe does, in
// the properties that udev keeps (ID_FS_*, ID_PART_TABLE_*, ID_PART_ENTRY_*).
//
// It never opens a device, writes, trusts a length that the disk gives, or
// follows a pointer without a bound: a probe makes at most 12 reads of 300 KiB
// together, whatever the disk says.
//
// A format is a file with its row of the table in formats.go.
package superblock

// tinySize is the size in bytes of a floppy: up to it the first signature
// counts, and no RAID is looked for.
const tinySize = 1440 << 10

// Reader reads as io.ReaderAt does. Offsets and lengths are multiples of the
// disk's block size.
type Reader interface {
	ReadAt(p []byte, off int64) (n int, err error)
}

// Disk is a disk or partition to be probed.
type Disk struct {
	Contents  Reader
	Size      int64 // bytes
	BlockSize int   // logical block size in bytes; 512 where it is 0

	// Partition says that this is a part of a disk. On a whole disk a RAID
	// superblock that belongs to the last partition is passed over.
	Partition bool

	// Optical says that this is a CD or DVD drive: no RAID, swap or journal is
	// looked for.
	Optical bool
}

// Result is what a probe found.
type Result struct {
	// Properties holds KEY=VALUE in the order of libblkid, without newlines and
	// other control characters. It is nil if nothing was found.
	Properties []string

	// Type and Usage are the values of ID_FS_TYPE and ID_FS_USAGE: filesystem,
	// raid, crypto or other. The links by-uuid and by-label are for all but raid.
	Type, Usage string

	// Label and UUID are as they stand on the disk, without trailing blanks, and
	// to be encoded (see Encode) for a path. Entry puts the partition's here.
	Label, UUID string

	// Table is the identity of the partition table, as ID_PART_TABLE_UUID has it.
	Table string

	// Ambivalent says that there are several signatures which exclude each
	// other, so that nothing is said about the disk.
	Ambivalent bool
}

// Get returns the value of a property, or "".
func (r *Result) Get(key string) string {
	for _, property := range r.Properties {
		if n := len(key); len(property) > n && property[:n] == key && property[n] == '=' {
			return property[n+1:]
		}
	}
	return ""
}

// Probe says what lies on a disk or partition. The error is the first of those
// that reading met. A block that cannot be read costs only what lies in it: the
// result is valid in any case.
func Probe(disk *Disk) (*Result, error) {
	p := newProbe(disk, headSize)
	p.probe()
	return p.Result, p.err
}

// probe puts together what lies on the disk: contents, and a partition table beside them, where
// one does not rule out the other.
func (p *probe) probe() {
	if p.size <= tinySize && !p.disk.Partition && p.table(true) != "" {
		return // a small disk with a table has no file system beside it
	}
	f := p.superblock()
	if p.Ambivalent || f != nil && f.usage == raid && f.wiped == 0 {
		return
	}
	contents := p.Properties
	p.Properties = nil
	// What makes LVM and bcache members wipes the begin of the disk, so that a
	// table which lies there is younger. But an empty one is only boot code if
	// there is LVM.
	if p.table(true) == "dos" && f != nil && f.wiped > 0 {
		if f.usage != raid || len(p.slots) > 0 {
			p.Result = &Result{Properties: p.Properties}
			return
		}
		p.Properties = nil
	}
	p.Properties = append(contents, p.Properties...)
}

// superblock looks for every format and leaves in p.Result what is there. It
// returns the format, or nil.
func (p *probe) superblock() (found *format) {
	if p.size <= 1024 {
		return nil // an extended partition, say
	}
	first := &Result{}
	tiny := p.size <= tinySize
	count, exclusive := 0, false
	for _, f := range formats {
		if p.size < int64(f.minSize) || tiny && f.usage == raid ||
			p.disk.Optical && (f.usage == raid || f.usage == other) || !p.try(f) {
			continue
		}
		count++
		if found == nil {
			found, first = f, p.Result
		}
		if tiny || f.usage == raid || f.usage == crypto {
			break // what is inside lies at the same places
		}
		exclusive = exclusive || !f.tolerant
	}
	// Several formats were tried into p.Result; the first that was found counts, unless they
	// exclude each other.
	p.Result = first
	if count > 1 && exclusive {
		p.Result = &Result{Ambivalent: true}
	}
	return found
}

// try looks for one format. If it is there, p.Result holds it.
func (p *probe) try(f *format) bool {
	p.Result = &Result{Type: f.name, Usage: usages[f.usage]}
	p.big = f.big
	if !p.find(f.magics) || !f.probe(p) {
		return false
	}
	p.add("ID_FS_TYPE", p.Type)
	p.add("ID_FS_USAGE", p.Usage)
	return true
}

// find looks for the first of some marks that is on the disk. It finds one too
// where there are none to look for.
func (p *probe) find(magics []magic) bool {
	for _, m := range magics {
		if p.load(m.offset, len(m.bytes)) && p.is(0, m.bytes) {
			p.mark, p.markAt = m.bytes, m.offset
			return true
		}
	}
	return magics == nil
}
