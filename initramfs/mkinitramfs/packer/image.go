package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"devspool/initramfs"
	"devspool/initramfs/mkinitramfs/packer/packed"
)

// place is where an entry stands in an image. Two entries belong to one file only within an archive.
type place struct {
	packed.Segment
	archive int // its number in the image, from 0
}

// walk calls f with every entry of an image, in the order in which the kernel unpacks
// them, and what follows the entry's header. An image is a row of archives: each segment is an
// archive that is not compressed, or a compressed stream of one or more. An error of f ends the
// walk and is returned.
func walk(from io.Reader, f func(p place, h initramfs.Header, body io.Reader) error) error {
	archives := 0
	return packed.NewReader(from).Each(func(s packed.Segment, unpacked *bufio.Reader) error {
		for {
			if err := walkArchive(place{s, archives}, unpacked, f); err != nil {
				return err
			}
			archives++
			if s.Format == "cpio" {
				return nil // the next segment is not ours to look at
			}
			if more, err := skipPadding(unpacked); err != nil || !more {
				return err
			}
		}
	})
}

// walkArchive is walk for one archive, up to its trailer.
func walkArchive(p place, from *bufio.Reader, f func(place, initramfs.Header, io.Reader) error) error {
	r := initramfs.NewReader(from)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f(p, h, r); err != nil {
			return err
		}
	}
}

// skipPadding goes over zeros, and reports whether anything follows: writers fill up archives to whole
// blocks.
func skipPadding(from *bufio.Reader) (more bool, err error) {
	for {
		b, err := from.ReadByte()
		if err == io.EOF {
			return false, nil
		}
		if err != nil || b != 0 {
			return true, from.UnreadByte()
		}
	}
}

// header is an entry of an image, with where it stands.
type header struct {
	initramfs.Header
	place
	number int       // of the entry, from 0
	target string    // of a symbolic link
	data   *fileData // of a file; its other names have the same
}

// fileData is what a file holds: the bytes of the entry with this number.
type fileData struct{ number int }

// image is what the kernel makes of an image: for each path, without a slash in front,
// the last entry of it, since that overwrites those before it.
type image map[string]header

// maxTarget is the longest target of a link that the kernel takes.
const maxTarget = 4096

// readImage reads the entries of an image.
func readImage(from io.Reader) (image, error) {
	all := image{}
	number, names := 0, map[name]*fileData{}
	err := walk(from, func(p place, h initramfs.Header, body io.Reader) error {
		e := header{Header: h, place: p, number: number}
		number++
		if h.IsSymlink() {
			// A size in the header of an untrusted image bounds nothing.
			target, err := io.ReadAll(io.LimitReader(body, maxTarget+1))
			if err != nil {
				return err
			}
			// Some writers store the NUL too.
			e.target = strings.TrimRight(string(target), "\x00")
		}
		path := cleaned(h.Path)
		if h.IsFile() {
			e.data = all[path].data.next(names, &e)
		}
		all[path] = e
		return nil
	})
	return all, err
}

// name is what the names of a file have in common. Inode numbers are unique within an archive only.
type name struct {
	archive int
	inode   uint32
}

// next returns the data of the file e, at whose path an earlier archive may have had the data
// b. As the kernel does it (do_name in init/initramfs.c), these are overwritten, so that the file's
// other names show it. Cpio writes the bytes with the last of a file's names, and 0 bytes
// with the others.
func (b *fileData) next(names map[name]*fileData, e *header) *fileData {
	key := name{e.archive, e.Inode}
	// Another name of this file came earlier in the same archive: both share the data.
	if known := names[key]; known != nil && e.Links > 1 {
		if e.Size > 0 {
			known.number = e.number
		}
		return known
	}
	if b == nil {
		b = &fileData{}
	}
	b.number = e.number
	if e.Links > 1 {
		names[key] = b
	}
	return b
}

// openImage opens an image, or takes standard input for "-".
func openImage(name string) (*os.File, error) {
	if name == "-" {
		return os.Stdin, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	// Reading would fail with a message that does not say what is wrong.
	if info, err := file.Stat(); err == nil && info.IsDir() {
		file.Close()
		return nil, fmt.Errorf("%s is a directory, not an image", name)
	}
	return file, nil
}

// cleaned returns a path of an archive without "./" or "/" in front; the root is "". A ".." leads
// nowhere above the root.
func cleaned(p string) string {
	if p = path.Clean("/" + p)[1:]; p == "." {
		return ""
	}
	return p
}

// links returns the targets of an image's links.
func (m image) links() map[string]string {
	links := map[string]string{}
	for p, h := range m {
		if h.IsSymlink() {
			links[p] = h.target
		}
	}
	return links
}
