package nodes

import (
	"strings"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// An instance of a device lasts from its add to its remove. /sys alone decides what
// is in /dev; but whether a device is a new one only its events can tell, since
// another may have its devpath and its numbers by the time they are done.

// State says what is known of the instance that a record is of.
type State string

const (
	// Live is the state of a device that was set up and not removed.
	Live State = ""
	// Ended is that of one whose remove was done while what it had is still there:
	// another device had come to its place already, or something could not be removed.
	Ended State = "ended"
	// Left is that of one which had left before its add was done. Its remove is to come.
	Left State = "left"
)

// diskseq is the variable by which the kernel tells two disks apart (since Linux 5.15).
const (
	diskseq     = "DISKSEQ"
	diskseqWord = "diskseq" // in the record
)

// follows reports whether r tells of the same instance as old does.
func (r *Record) follows(old *Record) bool {
	return old.State == Live && old.Devpath == r.Devpath && r.sameDisk(old)
}

// sameDisk reports whether nothing says that r and old are of two disks. One that
// does not say is given the other's number.
func (r *Record) sameDisk(old *Record) bool {
	if r.Diskseq == "" {
		r.Diskseq = old.Diskseq
	}
	return old.Diskseq == "" || r.Diskseq == old.Diskseq
}

// Recorded returns the record of the device of e, if it is the one at this devpath, or
// nil. The lock must be held.
func (d *Dir) Recorded(e *uevent.Event) *Record {
	r := d.find(e.Devpath)
	if r != nil && !e.Dev.IsZero() && r.Dev() != e.Dev {
		return nil
	}
	return r
}

// IsSetUp reports whether the record says that the device of e was set up, as the
// one at this devpath. The lock must be held.
func (d *Dir) IsSetUp(e *uevent.Event) bool {
	r := d.Recorded(e)
	return r != nil && r.State == Live
}

// Displaced returns the record of a device that had the devpath of e and other
// numbers, or nil. The lock must be held.
func (d *Dir) Displaced(e *uevent.Event) *Record {
	id, known := d.record.place[e.Devpath]
	if !known || e.Dev.IsZero() || devOf(id) == e.Dev {
		return nil
	}
	return d.find(e.Devpath)
}

// OtherDisk reports whether e is about another disk than the one on record, or may
// be, where the record was not read yet.
func (d *Dir) OtherDisk(e *uevent.Event) bool {
	if !e.Dev.Block {
		return false
	}
	now, _ := e.Get(diskseq)
	if now == "" || d.record.fd == sys.None {
		return now != ""
	}
	_, was, known := strings.Cut(d.recall(e.ID()), " "+diskseqWord+"=")
	was, _, _ = strings.Cut(was, " ")
	return known && was != now
}

// follow notes that a disk, which stays the same device, has another medium.
func (d *Dir) follow(e *uevent.Event) {
	if !d.OtherDisk(e) {
		return
	}
	if r := d.Recorded(e); r != nil && r.State == Live {
		r.Diskseq, _ = e.Get(diskseq)
		d.jot(r)
	}
}

// late notes what an event tells of the device's instance that comes too late to
// change /dev. Existed is that of Apply.
func (d *Dir) late(p *Plan) (existed bool) {
	e, want := p.Event, recordOf(p)
	r := d.Recorded(e)
	switch e.Action {
	case uevent.Add:
		if r != nil && r.State == Live {
			return want.follows(r)
		}
		if r == nil {
			if d.recall(want.ID) != "" {
				return false // these numbers are another device's
			}
			r = &want
			r.Nodes, r.Links = nil, nil
		}
		r.Diskseq, r.State = want.Diskseq, Left
		d.jot(r)
	case uevent.Remove:
		if r != nil && want.sameDisk(r) {
			r.State = Ended
			d.jot(r)
		}
	case uevent.Move:
		d.rename(e)
	}
	return false
}

// Evict removes what a device had that Displaced returned. The lock must be held.
func (d *Dir) Evict(old *Record) error { return d.wipe(old, old.Dev(), old.Nodes, old.Links) }
