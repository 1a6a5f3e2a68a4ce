package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"devspool/initramfs"
)

// group is a kind of contents. Where two want the same path, the later of these kinds
// has it.
type group uint8

// The groups, in the order of the report.
const (
	groupBase     group = iota // directories, nodes
	groupDevspool              // the binary and its links
	groupModules
	groupFirmware
	groupPrograms
	groupFiles // those that the command line names
)

// groupNames are the words of the report, by group.
var groupNames = [...]string{"directories and nodes", "devspool", "modules", "firmware", "programs", "files"}

// item is an entry, and why it is there: --why shows that for each path, since an image that is too
// large is mended by the option that asked for a file.
type item struct {
	initramfs.Entry
	group group
	why   string
}

// path returns the item's path in the image.
func (i item) path() string { return initramfs.PathOf(i.Entry) }

// size returns the bytes of a file, and 0 for all else, and for a binary that a dry run does not build.
func (i item) size() int64 {
	f, ok := i.Entry.(initramfs.File)
	if !ok || f.Source == "" {
		return int64(len(f.Text))
	}
	info, err := os.Stat(f.Source)
	if err != nil {
		return 0
	}
	return info.Size()
}

// contents collects what an image holds. Things are added in any order; finish settles which of
// them have their paths, and where these are.
type contents struct {
	items []item
	under image // what is there already
}

// add adds entries that have the same reason.
func (c *contents) add(g group, why string, entries ...initramfs.Entry) {
	for _, e := range entries {
		c.items = append(c.items, item{e, g, why})
	}
}

// errConflict is the error for two things that want one path.
var errConflict = errors.New("two want this path")

// finish gives each entry the path that it has where directories are links, as /lib
// and /sbin are on most systems, so that no directory comes where the image has a
// link: the kernel would remove that. It returns the entries sorted, so that equal options give
// equal images. The error is errConflict where two entries of one group differ.
func (c *contents) finish() ([]item, error) {
	links := c.directoryLinks()
	byPath := map[string]item{}
	for _, i := range c.items {
		if i.path() == "" || cleaned(i.path()) != i.path() {
			return nil, fmt.Errorf("%v: %w", i, initramfs.ErrPath)
		}
		if err := i.follow(links); err != nil {
			return nil, fmt.Errorf("%v: %w", i, err)
		}
		if c.stays(i) {
			continue
		}
		other, taken := byPath[i.path()]
		switch {
		case !taken || i.group > other.group:
			byPath[i.path()] = i
		// What the command line names prevails over what belongs to a program, and so on. The same
		// entry twice is no conflict: two programs may need one library.
		case i.group < other.group || i.Entry == other.Entry:
		default:
			return nil, fmt.Errorf("%s: %w: %s, and %s", i.path(), errConflict, i.why, other.why)
		}
	}
	c.mirror(byPath)
	if err := c.keepParents(byPath); err != nil {
		return nil, err
	}
	// Parents that are still missing are added when the archive is written: see initramfs.Dir.
	all := make([]item, 0, len(byPath))
	for _, i := range byPath {
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b item) int { return strings.Compare(a.path(), b.path()) })
	return all, nil
}

// follow moves the entry to where it is behind the links that its path leads over. A
// directory is where a link of its own path leads.
func (i *item) follow(links map[string]string) error {
	// A file or link that comes at the path of a link takes its place, so its last part is not followed.
	above, last := path.Split(i.path())
	if _, ok := i.Entry.(initramfs.Dir); ok {
		above, last = i.path(), ""
	}
	place, err := resolve(above, links)
	if err == nil {
		i.Entry = moved(i.Entry, path.Join(place, last))
	}
	return err
}

// directoryLinks returns the targets of all links that there will be, by their paths. Where the
// image has something already, a new link of that path does not count: see stays and mirror.
func (c *contents) directoryLinks() map[string]string {
	links := map[string]string{}
	for p, e := range c.under {
		if e.IsSymlink() {
			links[p] = e.target
		}
	}
	for _, i := range c.items {
		l, ok := i.Entry.(initramfs.Symlink)
		if _, there := c.under[i.path()]; ok && !there {
			links[l.Path] = l.Target
		}
	}
	return links
}

