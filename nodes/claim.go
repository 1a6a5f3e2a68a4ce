package nodes

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// Rules may give one path to several devices. One of them holds it; each of the
// others has its node at its own name instead, and goes without a link that it does
// not hold. Which one holds a path depends on the records and on Dir.Rank alone, never
// on the order of events, so that every process comes to the same result:
//
//   - A device holds its own name against every device that a rule brings there,
//     if its rules use the name, or it lost a path and so needs the name.
//   - Otherwise the better Rank decides, then the devpath: the last one has it.
//
// Whether a device lost a path may depend on whether others did, even in a circle. The
// answer is the least one that holds: only those lost a path that lost it to a device
// whose rules give it the path, or to one that needs it as its own name since it lost
// another in this way. Devices that could only displace each other do not.
//
// Nothing of this is asked until something else stands in the place of a node or
// link. From then on the records of these devices say that the path is shared, and
// each of their paths is asked for. A device that loses or gives up a path may change
// who has others; Freed leads from one to the next.

// Rank says how good the claim of a device is.
type Rank struct {
	Gone      bool   // it has left; its remove event is to come
	Removable bool   // it, or a device that it is connected through, can be pulled out
	Diskseq   uint64 // of two that are removable, the lower one came first; 0 if unknown
}

// Conflict is a path that two devices want, or that something is mounted over.
type Conflict struct {
	Path   string  // below /dev
	Holder *Record // the device that has it; nil if something is mounted there
	Loser  *Record
}

// Name returns the node's path below /dev that the kernel means.
func (r *Record) Name() string {
	name := r.Devname
	if name == "" {
		name = r.Devpath[strings.LastIndexByte(r.Devpath, '/')+1:]
	}
	return Slashes(name)
}

// own returns Name, or "" where that is no path.
func (r *Record) own() string {
	if name := r.Name(); CleanPath(name) {
		return name
	}
	return ""
}

// wants reports whether rules give path to the device.
func (r *Record) wants(path string) bool {
	return slices.Contains(r.Nodes, path) || slices.Contains(r.Links, path)
}

// claimants returns the records, but for that of the device of mine, that have a claim
// to path. Asked are the devices of which fell is being found out.
func (d *Dir) claimants(path string, mine *Record, asked map[string]bool) (all []*Record) {
	word := string(uevent.AppendEscaped(nil, path[strings.LastIndexByte(path, '/')+1:], true))
	for id, text := range d.record.text {
		if !strings.Contains(text, word) {
			continue
		}
		r := parseRecord(id, text)
		if mine != nil && (r.ID == mine.ID || r.Devpath == mine.Devpath) {
			continue
		}
		if r.wants(path) || r.own() == path && d.fell(r, asked) {
			all = append(all, r)
		}
	}
	return all
}

// fell reports whether the device does without one of its paths, and so needs its
// own name. Devices asked before need not be asked again: what they come to leads to
// the first one by another way.
func (d *Dir) fell(r *Record, asked map[string]bool) bool {
	if asked[r.ID] {
		return false
	}
	if asked == nil {
		asked = map[string]bool{}
	}
	asked[r.ID] = true
	for _, path := range r.Nodes {
		if path != r.own() && d.rival(path, r, asked, true) != nil {
			return true
		}
	}
	return false
}

// rival returns the record with the best claim to path but for mine, or nil. Where
// better is set, it has to be better than that of mine.
func (d *Dir) rival(path string, mine *Record, asked map[string]bool, better bool) (best *Record) {
	if better {
		best = mine
	}
	for _, r := range d.claimants(path, mine, asked) {
		if best == nil || d.beats(r, best, path) {
			best = r
		}
	}
	if best == mine {
		return nil
	}
	return best
}

// beats reports whether the device of a has a better claim to path than that of b.
func (d *Dir) beats(a, b *Record, path string) bool {
	if own := a.own() == path; own != (b.own() == path) {
		return own
	}
	ra, rb := d.rank(a), d.rank(b)
	switch {
	case ra.Gone != rb.Gone:
		return rb.Gone
	case ra.Removable != rb.Removable:
		return rb.Removable
	case ra.Removable && ra.Diskseq != rb.Diskseq:
		return ra.Diskseq < rb.Diskseq
	case a.Devpath != b.Devpath:
		return a.Devpath > b.Devpath
	}
	return a.ID > b.ID
}

// rank asks for the Rank of a device, once a turn.
func (d *Dir) rank(r *Record) Rank {
	if d.Rank == nil {
		return Rank{}
	}
	rank, known := d.ranks[r.ID]
	if !known {
		rank = d.Rank(r.copy())
		if d.ranks == nil {
			d.ranks = map[string]Rank{}
		}
		d.ranks[r.ID] = rank
	}
	return rank
}

