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

import "strings"

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
	// Properties holds KEY=VALUE in the order of libblkid, without newlines
	// and NUL bytes. It is empty if nothing was found.
	Properties []string

	// Type and Usage are the values of ID_FS_TYPE and ID_FS_USAGE: filesystem,
	// raid, crypto or other. The links by-uuid and by-label are for all but raid.
	Type, Usage string

	// Label and UUID are as they stand on the disk, without trailing blanks, and
	// to be encoded (see Encode) for a path. Entry puts the partition's here.
	Label, UUID string

	// Ambivalent says that there are several signatures which exclude each
	// other, so that nothing is said about the disk.
	Ambivalent bool
}

// Get returns the value of a property, or "".
func (r Result) Get(key string) string {
	for _, property := range r.Properties {
		if name, value, _ := strings.Cut(property, "="); name == key {
			return value
		}
	}
	return ""
}

// add appends a property.
func (r *Result) add(key, value string) {
	r.Properties = append(r.Properties, key+"="+value)
}

// Probe says what lies on a disk or partition. The error is the first of those
// that reading met, a block that cannot be read costs only what lies in it: the
// result is valid in any case.
func Probe(disk Disk) (Result, error) {
	p := newProbe(disk)
	if p.size <= tinySize && !disk.Partition {
		// A small disk with a partition table holds no file system beside it.
		if p.table(); p.Properties != nil {
			return p.Result, p.err
		}
	}
	found := p.superblock()
	if p.Ambivalent {
		return p.Result, p.err
	}
	if found == nil || found.usage != raid || found.wiped > 0 {
		contents := p.Result
		p.Result = Result{}
		scheme := p.table()
		// What makes LVM and bcache members wipes the begin of the disk, so
		// that a table which lies there is younger.
		if found == nil || scheme != "dos" || found.wiped == 0 {
			contents.Properties = append(contents.Properties, p.Properties...)
			p.Result = contents
		}
	}
	return p.Result, p.err
}

// superblock looks for every format and leaves in p.Result what is there. It
// returns the format, or nil.
func (p *probe) superblock() (found *format) {
	if p.size <= 1024 {
		return nil // an extended partition, say
	}
	var first Result
	tiny := p.size <= tinySize
	count, exclusive := 0, false
	for _, f := range formats {
		if p.size < f.minSize || tiny && f.usage == raid ||
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
	p.Result = first
	if count > 1 && exclusive {
		p.Result = Result{Ambivalent: true}
		return nil
	}
	return found
}

// try looks for one format. If it is there, p.Result holds it.
func (p *probe) try(f *format) bool {
	magic, ok := p.find(f)
	if !ok {
		return false
	}
	p.Result = Result{Type: f.name, Usage: f.usage}
	if !f.probe(p, magic) {
		p.Result = Result{}
		return false
	}
	p.add("ID_FS_TYPE", p.Type)
	p.add("ID_FS_USAGE", p.Usage)
	return true
}

// find returns the first magic of a format that is on the disk.
func (p *probe) find(f *format) (magic, bool) {
	for _, m := range f.magics {
		if string(p.at(m.offset, len(m.bytes))) == m.bytes {
			return m, true
		}
	}
	return magic{}, f.magics == nil
}