// stays reports whether what the image has already at an item's path is to stay: any
// directory, and what is the same.
func (c *contents) stays(i item) bool {
	there, ok := c.under[i.path()]
	if !ok {
		return false
	}
	switch e := i.Entry.(type) {
	case initramfs.Symlink:
		// The kernel removes a directory for a link only where it is empty, and else makes no link
		// (clean_path in init/initramfs.c). For the links of programs mirror makes up.
		return there.IsDir() || there.IsSymlink() && (there.target == e.Target || i.group == groupPrograms)
	case initramfs.Dir:
		return there.IsDir() || there.IsSymlink()
	// Those that every image has, this one has already.
	case initramfs.Node:
		return i.group == groupBase
	}
	return false
}

// mirror makes up for links to directories that cannot be, since the image has a
// directory there: /lib, say, that is a link to usr/lib on the machine of the programs.
// What is below usr/lib gets a link each in lib: a dynamic linker is found by its path in /lib alone.
func (c *contents) mirror(items map[string]item) {
	var paths []string
	for p := range items {
		paths = append(paths, p)
	}
	for _, i := range c.items {
		l, ok := i.Entry.(initramfs.Symlink)
		if there, is := c.under[i.path()]; !ok || !is || !there.IsDir() || i.group != groupPrograms {
			continue
		}
		target := cleaned(path.Join("/", path.Dir(l.Path), l.Target))
		if strings.HasPrefix(l.Target, "/") {
			target = cleaned(l.Target)
		}
		for _, p := range paths {
			rest, below := strings.CutPrefix(p, target+"/")
			if _, isDir := items[p].Entry.(initramfs.Dir); !below || isDir {
				continue
			}
			at := path.Join(l.Path, rest)
			if _, taken := c.under[at]; taken || items[at].Entry != nil {
				continue
			}
			items[at] = item{initramfs.Symlink{Path: at, Target: "/" + p}, groupPrograms, "since " + l.Path + " is a directory in the image"}
		}
	}
}

// keepParents adds those directories above the items that the image has already, with
// the modes that they have there: else they would get those of a new directory. The error is about an
// item below what is no directory in the image, which the kernel would remove for it.
func (c *contents) keepParents(items map[string]item) error {
	for _, i := range items {
		for dir := path.Dir(i.path()); dir != "."; dir = path.Dir(dir) {
			h, ok := c.under[dir]
			if _, named := items[dir]; named || !ok {
				continue
			}
			if !h.IsDir() {
				return fmt.Errorf("%v: in the image that is added to, %s is no directory", i, dir)
			}
			items[dir] = item{initramfs.Dir{Path: dir, Mode: h.Mode & 0o7777, UID: h.UID, GID: h.GID}, groupBase, "as it is in the image"}
		}
	}
	return nil
}

// errLoop is the error for links that lead to each other.
var errLoop = errors.New("links lead to each other")

// resolve returns where a directory of the image is, when links lead there.
func resolve(dir string, links map[string]string) (string, error) {
	todo, done := strings.Split(dir, "/"), ""
	// As the kernel resolves a path: what a link says takes the place of its name in the path, and
	// is resolved in turn.
	for hops := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			// Above the root there is only the root.
			if done = path.Dir(done); done == "." {
				done = ""
			}
			continue
		}
		next := path.Join(done, part)
		target, ok := links[next]
		if !ok {
			done = next
			continue
		}
		// As many as the kernel follows (MAXSYMLINKS).
		if hops++; hops > 40 {
			return "", errLoop
		}
		if strings.HasPrefix(target, "/") {
			done = ""
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return done, nil
}

// moved returns the entry with another path. The entries are values, so the old one stays as it is.
// mirror relies on that: it looks at the items as they were added.
func moved(e initramfs.Entry, to string) initramfs.Entry {
	switch e := e.(type) {
	case initramfs.Dir:
		e.Path = to
		return e
	case initramfs.File:
		e.Path = to
		return e
	case initramfs.Symlink:
		e.Path = to
		return e
	case initramfs.Node:
		e.Path = to
		return e
	}
	return e
}
