package initramfs

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"

	"devspool/hotplug/uevent"
)

// PathOf returns the path of an entry, relative to the image's root.
func PathOf(e Entry) string { return e.record().path }

// Entry is one path of an image: a Dir, File, Symlink or Node.
//
// Paths are relative to the image's root: no leading slash, no "." or "..", no
// empty part. Modes are permission bits, 0 to 07777; a zero mode is one that
// permits nothing.
type Entry interface {
	// String shows the entry as one line of a listing.
	String() string

	// record returns what the archive says of the entry, without its body's size.
	record() record
	// body returns what follows the entry's header.
	body() (body, error)
}

// Dir is a directory. Parents that no entry names are made with mode 0755,
// owned by root.
type Dir struct {
	Path     string
	Mode     uint32
	UID, GID uint32
}

// File is a regular file.
type File struct {
	Path     string
	Mode     uint32
	UID, GID uint32
	Text     string // what it holds, where Source is ""
	Source   string // the file of this machine that it is a copy of
}

// Symlink is a symbolic link. Its target is kept as it is said.
type Symlink struct {
	Path     string
	UID, GID uint32
	Target   string
}

// Node is a device node.
type Node struct {
	Path     string
	Mode     uint32
	UID, GID uint32
	Dev      uevent.Dev // its major and minor number, and whether it is a block device
}

// The file types of an archive, those of stat(2) on every architecture.
const (
	typeMask    = 0o170000
	typeDir     = 0o040000
	typeFile    = 0o100000
	typeSymlink = 0o120000
	typeChar    = 0o020000
	typeBlock   = 0o060000
)

// The errors for entries that an archive cannot hold, or a kernel would leave
// out without a word.
var (
	ErrPath      = errors.New("not a path below the image's root")
	ErrDuplicate = errors.New("path is there twice")
	ErrParent    = errors.New("parent is not a directory")
	ErrMode      = errors.New("not permission bits")
	ErrNumbers   = errors.New("not numbers of a device")
	ErrTarget    = errors.New("not the target of a link")
	ErrTooBig    = errors.New("file of 4 GiB or more")
)

// String shows the directory as one line of a listing.
func (d Dir) String() string { return fmt.Sprintf("dir %s %04o %d:%d", d.Path, d.Mode, d.UID, d.GID) }

// String shows the file as one line of a listing.
func (f File) String() string {
	line := fmt.Sprintf("file %s %04o %d:%d", f.Path, f.Mode, f.UID, f.GID)
	if f.Source != "" {
		line += " from " + f.Source
	}
	return line
}

// String shows the link as one line of a listing.
func (s Symlink) String() string {
	return fmt.Sprintf("link %s -> %s %d:%d", s.Path, s.Target, s.UID, s.GID)
}

// String shows the node as one line of a listing.
func (n Node) String() string {
	return fmt.Sprintf("node %s %s %04o %d:%d", n.Path, n.Dev, n.Mode, n.UID, n.GID)
}

// The methods named record do not check what they say: see record.check.
func (d Dir) record() record {
	return record{path: d.Path, kind: typeDir, mode: d.Mode, uid: d.UID, gid: d.GID}
}

func (f File) record() record {
	return record{path: f.Path, kind: typeFile, mode: f.Mode, uid: f.UID, gid: f.GID}
}

func (s Symlink) record() record {
	return record{path: s.Path, kind: typeSymlink, mode: 0o777, uid: s.UID, gid: s.GID}
}

func (n Node) record() record {
	// The default is a character device, as that of uevent.Dev.
	kind := uint32(typeChar)
	if n.Dev.Block {
		kind = typeBlock
	}
	return record{path: n.Path, kind: kind, mode: n.Mode, uid: n.UID, gid: n.GID, major: n.Dev.Major, minor: n.Dev.Minor}
}

// The methods named body refuse what only their kind of entry can have wrong: a file that cannot be read,
// a target, the numbers of a device.
func (d Dir) body() (body, error) { return body{}, nil }

func (f File) body() (body, error) {
	if f.Source == "" {
		return text(f.Text), nil
	}
	file, err := os.Open(f.Source)
	if err != nil {
		return body{}, err
	}
	// Of the open file, so that the size is that of what is read.
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", f.Source)
	}
	if err != nil {
		return body{}, cmp.Or(err, file.Close())
	}
	return body{ReadCloser: file, size: info.Size()}, nil
}

func (s Symlink) body() (body, error) {
	// The kernel skips a link without a target, or with one that no path can have.
	if s.Target == "" || len(s.Target) > maxPath || strings.Contains(s.Target, "\x00") {
		return body{}, ErrTarget
	}
	return text(s.Target), nil
}

func (n Node) body() (body, error) {
	// The limits are those of the kernel's dev_t (MINORBITS in include/linux/kdev_t.h): 12 and 20 bits.
	if n.Dev.IsZero() || n.Dev.Major >= 1<<12 || n.Dev.Minor >= 1<<20 {
		return body{}, ErrNumbers
	}
	return body{}, nil
}