// contest settles whether the device of mine may have path. Where it may not, the
// device that may has it, or is to take it now, if a crash came between.
func (d *Dir) contest(path string, mine *Record) (lost bool, err error) {
	best := d.rival(path, mine, nil, false)
	if best == nil {
		mine.free = append(mine.free, path)
		return false, nil
	}
	if !d.beats(best, mine, path) {
		return false, d.share(path, mine, best)
	}
	if !slices.Contains(best.Links, path) && !d.stands(path, best.Dev()) {
		d.freed = append(d.freed, path)
	}
	return true, d.share(path, best, mine)
}

// share records that two devices want path, or that one does without it.
func (d *Dir) share(path string, holder, loser *Record) (err error) {
	told := true
	for _, r := range []*Record{holder, loser} {
		if r != nil && !slices.Contains(r.Shared, path) {
			told = false
			r.Shared = append(r.Shared, path)
			err = d.remember(r)
		}
	}
	if !told {
		d.conflicts = append(d.conflicts, Conflict{path, holder.copy(), loser.copy()})
	}
	return err
}

// copy returns a record of its own, so that those of most events need no heap.
func (r *Record) copy() *Record {
	if r == nil {
		return nil
	}
	c := *r
	return &c
}

// displace makes ready for another device to take path from the one whose node stands
// there. That one has its node at its own name from then on: it is linked there before
// it loses the place, if nothing is in the way but its own link. The rest is for its
// Plan, which is to be applied again; see Freed.
func (d *Dir) displace(dir parent, path string, holder uevent.Dev) error {
	text := d.recall(holder.String())
	if text == "" {
		return nil
	}
	r := parseRecord(holder.String(), text)
	own := r.own()
	if own == "" || own == path || !slices.Contains(r.Nodes, path) {
		return nil
	}
	d.freed = append(d.freed, own)
	home, err := d.parent(own, true)
	if err != nil {
		return nil // its Plan meets the same, and says so
	}
	defer home.close()
	target, err := sys.ReadLinkAt(home.fd, home.name)
	if err != unix.ENOENT && (err != nil || target != Relative(own, path)) {
		return nil
	}
	return d.staged(func(at int, name string) error {
		return unix.Linkat(dir.fd, dir.name, at, name, 0)
	}, func(at int, name string) error {
		return unix.Renameat(at, name, home.fd, home.name)
	})
}

// release notes that r gave up a path that other devices may want.
func (d *Dir) release(r *Record, path string) {
	if slices.Contains(r.Shared, path) {
		d.freed = append(d.freed, path)
	}
}

// Freed returns, for each path that has become free since the last call, the record
// of the device that is to have it. Its Plan is to be applied again.
func (d *Dir) Freed() (heirs []*Record) {
	for _, path := range d.freed {
		if heir := d.rival(path, nil, nil, false); heir != nil {
			heirs = append(heirs, heir)
		}
	}
	d.freed = nil
	return heirs
}

// Conflicts returns what Apply met since the last call and had not met before.
func (d *Dir) Conflicts() []Conflict {
	met := d.conflicts
	d.conflicts = nil
	return met
}

// leaveAlone notes that something is mounted on a path of the device of mine.
func (d *Dir) leaveAlone(path string, mine *Record) error {
	mine.free = without(mine.free, []string{path})
	return d.share(path, nil, mine)
}

// Locate fills in p.Lost by where the device's node stands, for what is to be done
// before the node goes. The lock must be held.
func (d *Dir) Locate(p *Plan) {
	text := d.recall(p.Event.ID())
	if !strings.Contains(text, " shared=") {
		return
	}
	r := parseRecord("", text)
	for _, n := range p.Nodes {
		if slices.Contains(r.Shared, n.Path) && !p.lost(n.Path) && !d.stands(n.Path, p.Event.Dev) {
			p.Lost = append(p.Lost, n.Path)
		}
	}
}

// stands reports whether the node at path is dev's.
func (d *Dir) stands(path string, dev uevent.Dev) bool {
	dir, err := d.parent(path, false)
	if err != nil {
		return false
	}
	defer dir.close()
	var st unix.Statx_t
	return sys.Stat(dir.fd, dir.name, unix.AT_SYMLINK_NOFOLLOW, &st) == nil && isNodeOf(&st, dev)
}

// NodeDev returns the device that st is a node of, or the zero Dev.
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
