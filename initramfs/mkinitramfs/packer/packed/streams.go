package packed

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The decompressors for these formats read ahead, or want the end of the file behind
// the stream. So the readers here follow a stream's structure without decompressing
// it, and end where it ends.

var errStream = errors.New("broken stream")

// parts gives the bytes of a stream, as its structure is found out step by step.
type parts struct {
	ready []byte // read already, to be given
	left  int64  // to be given from the source after that
	over  bool
}

// read gives bytes; where none are left it calls next, which sets what follows.
func (s *parts) read(p []byte, from *bufio.Reader, next func() error) (int, error) {
	for len(s.ready) == 0 && s.left == 0 {
		if s.over {
			return 0, io.EOF
		}
		if err := next(); err == io.EOF {
			return 0, io.ErrUnexpectedEOF
		} else if err != nil {
			return 0, err
		}
	}
	if len(s.ready) > 0 {
		n := copy(p, s.ready)
		s.ready = s.ready[n:]
		return n, nil
	}
	n, err := from.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// take reads n bytes, which it keeps to be given, and returns them.
func (s *parts) take(from *bufio.Reader, n int) ([]byte, error) {
	at := len(s.ready)
	s.ready = append(s.ready, make([]byte, n)...)
	_, err := io.ReadFull(from, s.ready[at:])
	return s.ready[at:], err
}

// frame is one frame of zstd (RFC 8878, section 3.1.1).
type frame struct {
	from *bufio.Reader
	parts
	begun, last, sum bool
}

func (f *frame) Read(p []byte) (int, error) { return f.read(p, f.from, f.next) }

func (f *frame) next() error {
	f.ready = nil
	switch {
	case !f.begun:
		f.begun = true
		return f.header()
	case !f.last:
		b, err := f.take(f.from, 3)
		if err != nil {
			return err
		}
		head := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
		f.last = head&1 != 0
		f.left = int64(head >> 3)
		switch head >> 1 & 3 {
		case 1: // one byte, repeated
			f.left = 1
		case 3:
			return errStream
		}
	case f.sum:
		f.sum = false
		_, err := f.take(f.from, 4)
		return err
	default:
		f.over = true
	}
	return nil
}

func (f *frame) header() error {
	b, err := f.take(f.from, 5)
	if err != nil {
		return err
	}
	flags := b[4]
	f.sum = flags&4 != 0
	single := flags>>5&1 == 1
	size := [4]int{0, 1, 2, 4}[flags&3] // of the dictionary's number
	size += [4]int{0, 2, 4, 8}[flags>>6]
	if single && flags>>6 == 0 {
		size++ // a length of one byte
	}
	if !single {
		size++ // the window
	}
	_, err = f.take(f.from, size)
	return err
}

// lz4Stream is the legacy format, the only one that the kernel knows: blocks with
// their lengths in front, up to the end or to what cannot be a length.
type lz4Stream struct {
	from *bufio.Reader
	parts
	begun bool
}

// lz4Block is the most that a block of 8 MiB can take.
const lz4Block = 8<<20 + 8<<20/255 + 16

func (l *lz4Stream) Read(p []byte) (int, error) { return l.read(p, l.from, l.next) }

func (l *lz4Stream) next() error {
	l.ready = nil
	// The magic number.
	if !l.begun {
		l.begun = true
		_, err := l.take(l.from, 4)
		return err
	}
	head, err := l.from.Peek(4)
	if err != nil || binary.LittleEndian.Uint32(head) == 0 || binary.LittleEndian.Uint32(head) > lz4Block {
		l.over = true
		return nil
	}
	l.left = int64(binary.LittleEndian.Uint32(head))
	_, err = l.take(l.from, 4)
	return err
}

// xzStream is one stream of xz (The .xz File Format, sections 2 to 4).
type xzStream struct {
	from *bufio.Reader
	parts
	begun, block, ended bool
	check               int   // bytes of the checksum behind each block
	size                int64 // of the current block so far, without its header
}

func (x *xzStream) Read(p []byte) (int, error) { return x.read(p, x.from, x.next) }

func (x *xzStream) next() error {
	x.ready = nil
	switch {
	case x.ended:
		x.over = true
		return nil
	case !x.begun:
		x.begun = true
		b, err := x.take(x.from, 12)
		if err != nil {
			return err
		}
		// The low four bits of the stream's flags name the kind of checksum.
		x.check = [16]int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}[b[7]&15]
		return nil
	case x.block:
		return x.chunk()
	}
	b, err := x.take(x.from, 1)
	if err != nil {
		return err
	}
	if b[0] == 0 {
		return x.index()
	}
	x.block, x.size = true, 0
	return x.blockHeader(int(b[0]))
}

// blockHeader takes the rest of a block's header. The last filter of every file that
// xz writes is LZMA2, whose chunks follow.
func (x *xzStream) blockHeader(size int) error {
	_, err := x.take(x.from, (size+1)*4-1)
	return err
}

// chunk takes the head of a chunk of LZMA2.
func (x *xzStream) chunk() error {
	b, err := x.take(x.from, 1)
	if err != nil {
		return err
	}
	x.size++
	control := b[0]
	switch {
	// The end of the block: padding, and its checksum.
	case control == 0:
		x.block = false
		_, err := x.take(x.from, int(-x.size&3)+x.check)
		return err
	case control == 1 || control == 2:
		if b, err = x.take(x.from, 2); err != nil {
			return err
		}
		x.left = int64(binary.BigEndian.Uint16(b)) + 1
		x.size += 2 + x.left
	case control >= 0x80:
		if b, err = x.take(x.from, 4); err != nil {
			return err
		}
		x.left = int64(binary.BigEndian.Uint16(b[2:])) + 1
		if control >= 0xc0 {
			x.left++ // new properties
		}
		x.size += 4 + x.left
	default:
		return fmt.Errorf("%w: a filter that is not LZMA2 comes last", errStream)
	}
	return nil
}

// index takes the index, whose first byte is taken, and the footer.
func (x *xzStream) index() error {
	x.ended = true
	size := int64(1)
	number := func() (n uint64, err error) {
		for shift := 0; shift < 63; shift += 7 {
			b, err := x.take(x.from, 1)
			if err != nil {
				return 0, err
			}
			size++
			n |= uint64(b[0]&0x7f) << shift
			if b[0]&0x80 == 0 {
				return n, nil
			}
		}
		return 0, errStream
	}
	records, err := number()
	for ; err == nil && records > 0; records-- {
		if _, err = number(); err == nil {
			_, err = number()
		}
	}
	if err == nil {
		_, err = x.take(x.from, int(-size&3)+4+12)
	}
	return err
}
