package initramfs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Header is what an archive says of one path.
type Header struct {
	Path         string // as it stands there: it may begin with "./" or "/"
	Mode         uint32 // file type and permission bits, as stat(2) has them
	UID, GID     uint32
	Major, Minor uint32 // of a node
	Size         int64  // of what Reader.Read gives, in bytes
	Time         uint32 // of the last change, in seconds since 1970
	Inode, Links uint32 // a file with several names has its bytes at one of them
}

// IsDir reports whether the path is a directory.
func (h Header) IsDir() bool { return h.Mode&typeMask == typeDir }

// IsFile reports whether the path is a regular file.
func (h Header) IsFile() bool { return h.Mode&typeMask == typeFile }

// IsSymlink reports whether the path is a symbolic link. Its target is what Read gives.
func (h Header) IsSymlink() bool { return h.Mode&typeMask == typeSymlink }

// IsNode reports whether the path is a device node, and of a block device.
func (h Header) IsNode() (node, block bool) {
	kind := h.Mode & typeMask
	return kind == typeChar || kind == typeBlock, kind == typeBlock
}

// ErrFormat is the error for bytes that are no archive in the newc format.
var ErrFormat = errors.New("not a cpio archive in the newc format")

// headerSize is the number of bytes before a record's name.
const headerSize = 110

// Reader reads one archive in the newc format, with or without checksums (magic
// 070701 and 070702; the sums are not checked, as the kernel does not).
//
// It takes from its source what the archive holds and not one byte more, so that
// what follows can be read from there.
type Reader struct {
	from *bufio.Reader
	at   int64 // bytes read, for padding
	left int64 // of the body that Next came to
	over bool  // the trailer was read
}

// NewReader returns a Reader that stands at the beginning of an archive.
func NewReader(from *bufio.Reader) *Reader { return &Reader{from: from} }

// Next goes to the next entry. At the archive's end it returns io.EOF; an archive
// that is cut off gives io.ErrUnexpectedEOF.
func (r *Reader) Next() (Header, error) {
	if r.over {
		return Header{}, io.EOF
	}
	if err := r.skip(r.left); err != nil {
		return Header{}, err
	}
	r.left = 0
	if err := r.align(); err != nil {
		return Header{}, err
	}
	h, err := r.header()
	if err != nil {
		return Header{}, fmt.Errorf("at byte %d of the archive: %w", r.at, err)
	}
	if h.Path == trailer {
		r.over = true
		// The trailer's body, which is of no use.
		if err := r.skip(h.Size); err != nil {
			return Header{}, err
		}
		return Header{}, io.EOF
	}
	r.left = h.Size
	return h, nil
}

// Read reads the body of the entry that Next came to.
func (r *Reader) Read(p []byte) (int, error) {
	// The padding behind the body is not part of it: the next Next skips that.
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.from.Read(p[:min(int64(len(p)), r.left)])
	r.at += int64(n)
	r.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// header reads the fields of a record and its name.
func (r *Reader) header() (Header, error) {
	var fixed [headerSize]byte
	if err := r.full(fixed[:]); err != nil {
		return Header{}, err
	}
	if magic := string(fixed[:6]); magic != "070701" && magic != "070702" {
		return Header{}, ErrFormat
	}
	var f [13]uint32
	for i := range f {
		n, err := strconv.ParseUint(string(fixed[6+8*i:14+8*i]), 16, 32)
		if err != nil {
			return Header{}, ErrFormat
		}
		f[i] = uint32(n)
	}
	// The fields by number: 0 inode, 1 mode, 2 and 3 owner, 4 links, 5 time, 6 size, 7 and 8 the device that it
	// is on, 9 and 10 the numbers of a node, 11 length of the name with its NUL, 12 checksum.
	if f[11] == 0 || f[11] > maxPath {
		return Header{}, ErrPath // the kernel takes no such name either
	}
	name := make([]byte, f[11])
	if err := r.full(name); err != nil {
		return Header{}, err
	}
	if err := r.align(); err != nil {
		return Header{}, err
	}
	// What stands behind the first NUL is no part of the name, to the kernel neither.
	name, _, ended := bytes.Cut(name, []byte{0})
	if !ended {
		return Header{}, ErrFormat
	}
	return Header{Path: string(name), Inode: f[0], Mode: f[1], UID: f[2], GID: f[3], Links: f[4], Time: f[5],
		Size: int64(f[6]), Major: f[9], Minor: f[10]}, nil
}

// full reads as many bytes as p has.
func (r *Reader) full(p []byte) error {
	n, err := io.ReadFull(r.from, p)
	r.at += int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// align goes to the next multiple of four.
func (r *Reader) align() error { return r.skip(-r.at & 3) }

// skip passes over n bytes. Where the source ends before that the archive is cut off.
func (r *Reader) skip(n int64) error {
	done, err := io.CopyN(io.Discard, r.from, n)
	r.at += done
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
