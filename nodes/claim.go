package nodes

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

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
// Nothing of this is asked until something else stands in the place of a node or
// link. From then on the records of these devices say that the path is shared.

// Rank says how good the claim of a device is.
type Rank struct {
	Gone      bool   // it has left; its remove event is to come
	Removable bool   // it, or a device that it is connected through, can be pulled out
	Diskseq   uint64 // of two that are removable, the lower one came first; 0 if unknown
}

// Conflict is a path that two devices want, or that something is mounted over.
type Conflict struct {
	Path    string // below /dev
	Holder  Record // the device that has it, if it is not mounted over
	Loser   Record
	Mounted bool
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

// claimants returns the records, but for those of the device of mine, that have a
// claim to path. Asked are the devices that were asked already: fell of these is
// being looked at.
func (d *Dir) claimants(path string, mine *Record, asked map[string]bool) (all []Record) {
	word := string(appendEscaped(nil, path[strings.LastIndexByte(path, '/')+1:], true))
	for id, text := range d.record.text {
		if !strings.Contains(text, word) {
			continue
		}
		r := parseRecord(id, text)
		if mine != nil && (r.ID == mine.ID || r.Devpath == mine.Devpath) {
			continue
		}
		if r.wants(path) || r.own() == path && d.fell(&r, asked) {
			all = append(all, r)
		}
	}
	return all
}

// fell reports whether the device does without one of its paths, and so needs its
// own name. That may depend on whether others need theirs; devices that only
// displace each other in a circle displace nobody.
func (d *Dir) fell(r *Record, asked map[string]bool) bool {
	if asked[r.ID] {
		return false
	}
	if asked == nil {
		asked = map[string]bool{}
	}
	asked[r.ID] = true
	for _, path := range r.Nodes {
		if path == r.own() {
			continue
		}
		for _, other := range d.claimants(path, r, asked) {
			if d.beats(&other, r, path) {
				return true
			}
		}
	}
	return false
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
		rank = d.Rank(r)
		if d.ranks == nil {
			d.ranks = map[string]Rank{}
		}
		d.ranks[r.ID] = rank
	}
	return rank
}

// best returns the record with the best claim to path.
func (d *Dir) best(all []Record, path string) *Record {
	best := &all[0]
	for i := range all[1:] {
		if r := &all[i+1]; d.beats(r, best, path) {
			best = r
		}
	}
	return best
}

// contest settles whether the device of mine may have path. Where it may not, it is
// noted that the device that may has it, or is to take it now.
func (d *Dir) contest(dir parent, path string, mine *Record) (lost bool, err error) {
	rivals := d.claimants(path, mine, nil)
	if len(rivals) == 0 {
		mine.free = append(mine.free, path)
		return false, nil
	}
	best := d.best(rivals, path)
	lost = d.beats(best, mine, path)
	c := Conflict{Path: path, Holder: *mine, Loser: *best}
	if lost {
		c.Holder, c.Loser = *best, *mine
		d.summon(dir, best, path)
	}
	return lost, d.share(c, mine, best)
}

// share records that path is contested by the device of mine and another one.
func (d *Dir) share(c Conflict, mine, other *Record) error {
	known := slices.Contains(mine.Shared, c.Path)
	if slices.Contains(other.Shared, c.Path) && known {
		return nil
	}
	if !known {
		mine.Shared = append(mine.Shared, c.Path)
		d.conflicts = append(d.conflicts, c)
	}
	if err := d.remember(mine); err != nil {
		return err
	}
	if !slices.Contains(other.Shared, c.Path) {
		other.Shared = append(slices.Clip(other.Shared), c.Path)
	}
	return d.remember(other)
}

// summon has the device of r take a path that it holds, where it does not stand
// there: a crash came between.
func (d *Dir) summon(dir parent, r *Record, path string) {
	var st unix.Statx_t
	err := stat(dir.fd, dir.name, unix.AT_SYMLINK_NOFOLLOW, &st)
	if holder := nodeDev(&st); err == unix.ENOENT || err == nil && !holder.IsZero() && holder != r.Dev() {
		d.free(path)
	}
}

// displace brings the device whose node stands in a place that another one is about
// to take to its own name. The node is linked there, and the device's links lead there,
// before it loses the place. Moved are the devices that this is about, beginning with
// the one that is being set up.
func (d *Dir) displace(dir parent, path string, mine *Record, st *unix.Statx_t, moved []string) error {
	id := nodeDev(st).String()
	if id == moved[0] && len(moved) > 1 {
		d.displaced = append(d.displaced, id)
	}
	text := d.recall(id)
	if text == "" || slices.Contains(moved, id) {
		return nil
	}
	r := parseRecord(id, text)
	own := r.own()
	if r.Devpath == mine.Devpath || own == "" || own == path || !r.wants(path) {
		return nil
	}
	d.displaced = append(d.displaced, id)
	if !slices.Contains(r.Nodes, own) {
		if err := d.bringHome(dir, path, &r, append(moved, id)); err != nil {
			return err
		}
	}
	var errs faults
	for _, link := range r.Links {
		if link != own {
			errs.add(d.retarget(link, path, own))
		}
	}
	return errors.Join(errs...)
}

