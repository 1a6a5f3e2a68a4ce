package nodes

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

// Rules may give one path to several devices. It belongs to the one whose
// devpath sorts last, which is the one that a coldplug comes to last; when that
// one leaves, it goes back to the best of the others. For that the record keeps
// a list of the claimants of each path that has more than one: a symbolic link
// in /dev/.devspool/claims whose text is their IDs.

// contest settles whether dev, the device of e, may take the path that the node
// st holds. It may not where a device that sorts after it lays claim to it.
func (d *Dir) contest(path string, e *uevent.Event, st *unix.Stat_t) (mine bool, err error) {
	other := nodeDev(st)
	if other.IsZero() {
		return true, nil
	}
	text := d.recall(other.String())
	if text == "" {
		return true, nil
	}
	holder := parseRecord(other.String(), text)
	if holder.Devpath == e.Devpath || !slices.Contains(holder.Nodes, path) {
		return true, nil
	}
	return holder.Devpath < e.Devpath, d.claim(path, other.String(), e.Dev.String())
}

// nodeDev returns the device that st is a node of, or the zero Dev.
func nodeDev(st *unix.Stat_t) uevent.Dev {
	dev := uevent.Dev{Major: unix.Major(uint64(st.Rdev)), Minor: unix.Minor(uint64(st.Rdev))}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		dev.Block = true
	case unix.S_IFCHR:
	default:
		return uevent.Dev{}
	}
	return dev
}

// claim notes that the devices of these IDs want path.
func (d *Dir) claim(path string, ids ...string) error {
	if d.claims == none {
		var err error
		if d.claims, err = ownDirectory(d.private, "claims"); err != nil {
			return wrap("make", Private+"/claims", err)
		}
	}
	was := d.claimants(path)
	return d.setClaimants(path, was, union(was, ids))
}

// unclaim notes that the device of this ID wants path no more, and keeps for
// Freed who else wants it.
func (d *Dir) unclaim(path, id string) error {
	was := d.claimants(path)
	if len(was) == 0 {
		return nil
	}
	left := slices.DeleteFunc(slices.Clone(was), func(s string) bool { return s == id })
	for _, id := range left {
		if text := d.recall(id); text != "" {
			d.freed = append(d.freed, parseRecord(id, text).Devpath)
		}
	}
	return d.setClaimants(path, was, left)
}

// Freed returns the devpaths of the devices that want a path which has become
// free since the last call. Their Plans are to be applied again.
func (d *Dir) Freed() []string {
	freed := d.freed
	d.freed = nil
	return freed
}

func (d *Dir) claimants(path string) []string {
	if d.claims == none {
		return nil
	}
	text, _ := readLink(d.claims, claimName(path))
	return strings.Fields(text)
}

// setClaimants writes the list of path's claimants; of one alone nothing is kept.
func (d *Dir) setClaimants(path string, was, now []string) error {
	name := claimName(path)
	if slices.Equal(was, now) {
		return nil
	}
	if len(now) < 2 {
		return wrap("unlink", Private+"/claims/"+name, unix.Unlinkat(d.claims, name, 0))
	}
	return wrap("rename", Private+"/claims/"+name, d.staged(func(at int, staged string) error {
		return unix.Symlinkat(strings.Join(now, " "), at, staged)
	}, func(at int, staged string) error {
		return unix.Renameat(at, staged, d.claims, name)
	}))
}

// claimName makes a path one name in a directory.
func claimName(path string) string {
	return strings.ReplaceAll(escape(path), "/", `\x2f`)
}
