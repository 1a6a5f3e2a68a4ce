package initramfs

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// item is what the tests' reader finds in an archive: a record and its body.
type item struct {
	record
	inode, links, mtime uint32
	data                string
}

// readArchive reads one archive and returns what follows its trailer. It takes
// nothing for granted that the format demands: magic, alignment, NULs.
func readArchive(archive []byte) (items []item, rest []byte, err error) {
	r := reader{all: archive, rest: archive}
	for {
		it, err := r.next()
		if err != nil {
			return nil, nil, fmt.Errorf("at %d: %w", len(archive)-len(r.rest), err)
		}
		if it.path == trailer {
			return items, r.rest, nil
		}
		items = append(items, it)
	}
}

type reader struct{ all, rest []byte }

func (r *reader) next() (item, error) {
	magic, err := r.take(6)
	if err != nil || string(magic) != "070701" {
		return item{}, fmt.Errorf("magic %q, %v", magic, err)
	}
	var f [13]uint32
	for i := range f {
		digits, err := r.take(8)
		if err != nil {
			return item{}, err
		}
		n, err := strconv.ParseUint(string(digits), 16, 32)
		if err != nil {
			return item{}, err
		}
		f[i] = uint32(n)
	}
	name, err := r.padded(f[11])
	if err != nil {
		return item{}, err
	}
	if i := bytes.IndexByte(name, 0); i < 0 || i != len(name)-1 {
		return item{}, fmt.Errorf("name %q does not end at its NUL", name)
	}
	data, err := r.padded(f[6])
	if err != nil {
		return item{}, err
	}
	return item{
		record: record{
			path: string(name[:len(name)-1]), kind: f[1] & typeMask, mode: f[1] &^ typeMask,
			uid: f[2], gid: f[3], major: f[9], minor: f[10],
		},
		inode: f[0], links: f[4], mtime: f[5], data: string(data),
	}, nil
}

// padded takes n bytes and the zeros up to the next multiple of four.
func (r *reader) padded(n uint32) ([]byte, error) {
	b, err := r.take(int(n))
	if err != nil {
		return nil, err
	}
	pad, err := r.take(-(len(r.all) - len(r.rest)) & 3)
	if err != nil || len(bytes.Trim(pad, "\x00")) > 0 {
		return nil, fmt.Errorf("padding %q, %v", pad, err)
	}
	return b, nil
}

func (r *reader) take(n int) ([]byte, error) {
	if n > len(r.rest) {
		return nil, errors.New("archive ends early")
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b, nil
}
