package nodes

import (
	"slices"
	"strconv"
	"strings"

	"devspool/hotplug/uevent"
	"devspool/nodes/journal"
)

// Rules may give one path to several devices. One of them holds it; each of the
// others has its node at its own name instead, and goes without a link that it does
// not hold. Which one holds a path depends on the records and on Dir.Rank alone, never
// on the order of events, so that every process comes to the same result:
//
//   - A device holds its own name against every device that a rule brings there,
//     if its rules use the name, or it lost a path and so needs the name.
//   - So it does against every path below its own name: that is then no directory.
//   - A node is before a link, and of two links the one with the higher priority is
//     first. One of a rule is before a name, which its device has by what it is.
//   - Of two names that of the disk which came last is first, by DISKSEQ. For all else
//     the better Rank decides. Then comes the devpath: the last one has it.
//
// Whether a device lost a path may depend on whether others did, even in a circle. The
// answer is the least one that holds: a device lost a path if another one has the better
// claim to it by its rules, or needs it as its own name since that one lost a path in
// turn. Devices that could only displace each other do not.
//
// None of this is computed until something else stands in the place of a node or link.
// From then on the records of these devices say that the path is shared, and Apply asks
// who holds each of their paths. When a device gets or gives up a shared path, others
// may have to move: Released leads from one to the next.

// Rank says how good the claim of a device is.
type Rank struct {
	Gone      bool   // it has left; its remove event is to come
	Removable bool   // it, or a device that it is connected through, can be pulled out
	Diskseq   uint64 // of two that are removable, the lower one came first; 0 if unknown
}

// Conflict is a path that two devices want, or that something is mounted over. Two devices
// of one name are none, and no more are two links with different priorities.
type Conflict struct {
	Path   string  // below /dev
	Holder *Record // the device that has it; nil if something is mounted there
	Loser  *Record
}

// claims finds out which device holds a path, and keeps what came of that.
type claims struct {
	dir       *Dir
	ranks     map[string]Rank // by ID: what Dir.Rank said since LockDev
	released  []string        // see Dir.Released
	inTheWay  []*Record       // devices with paths below the name of another one, which are to move
	conflicts []Conflict      // see Dir.Conflicts
}

// Record is what the journal says of a device.
type Record = journal.Record

// The states of a Record, see package journal.
const (
	Live  = journal.Live
	Ended = journal.Ended
	Left  = journal.Left
)

// NameOf returns the node's path below /dev that the kernel means for the device of r.
func NameOf(r *Record) string {
	name := r.Devname
	if name == "" {
		name = lastPart(r.Devpath)
	}
	return Slashes(name)
}

