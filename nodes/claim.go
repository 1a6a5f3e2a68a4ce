package nodes

import (
	"slices"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

// Rules may give one path to several devices. It belongs to the one whose
// devpath sorts last, which is the one that a coldplug comes to last; when that
// one leaves, it goes back to the best of the others. For that the records of
// all of them say that the path is shared.

// contest settles whether the device of mine may take the path that the node st
// holds. It may not where a device that sorts after it wants that path too.
func (d *Dir) contest(path string, mine *Record, st *unix.Statx_t) (won bool, err error) {
	other := nodeDev(st)
	text := d.recall(other.String())
	if other.IsZero() || text == "" {
		return true, nil
	}
	holder := parseRecord(other.String(), text)
	if holder.Devpath == mine.Devpath || !slices.Contains(holder.Nodes, path) {
		return true, nil
	}
	if err = d.share(&holder, path); err == nil {
		err = d.share(mine, path)
	}
	return holder.Devpath < mine.Devpath, err
}

// share notes that another device wants path too.
func (d *Dir) share(r *Record, path string) error {
	if slices.Contains(r.Shared, path) {
		return nil
	}
	r.Shared = append(r.Shared, path)
	return d.remember(r)
}

// release keeps for Freed who else wants path, which r gave up.
func (d *Dir) release(r *Record, path string) {
	if !slices.Contains(r.Shared, path) {
		return
	}
	for _, other := range d.Records() {
		if other.ID != r.ID && slices.Contains(other.Nodes, path) {
			d.freed = append(d.freed, other)
		}
	}
}

// Freed returns the records of the devices that want a path which has become
// free since the last call. Their Plans are to be applied again.
func (d *Dir) Freed() []Record {
	freed := d.freed
	d.freed = nil
	return freed
}

// nodeDev returns the device that st is a node of, or the zero Dev.
func nodeDev(st *unix.Statx_t) uevent.Dev {
	dev := uevent.Dev{Major: st.Rdev_major, Minor: st.Rdev_minor}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		dev.Block = true
	case unix.S_IFCHR:
	default:
		return uevent.Dev{}
	}
	return dev
}
