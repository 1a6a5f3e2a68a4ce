package nodes

import (
	"slices"

	"devspool/hotplug/uevent"
)

// An instance of a device lasts from its add to its remove. /sys alone decides what
// is in /dev; but whether a device is a new one only its events can tell, since
// another may have its devpath and its numbers by the time they are done.

// diskseq is the variable by which the kernel tells two disks apart (since Linux 5.15).
const diskseq = "DISKSEQ"

// isSameInstance reports whether r is about the same instance as old.
func isSameInstance(r, old *Record) bool {
	return old.State == Live && old.Devpath == r.Devpath && isSameDisk(r, old)
}

// isSameDisk reports whether nothing says that r and old are about two disks. A record
// without a number is given the other's.
func isSameDisk(r, old *Record) bool {
	if r.Diskseq == "" {
		r.Diskseq = old.Diskseq
	}
	return old.Diskseq == "" || r.Diskseq == old.Diskseq
}

// Recorded returns the record of the device of e, if it is the one at this devpath, or
// nil. /dev must be locked.
func (d *Dir) Recorded(e *uevent.Event) *Record {
	r := d.journal.At(e.Devpath)
	if r != nil && !e.Dev.IsZero() && r.Dev() != e.Dev {
		return nil
	}
	return r
}

// Shares reports whether another device wants a path that the device of e wants, by what was
// read of the record. /dev need not be locked.
func (d *Dir) Shares(e *uevent.Event) bool {
	r := d.Recorded(e)
	return r != nil && len(r.Shared) > 0
}

// IsSetUp reports whether the record says that the device of e was set up, as the
// one at this devpath. /dev must be locked.
func (d *Dir) IsSetUp(e *uevent.Event) bool {
	r := d.Recorded(e)
	return r != nil && r.State == Live
}

// HasAll reports whether the device on record of p's event has the links that p makes, with
// the same priorities, and no others. /dev must be locked.
func (d *Dir) HasAll(p *Plan) bool {
	r, want := d.Recorded(p.Event), recordOf(p)
	if r == nil || !slices.Equal(r.Links, want.Links) || !slices.Equal(r.Names, want.Names) ||
		!slices.Equal(r.Priorities, want.Priorities) {
		return false
	}
	targets := targetsOf(r)
	for _, path := range r.Links { // somebody may have removed one
		if !slices.Contains(r.Shared, path) && !d.tree.has(path, r.Dev(), targets) {
			return false
		}
	}
	return true
}

// Displaced returns the record of a device that had the devpath of e and other
// numbers, or nil. /dev must be locked.
func (d *Dir) Displaced(e *uevent.Event) *Record {
	if e.Dev.IsZero() {
		return nil
	}
	if id := d.journal.IDAt(e.Devpath); id != "" && id != e.ID() {
		return d.journal.Get(id)
	}
	return nil
}

// Evict removes what a device had that Displaced returned. /dev must be locked.
func (d *Dir) Evict(old *Record) error { return d.wipe(old, old.Dev()) }

// OtherDisk reports whether e is about another disk than the one on record, or may
// be, where the journal was not read yet.
func (d *Dir) OtherDisk(e *uevent.Event) bool {
	if !e.Dev.Block {
		return false
	}
	now, _ := e.Get(diskseq)
	if now == "" || d.journal == nil {
		return now != ""
	}
	r := d.journal.Get(e.ID())
	return r != nil && r.Diskseq != "" && r.Diskseq != now
}

// changeDisk notes that a disk, which stays the same device, has another medium.
func (d *Dir) changeDisk(e *uevent.Event) {
	if !d.OtherDisk(e) {
		return
	}
	if r := d.Recorded(e); r != nil && r.State == Live {
		r.Diskseq, _ = e.Get(diskseq)
		d.journal.PutLater(r)
		for _, path := range r.Shared { // of several disks of one name the last one has it
			d.claims.release(r, path)
		}
	}
}

// late notes what an event says of the device's instance that comes too late to
// change /dev. Existed is that of Apply.
func (d *Dir) late(p *Plan) (existed bool) {
	e, want := p.Event, recordOf(p)
	r := d.Recorded(e)
	switch e.Action {
	case uevent.Add:
		if r != nil && r.State == Live {
			return isSameInstance(&want, r)
		}
		if r == nil {
			if d.journal.Has(want.ID) {
				return false // these numbers are another device's
			}
			r = &want
			r.Nodes, r.Links, r.Names, r.Priorities = nil, nil, nil, nil
		}
		r.Diskseq, r.State = want.Diskseq, Left
		d.journal.PutLater(r)
	case uevent.Remove:
		if r != nil && isSameDisk(&want, r) {
			r.State = Ended
			d.journal.PutLater(r)
		}
	case uevent.Move:
		_ = d.rename(e) // what was not written is, with the next record
	}
	return false
}
