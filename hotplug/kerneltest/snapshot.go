package kerneltest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Snapshot returns the entries below dir, a sorted line each: path, type, mode, owner, and a node's
// numbers or a link's text. It leaves out the private directory .devspool, the clients' events,
// mounted file systems (pts, shm), and the paths in omit.
//
// It also leaves out entries that vanish meanwhile, since the tree may be changing.
func Snapshot(dir string, omit ...string) ([]string, error) {
	top, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	var lines []string
	walk := func(name string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, name)
		if rel == "." {
			return err
		}
		if hasVanished(err) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if hasVanished(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if rel == ".devspool" || rel == "events" || slices.Contains(omit, rel) || !sameDevice(info, top) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		lines = append(lines, oneWord.Replace(rel)+" "+describe(name, info))
		return nil
	}
	if err := filepath.WalkDir(dir, walk); err != nil {
		return nil, err
	}
	slices.Sort(lines)
	return lines, nil
}

// hasVanished reports whether err says that an entry has left since it was listed: it, or the directory
// that it was in, whose name a node may have by now.
func hasVanished(err error) bool { return os.IsNotExist(err) || errors.Is(err, unix.ENOTDIR) }

// oneWord escapes blanks, so that a path is one word of a line.
var oneWord = strings.NewReplacer(" ", `\x20`, "\t", `\x09`, "\n", `\x0a`)

func sameDevice(a, b fs.FileInfo) bool {
	return a.Sys().(*syscall.Stat_t).Dev == b.Sys().(*syscall.Stat_t).Dev
}

// describe returns everything about an entry that a device manager decides.
func describe(name string, info fs.FileInfo) string {
	st := info.Sys().(*syscall.Stat_t)
	owner := fmt.Sprintf("%d:%d", st.Uid, st.Gid)
	mode := fmt.Sprintf("%04o", st.Mode&0o7777)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		text, err := os.Readlink(name)
		if err != nil {
			text = "?"
		}
		return "link -> " + text
	case unix.S_IFBLK:
		return fmt.Sprintf("block %s %s %d:%d", mode, owner, unix.Major(st.Rdev), unix.Minor(st.Rdev))
	case unix.S_IFCHR:
		return fmt.Sprintf("char %s %s %d:%d", mode, owner, unix.Major(st.Rdev), unix.Minor(st.Rdev))
	case unix.S_IFDIR:
		return fmt.Sprintf("dir %s %s", mode, owner)
	case unix.S_IFREG:
		return fmt.Sprintf("file %s %s %d bytes", mode, owner, st.Size)
	}
	return fmt.Sprintf("other %o %s", st.Mode, owner)
}

// Diff returns the lines that only want has, marked -, and that only got has, marked +, or "" where the
// two snapshots are equal.
func Diff(want, got []string) string {
	var b strings.Builder
	for _, line := range want {
		if _, both := slices.BinarySearch(got, line); !both {
			b.WriteString("-" + line + "\n")
		}
	}
	for _, line := range got {
		if _, both := slices.BinarySearch(want, line); !both {
			b.WriteString("+" + line + "\n")
		}
	}
	return b.String()
}
