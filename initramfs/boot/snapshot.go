package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Snapshot is what lies below a device directory: for each path the type,
// numbers, mode and owner, or a link's text.
type Snapshot map[string]string

// private are the names at the top of a device directory that belong to the
// program and say nothing of devices.
var private = []string{".devspool", "events", "mdev.log", "mdev.seq"}

// TakeSnapshot looks at all that is below dir. What goes while it looks is gone.
func TakeSnapshot(dir string) (Snapshot, error) {
	s := Snapshot{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		switch {
		case hasVanished(err):
			return nil
		case err != nil || rel == ".":
			return err
		case slices.Contains(private, rel) && d.IsDir():
			return fs.SkipDir
		case slices.Contains(private, rel):
			return nil
		}
		what, err := describe(path)
		if hasVanished(err) {
			return nil
		}
		s[rel] = what
		return err
	})
	return s, err
}

// hasVanished reports whether err says that an entry has left since it was listed: it, or the directory
// that it was in, whose name a node may have by now.
func hasVanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}

// describe says in one line what lies at path.
func describe(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return "", &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	rights := fmt.Sprintf(" %04o %d:%d", st.Mode&0o7777, st.Uid, st.Gid)
	numbers := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		return "-> " + target, err
	case unix.S_IFDIR:
		return "directory" + rights, nil
	case unix.S_IFCHR:
		return "c" + numbers + rights, nil
	case unix.S_IFBLK:
		return "b" + numbers + rights, nil
	default:
		return fmt.Sprintf("type %o", st.Mode&unix.S_IFMT) + rights, nil
	}
}

// Diff returns nil where s equals want, or else an error that tells all the
// differences: "-" before what is missing, "+" before what is too much.
func (s Snapshot) Diff(want Snapshot) error {
	paths := slices.Sorted(maps.Keys(s))
	for p := range want {
		if _, ok := s[p]; !ok {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	var lines []string
	for _, p := range paths {
		is, shall := s[p], want[p]
		if is == shall {
			continue
		}
		if shall != "" {
			lines = append(lines, "- "+p+" "+shall)
		}
		if is != "" {
			lines = append(lines, "+ "+p+" "+is)
		}
	}
	if lines == nil {
		return nil
	}
	return fmt.Errorf("%d of %d paths differ:\n%s", len(lines), len(want), strings.Join(lines[:min(len(lines), 40)], "\n"))
}