// lastPart returns what stands behind the last slash of a path, or all of it where there is none.
func lastPart(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// ownPath returns NameOf, or "" where that is no path.
func ownPath(r *Record) string {
	if name := NameOf(r); CleanPath(name) {
		return name
	}
	return ""
}

// wants reports whether rules give path to the device of r.
func wants(r *Record, path string) bool {
	return slices.Contains(r.Nodes, path) || slices.Contains(r.Links, path)
}

// claimant returns the record with the best claim to path but for mine, or nil. Where
// better is set, it has to be better than that of mine, which is not nil then. Asked has
// the IDs of the devices of which lostPath is being found out.
func (c *claims) claimant(path string, mine *Record, asked map[string]bool, better bool) (best *Record) {
	if above := c.ownerAbove(path, mine, asked, false); above != nil {
		return above
	}
	if better {
		best = mine
	}
	for _, r := range c.dir.journal.Mentioning(lastPart(path)) {
		switch {
		// Another record of the same devpath is of a device that was there before.
		case mine != nil && (r.ID == mine.ID || r.Devpath == mine.Devpath):
		case !wants(r, path) && (ownPath(r) != path || !c.lostPath(r, asked)):
		case best == nil || c.hasBetterClaim(r, best, path):
			best = r
		}
	}
	if best == mine {
		return nil
	}
	return best
}

// ownerAbove returns the record of a device, but for mine, that uses its own name where path
// would need a directory, or nil. With stands, one whose node is still there will do.
func (c *claims) ownerAbove(path string, mine *Record, asked map[string]bool, stands bool) *Record {
	for name := path; ; {
		slash := strings.LastIndexByte(name, '/')
		if slash < 0 {
			return nil
		}
		name = name[:slash]
		// The kernel says the name of a device with a node, so that few records have to be read.
		for _, r := range c.dir.journal.Mentioning("devname=" + name) {
			if ownPath(r) == name && (mine == nil || r.ID != mine.ID && r.Devpath != mine.Devpath) &&
				(wants(r, name) || c.lostPath(r, asked) || stands && c.dir.tree.has(name, r.Dev(), nil)) && !c.rank(r).Gone {
				return r
			}
		}
	}
}

// isBelow reports whether a path lies below another one.
func isBelow(path, above string) bool {
	return strings.HasPrefix(path, above) && strings.HasPrefix(path[len(above):], "/")
}

// clear has the devices move that stand below path, where mine is to have its node. It reports
// whether there is one.
func (c *claims) clear(path string, mine *Record) (some bool) {
	if path != ownPath(mine) {
		return false
	}
	for _, r := range c.dir.journal.Mentioning(path + "/") {
		if r.ID == mine.ID {
			continue
		}
		for _, p := range pathsOf(r) {
			if wants(r, p) && isBelow(p, path) && c.dir.tree.has(p, r.Dev(), targetsOf(r)) {
				_ = c.share(p, mine, r) // an error comes again when r moves
				c.inTheWay, some = append(c.inTheWay, r), true
			}
		}
	}
	return some
}

// lostPath reports whether the device of r goes without a path that its rules give its
// node, and so needs its own name. Each device is asked once: what else it depends on
// the first one that was asked comes to by another way.
func (c *claims) lostPath(r *Record, asked map[string]bool) bool {
	if asked[r.ID] {
		return false
	}
	if asked == nil {
		asked = map[string]bool{}
	}
	asked[r.ID] = true
	for _, path := range r.Nodes {
		if path != ownPath(r) && c.claimant(path, r, asked, true) != nil {
			return true
		}
	}
	return false
}

// hasBetterClaim reports whether the device of a has a better claim to path than that of b. The
// order is that of the comment at the head of this file. It must be the same in every process,
// so the ID decides where nothing else does.
func (c *claims) hasBetterClaim(a, b *Record, path string) bool {
	if own := ownPath(a) == path; own != (ownPath(b) == path) {
		return own
	}
	if isBelow(path, ownPath(a)) {
		return true
	}
	ra, rb := c.rank(a), c.rank(b)
	if ra.Gone != rb.Gone {
		return rb.Gone
	}
	aLinks, bLinks := slices.Contains(a.Links, path), slices.Contains(b.Links, path)
	aPrio, bPrio := a.PriorityOf(path), b.PriorityOf(path)
	aName, bName := a.IsName(path), b.IsName(path)
	aSeq, bSeq := diskOf(a, ra), diskOf(b, rb)
	switch {
	case aLinks != bLinks:
		return bLinks
	case aPrio != bPrio:
		return aPrio > bPrio
	case aName != bName:
		return bName
	case aName && aSeq != bSeq:
		return aSeq > bSeq
	case aName:
	case ra.Removable != rb.Removable:
		return rb.Removable
	case ra.Removable && ra.Diskseq != rb.Diskseq:
		return ra.Diskseq < rb.Diskseq
	case a.Devpath != b.Devpath:
		return a.Devpath > b.Devpath
	}
	return a.ID > b.ID
}

// diskOf returns the number of the disk that the device of r is, or is a part of, or 0.
func diskOf(r *Record, rank Rank) uint64 {
	if n, err := strconv.ParseUint(r.Diskseq, 10, 64); err == nil {
		return n
	}
	return rank.Diskseq
}

// rank asks for the Rank of a device, once while /dev is locked.
func (c *claims) rank(r *Record) Rank {
	if c.dir.Rank == nil {
		return Rank{}
	}
	rank, known := c.ranks[r.ID]
	if !known {
		rank = c.dir.Rank(r.Copy())
		if c.ranks == nil {
			c.ranks = map[string]Rank{}
		}
		c.ranks[r.ID] = rank
	}
	return rank
}

// resolve finds out whether the device of mine has path, and who else has the best claim
// to it, or nil. If mine lost it, the device that has it takes it now, where a crash or a
// failure came between.
func (c *claims) resolve(path string, mine *Record) (other *Record, lost bool, err error) {
	other = c.claimant(path, mine, nil, false)
	switch {
	case other == nil:
		return nil, false, nil
	case !c.hasBetterClaim(other, mine, path):
		return other, false, c.share(path, mine, other)
	}
	at := path
	if own := ownPath(other); isBelow(path, own) {
		at = own // which is free when this one has moved
	}
	if !c.dir.tree.has(at, other.Dev(), targetsOf(other)) {
		c.released = append(c.released, at)
	}
	return other, true, c.share(path, other, mine)
}

// share puts on record that two devices want path, or that one goes without it, and
// notes the Conflict where the records did not say so before.
func (c *claims) share(path string, holder, loser *Record) error {
	known := (holder == nil || slices.Contains(holder.Shared, path)) && slices.Contains(loser.Shared, path)
	if !known && isConflict(path, holder, loser) {
		c.conflicts = append(c.conflicts, Conflict{path, holder.Copy(), loser.Copy()})
	}
	return c.markShared(path, holder, loser)
}

// markShared puts on record that each of the devices wants path, or leaves it.
func (c *claims) markShared(path string, a, b *Record) (err error) {
	for _, r := range []*Record{a, b} {
		if r != nil && !slices.Contains(r.Shared, path) {
			r.Shared = append(r.Shared, path)
			err = c.dir.put(r)
		}
	}
	return err
}

// isConflict reports whether it is to be told that one device has path and another goes
// without it. Holder is nil where something is mounted there.
func isConflict(path string, holder, loser *Record) bool {
	switch {
	case loser.IsName(path):
		return false
	case holder == nil || !slices.Contains(holder.Links, path) || !slices.Contains(loser.Links, path):
		return true
	}
	return !holder.IsName(path) && holder.PriorityOf(path) == loser.PriorityOf(path)
}

// isOurs reports whether what stands at path was made here: a link with that text, or else
// a node of dev. Leaves is the device whose node is still to go from there, and which then
// releases the path.
func (c *claims) isOurs(path, text string, dev uevent.Dev) (ours bool, leaves *Record) {
	if !dev.IsZero() {
		r := c.dir.journal.Get(dev.String())
		switch {
		case r == nil || !slices.Contains(targetsOf(r), path):
			return false, nil
		case slices.Contains(r.Nodes, path):
			r = nil
		}
		return true, r
	}
	for _, r := range c.dir.journal.Mentioning(lastPart(path)) {
		if slices.Contains(pathsOf(r), path) && leads(path, text, targetsOf(r)) {
			return true, nil
		}
	}
	return false, nil
}

// handOver gives a link of the device of r, which is to have it no longer, to the device
// with the best claim to it, in one step. Done tells that this one has it, changed that it
// had it not before. Of all but a link, or where that device has no node yet, Released
// takes care.
func (c *claims) handOver(r *Record, path string) (done, changed bool) {
	if !slices.Contains(r.Shared, path) || !slices.Contains(union(r.Links, r.Old), path) {
		return false, false
	}
	heir := c.claimant(path, r, nil, false)
	if heir == nil || !slices.Contains(heir.Links, path) || c.rank(heir).Gone {
		return false, false
	}
	var standing []string
	for _, target := range targetsOf(heir) {
		if c.dir.tree.has(target, heir.Dev(), nil) {
			standing = append(standing, target)
		}
	}
	return c.dir.tree.relink(path, targetsOf(r), standing)
}

// targetsOf returns all paths at which the node of the device may be or have been, the
// ones that it is to have first.
func targetsOf(r *Record) []string {
	targets := union(r.Nodes, r.Old)
	if own := ownPath(r); own != "" {
		targets = union(targets, []string{own})
	}
	return targets
}

// displace makes ready for another device to take path from the one whose node stands
// there. That one has its node at its own name from then on: it is linked there before
// it loses the place, if nothing is in the way but its own link. Its Plan, which is to be
// applied again, does the rest.
func (c *claims) displace(dir parent, path, holder string) {
	r := c.dir.journal.Get(holder)
	if r == nil || !slices.Contains(r.Nodes, path) {
		return
	}
	if home := ownPath(r); home != "" && home != path {
		c.released = append(c.released, home)
		_ = c.dir.tree.linkHome(dir, path, home) // where that fails the Plan does, and says so
	}
}

// release notes that the device of r gave up a path that others may want.
func (c *claims) release(r *Record, path string) {
	for _, shared := range r.Shared {
		if shared == path || isBelow(shared, path) && path == ownPath(r) {
			c.released = append(c.released, shared)
		}
	}
}

// Released returns, for the paths that changed hands since the last call, the records of
// the devices that are to have them now, each once. Their Plans are to be applied again,
// which may release further paths.
func (d *Dir) Released() (claimants []*Record) {
	claimants, d.claims.inTheWay = d.claims.inTheWay, nil
	for _, path := range d.claims.released {
		r := d.claims.claimant(path, nil, nil, false)
		for i := 0; r != nil && i < len(claimants); i++ {
			if claimants[i].ID == r.ID {
				r = nil
			}
		}
		if r != nil {
			claimants = append(claimants, r)
		}
	}
	d.claims.released = nil
	return claimants
}

// Conflicts returns what Apply met since the last call and had not met before.
func (d *Dir) Conflicts() []Conflict {
	met := d.claims.conflicts
	d.claims.conflicts = nil
	return met
}

// Locate fills in p.Lost by where the device's node and links stand, for what is to be done
// before the node goes. /dev must be locked.
func (d *Dir) Locate(p *Plan) {
	r := d.journal.Get(p.Event.ID())
	if r == nil {
		return
	}
	targets := targetsOf(r)
	for _, path := range r.Shared {
		if wants(r, path) && !p.lost(path) && !d.tree.has(path, p.Event.Dev, targets) {
			p.Lost = append(p.Lost, path)
		}
	}
}
