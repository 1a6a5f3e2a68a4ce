package initramfs

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// maxPath is the kernel's PATH_MAX. It skips an entry whose name and NUL are longer.
const maxPath = 4096

// trailer is the name of the record that ends an archive.
const trailer = "TRAILER!!!"

// record is the header of one entry.
type record struct {
	path         string
	kind, mode   uint32
	uid, gid     uint32
	major, minor uint32 // of a node
}

// body is what follows a header: size bytes, or none where there is no reader.
type body struct {
	io.ReadCloser
	size int64
}

// text returns the body that holds s: what a Text or the target of a link is.
func text(s string) body {
	return body{ReadCloser: io.NopCloser(strings.NewReader(s)), size: int64(len(s))}
}

// Archive writes the entries as one cpio archive in the newc format, which the
// kernel unpacks as it is. Entries are sorted by their paths, with those of
// missing parents added, numbered in that order, and have the time zero: equal
// entries make equal bytes.
//
// Of what it wrote before an error nothing can be used.
func Archive(w io.Writer, entries ...Entry) error { return ArchiveOf(w, 0, entries...) }

// ArchiveOf is Archive with another time for all entries, in seconds since 1970.
// The kernel keeps it only where it was built to (CONFIG_INITRAMFS_PRESERVE_MTIME).
func ArchiveOf(w io.Writer, seconds uint32, entries ...Entry) error {
	entries, err := complete(entries)
	if err != nil {
		return err
	}
	a := &archive{w: bufio.NewWriter(w), time: seconds}
	for _, e := range entries {
		if err := a.add(e); err != nil {
			return fmt.Errorf("%v: %w", e, err)
		}
	}
	// Its padding makes the archive a multiple of four bytes long, so another one may follow directly.
	a.header(record{path: trailer}, 0, 0)
	return a.w.Flush()
}

// complete returns the entries checked, sorted, and with their parents.
func complete(entries []Entry) ([]Entry, error) {
	have := make(map[string]Entry, len(entries))
	for _, e := range entries {
		r := e.record()
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("%v: %w", e, err)
		}
		if have[r.path] != nil {
			return nil, fmt.Errorf("%v: %w", e, ErrDuplicate)
		}
		have[r.path] = e
	}
	for _, e := range entries {
		if err := addParents(have, e); err != nil {
			return nil, err
		}
	}
	// The map has the entries of the caller and the parents that were added to it.
	all := make([]Entry, 0, len(have))
	for _, e := range have {
		all = append(all, e)
	}
	// A parent's path is the beginning of its children's, so it comes before them.
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.record().path, b.record().path) })
	return all, nil
}

// addParents adds to have the directories above e that are missing.
func addParents(have map[string]Entry, e Entry) error {
	path := e.record().path
	for i := strings.LastIndexByte(path, '/'); i > 0; i = strings.LastIndexByte(path, '/') {
		path = path[:i]
		parent := have[path]
		if parent == nil {
			have[path] = Dir{Path: path, Mode: 0o755}
		} else if parent.record().kind != typeDir {
			return fmt.Errorf("%v: %w", e, ErrParent)
		}
	}
	return nil
}

// check refuses what a header cannot say or a kernel would not unpack.
func (r record) check() error {
	if len(r.path)+1 > maxPath || strings.Contains(r.path, "\x00") || r.path == trailer {
		return ErrPath
	}
	for part := range strings.SplitSeq(r.path, "/") {
		if part == "" || part == "." || part == ".." {
			return ErrPath
		}
	}
	if r.mode > 0o7777 {
		return ErrMode
	}
	return nil
}

// archive writes records one after the other. Errors of w show at its Flush.
type archive struct {
	w     *bufio.Writer
	time  uint32 // of every record, in seconds since 1970
	count uint32 // of records: the next inode number is one more
	size  int64  // of all that was written, for padding
}

// add writes one entry.
func (a *archive) add(e Entry) error {
	b, err := e.body()
	if err != nil {
		return err
	}
	// A directory or a node. A file without bytes does have a reader.
	if b.ReadCloser == nil {
		a.header(e.record(), a.next(), 0)
		return nil
	}
	// The size is that at the moment of opening: what is appended to the file later stays out.
	defer b.Close()
	if b.size > math.MaxUint32 {
		return ErrTooBig
	}
	a.header(e.record(), a.next(), uint32(b.size))
	n, err := io.CopyN(a.w, b, b.size)
	a.size += n
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // the file shrank meanwhile
	}
	a.pad()
	return err
}

// next returns a new inode number, from 1. The trailer gets none, and has 0.
func (a *archive) next() uint32 {
	a.count++
	return a.count
}

// header writes the 110 bytes that describe a record, its name, and padding.
//
// Every record has one link: two or more would make the kernel look for the
// inode number's other names, and archives that are joined use numbers twice.
func (a *archive) header(r record, inode, size uint32) {
	name := r.path + "\x00"
	// In the order of the kernel's Documentation/driver-api/early-userspace/buffer-format.rst, each as eight
	// hexadecimal digits.
	fields := [...]uint32{
		inode, r.kind | r.mode, r.uid, r.gid, 1, a.time, // 1: links
		size, 0, 0, r.major, r.minor, // numbers of the device it is on, then its own
		uint32(len(name)), 0, // checksum: not in this format
	}
	a.print("070701")
	for _, f := range fields {
		a.print(fmt.Sprintf("%08X", f))
	}
	a.print(name)
	a.pad()
}

// print writes s and counts it. The bufio.Writer keeps an error until Flush, so none is looked at here.
func (a *archive) print(s string) {
	n, _ := a.w.WriteString(s)
	a.size += int64(n)
}

// pad fills up to a multiple of four bytes, where headers and bodies begin.
func (a *archive) pad() {
	a.print("\x00\x00\x00"[:-a.size&3])
}
