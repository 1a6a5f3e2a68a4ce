package superblock

import "errors"

// What one probe may read.
const (
	maxReads = 12
	maxBytes = 300 << 10

	// headSize is read at once: nearly all formats have their marks in it, the
	// last one is btrfs at 64 KiB.
	headSize = 68 << 10
)

// steps are the sizes of the areas that are skipped when reading the head fails.
// An error costs a page as a rule, and a large one is most likely at the begin.
var steps = [...]int64{4 << 10, 16 << 10, 32 << 10, headSize}

var errOutOfReads = errors.New("the limit of reads is reached")

// window is a part of the disk that was read.
type window struct {
	start int64
	bytes []byte
}

// probe is a probe of one disk.
type probe struct {
	Result
	disk    Disk
	size    int64 // bytes, a multiple of block
	block   int64
	windows []window
	read    int64 // up to here the disk was read from its begin, or could not be
	reads   int
	bytes   int64
	err     error
}

func newProbe(disk Disk) *probe {
	p := &probe{disk: disk, block: int64(disk.BlockSize)}
	if p.block < 512 || p.block > 64<<10 || p.block&(p.block-1) != 0 {
		p.block = 512
	}
	p.size = max(disk.Size, 0) &^ (p.block - 1)
	p.windows = make([]window, 0, maxReads)
	p.readHead()
	return p
}

// readHead reads the begin of the disk. It goes on behind blocks that cannot be
// read.
func (p *probe) readHead() {
	end := min((headSize+p.block-1)&^(p.block-1), p.size)
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
	if p.reads >= maxReads || p.bytes+length > maxBytes {
		p.fail(errOutOfReads)
		return nil
	}
	p.reads++
	p.bytes += length
	buf := make([]byte, length)
	n, err := p.disk.Contents.ReadAt(buf, start)
	n = min(max(n, 0), len(buf))
	if n < len(buf) {
		p.fail(err)
	}
	buf = buf[:n&^int(p.block-1)]
	if len(buf) > 0 {
		p.windows = append(p.windows, window{start, buf})
	}
	return buf
}

func (p *probe) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

// at returns n bytes at an offset of the disk, or nil if they are outside of it
// or cannot be read. The offset may come from the disk, n is the caller's.
func (p *probe) at(offset int64, n int) []byte {
	if offset < 0 || offset > p.size-int64(n) {
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

// upTo is at for n bytes or what the disk holds of them.
func (p *probe) upTo(offset int64, n int) []byte {
	if offset < 0 || offset >= p.size {
		return nil
	}
	return p.at(offset, int(min(int64(n), p.size-offset)))
}