// isDisplaced reports whether the device of r itself was brought away meanwhile.
func (d *Dir) isDisplaced(r *Record) bool { return slices.Contains(d.displaced, r.ID) }

// bringHome links the node at path, which is that of the device of r, to the device's
// own name, in the place of what stands there.
func (d *Dir) bringHome(dir parent, path string, r *Record, moved []string) error {
	if !slices.Contains(r.Shared, path) {
		r.Shared = append(r.Shared, path)
		if err := d.remember(r); err != nil {
			return err
		}
	}
	own := r.own()
	if rivals := d.claimants(own, r, nil); len(rivals) > 0 {
		best := d.best(rivals, own)
		if d.beats(best, r, own) {
			return nil
		}
		if err := d.share(Conflict{Path: own, Holder: *r, Loser: *best}, r, best); err != nil {
			return err
		}
	}
	to, err := d.parent(own, true)
	if err != nil {
		return err
	}
	defer to.close()
	var st unix.Statx_t
	if stat(to.fd, to.name, unix.AT_SYMLINK_NOFOLLOW, &st) == nil {
		if d.isMountedOver(to, &st) {
			return nil
		}
		if nodeDev(&st).String() == moved[0] && unix.Renameat2(dir.fd, dir.name, to.fd, to.name, unix.RENAME_EXCHANGE) == nil {
			d.displaced = append(d.displaced, moved[0])
			return nil
		}
		if err := d.displace(to, own, r, &st, moved); err != nil {
			return err
		}
	}
	return d.staged(func(at int, name string) error {
		return unix.Linkat(dir.fd, dir.name, at, name, 0)
	}, func(at int, name string) error {
		return unix.Renameat(at, name, to.fd, to.name)
	})
}

// retarget has a link lead to another node, if it leads to one now.
func (d *Dir) retarget(link, from, to string) error {
	dir, err := d.parent(link, false)
	if err != nil {
		return nil // it is not there
	}
	defer dir.close()
	if text, err := readLink(dir.fd, dir.name); err != nil || text != Relative(link, from) {
		return nil
	}
	return d.replaceLink(dir, Relative(link, to))
}

// release notes that r gave up a path that other devices may want.
func (d *Dir) release(r *Record, path string) {
	if slices.Contains(r.Shared, path) {
		d.free(path)
	}
}

func (d *Dir) free(path string) {
	if !slices.Contains(d.freed, path) {
		d.freed = append(d.freed, path)
	}
}

// Freed returns, for each path that has become free since the last call, the record
// of the device that is to have it. Its Plan is to be applied again.
func (d *Dir) Freed() (heirs []Record) {
	for _, path := range d.freed {
		if all := d.claimants(path, nil, nil); len(all) > 0 {
			heirs = append(heirs, *d.best(all, path))
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

// mountedOver notes that something is mounted on a path of the device of mine, or on
// the directory that it lies in.
func (d *Dir) mountedOver(place, path string, mine *Record) error {
	mine.free = without(mine.free, []string{path})
	if slices.Contains(mine.Shared, path) {
		return nil
	}
	mine.Shared = append(mine.Shared, path)
	if !d.told[place] {
		if d.told == nil {
			d.told = map[string]bool{}
		}
		d.told[place] = true
		d.conflicts = append(d.conflicts, Conflict{Path: place, Loser: *mine, Mounted: true})
	}
	return d.remember(mine)
}

// directory returns the path of the directory that path lies in, if that is not /dev.
func directory(path string) string {
	if slash := strings.LastIndexByte(path, '/'); slash >= 0 {
		return path[:slash]
	}
	return path
}

// Locate fills in p.Lost by where the device's node stands, for what is to be done
// before the node goes. The lock must be held.
func (d *Dir) Locate(p *Plan) {
	text := d.recall(p.Event.ID())
	if text == "" {
		return
	}
	r := parseRecord(p.Event.ID(), text)
	d.locate(p, &r)
}

func (d *Dir) locate(p *Plan, r *Record) {
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
	return stat(dir.fd, dir.name, unix.AT_SYMLINK_NOFOLLOW, &st) == nil && isNodeOf(&st, dev)
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
