package superblock

// What one probe may read.
const (
	maxReads = 12
	maxBytes = 300 << 10

	// headSize is read at once: nearly all formats have their marks in it, the
	// last one is btrfs at 64 KiB.
	headSize = 68 << 10

	// tableSize is enough of it for the table of partitions.
	tableSize = 24 << 10
)

// steps are the sizes of the areas that are skipped when reading the head fails.
// An error costs a page as a rule, and a large one is most likely at the begin.
var steps = [...]int64{4 << 10, 16 << 10, 32 << 10, headSize}

// limitError says that a disk would have had more to be read.
type limitError struct{}

func (limitError) Error() string { return "the limit of reads is reached" }

// window is a part of the disk that was read.
type window struct {
	start int64
	bytes []byte
}

// probe is a probe of one disk. It has a method for each way to read, and for each kind of value
// that formats share; a format is a function that calls these.
type probe struct {
	*Result
	disk    *Disk
	size    int64    // bytes, a multiple of block
	block   int64    // bytes, a power of two from 512 to 64 KiB
	windows []window // in the order in which they were read
	read    int64    // up to here the disk was read from its begin, or could not be
	reads   int      // so far; limited by maxReads
	bytes   int64    // that were asked for; limited by maxBytes
	err     error    // the first one

	// The structure that is looked at, and whether its numbers are big endian.
	b   []byte
	big bool

	// The mark that was found, and its offset on the disk.
	mark   string
	markAt int64

	slots []slot // the partitions that table found
}

// newProbe reads the begin of a disk.
func newProbe(disk *Disk, head int64) *probe {
	p := &probe{Result: &Result{}, disk: disk, block: int64(disk.BlockSize)}
	// What no disk has. Offsets are cut to blocks by masks, which takes a power of two.
	if p.block < 512 || p.block > 64<<10 || p.block&(p.block-1) != 0 {
		p.block = 512
	}
	p.size = max(disk.Size, 0) &^ (p.block - 1)
	p.readHead(head)
	return p
}

// readHead reads the begin of the disk. It goes on behind blocks that cannot be
// read.
func (p *probe) readHead(size int64) {
	end := min((size+p.block-1)&^(p.block-1), p.size)
	for _, step := range steps {
		if p.read >= end {
			return
		}
		p.read += int64(len(p.readWindow(p.read, end-p.read)))
		if p.read < end {
			step = max(step, p.block)
			p.read = min(p.read/step*step+step, end)
		}
	}
	p.read = end
}

// readWindow reads a part of the disk, both ends of which are multiples of the
// block size, and returns what could be read, in whole blocks.
func (p *probe) readWindow(start, length int64) []byte {
	err, n, buf := error(limitError{}), 0, []byte(nil)
	// A disk decides by what it holds where is read next, so the number is limited here, once
	// for all formats.
	if p.reads < maxReads && p.bytes+length <= maxBytes {
		p.reads++
		p.bytes += length
		buf = make([]byte, length)
		n, err = p.disk.Contents.ReadAt(buf, start)
		if n >= len(buf) {
			err = nil
		}
	}
	if p.err == nil {
		p.err = err
	}
	buf = buf[:min(max(n, 0), len(buf))&^int(p.block-1)]
	p.windows = append(p.windows, window{start, buf})
	return buf
}

// at returns n bytes at an offset of the disk, or nil if they are outside of it
// or cannot be read. The offset may come from the disk, n is bounded by the
// caller.
func (p *probe) at(offset int64, n int) []byte {
	if offset < 0 || n <= 0 || offset > p.size-int64(n) {
		return nil
	}
	end := offset + int64(n)
	for _, w := range p.windows {
		if offset >= w.start && end <= w.start+int64(len(w.bytes)) {
			return w.bytes[offset-w.start:][:n:n]
		}
	}
	if end <= p.read {
		return nil // could not be read, or fails in part
	}
	start := offset &^ (p.block - 1)
	b := p.readWindow(start, (end-start+p.block-1)&^(p.block-1))
	if end > start+int64(len(b)) {
		return nil
	}
	return b[offset-start:][:n:n]
}

// load makes n bytes at an offset of the disk the structure that is looked at.
func (p *probe) load(offset int64, n int) bool {
	p.b = p.at(offset, n)
	return p.b != nil
}

// loadUpTo is load for n bytes or what the disk holds of them.
func (p *probe) loadUpTo(offset, n int64) bool {
	return p.load(offset, int(min(n, p.size-offset)))
}

// u returns the number of size bytes at an offset of the structure. What lies
// outside of it is 0.
func (p *probe) u(offset, size int) (n uint64) {
	for i, c := range p.cut(offset, size) {
		if p.big {
			n = n<<8 | uint64(c)
		} else {
			n |= uint64(c) << (8 * i)
		}
	}
	return n
}

// cut returns n bytes at an offset of the structure, or nil if they are not in
// it.
func (p *probe) cut(offset, n int) []byte {
	if offset < 0 || n < 0 || offset > len(p.b)-n {
		return nil
	}
	return p.b[offset:][:n]
}

// is reports whether s lies at an offset of the structure.
func (p *probe) is(offset int, s string) bool { return string(p.cut(offset, len(s))) == s }

// zero reports whether n bytes at an offset of the structure are 0.
func (p *probe) zero(offset, n int) bool {
	for _, c := range p.cut(offset, n) {
		if c != 0 {
			return false
		}
	}
	return true
}

// crc32 updates a CRC of the polynomial 0xedb88320 with n bytes at an offset of
// the structure, without inverting it.
func (p *probe) crc32(crc uint64, offset, n int) uint64 {
	for _, c := range p.cut(offset, n) {
		crc ^= uint64(c)
		for range 8 {
			crc = crc>>1 ^ -(crc&1)&0xedb88320
		}
	}
	return crc
}
