package nodes

import (
	"strings"

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
const diskseq = "DISKSEQ"

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

// Recorded returns the record of the device of e, if it is the one at this devpath.
// The lock must be held.
func (d *Dir) Recorded(e *uevent.Event) (r Record, known bool) {
	if r, known = d.find(e.Devpath); !known {
		return r, false
	}
	return r, e.Dev.IsZero() || r.Dev() == e.Dev
}

// IsSetUp reports whether the record says that the device of e was set up, as the
// one at this devpath. The lock must be held.
func (d *Dir) IsSetUp(e *uevent.Event) bool {
	r, known := d.Recorded(e)
	return known && r.State == Live
}

// Displaced returns the record of a device that had the devpath of e and other
// numbers. The lock must be held.
func (d *Dir) Displaced(e *uevent.Event) (r Record, is bool) {
	id, known := d.record.place[e.Devpath]
	if !known || e.Dev.IsZero() || devOf(id) == e.Dev {
		return r, false
	}
	return parseRecord(id, d.recall(id)), true
}

// Replaced returns the records of what a disk had that e shows to be another one by
// now: its own, the last, and those of the devices below it. The lock must be held.
func (d *Dir) Replaced(e *uevent.Event) (gone []Record) {
	if !d.OtherDisk(e) {
		return nil
	}
	r, known := d.Recorded(e)
	if !known || r.State != Live {
		return nil // whose remove has come, or is one that every scan asks for
	}
	for _, other := range d.Records() {
		if strings.HasPrefix(other.Devpath, e.Devpath+"/") && other.State == Live {
			gone = append(gone, other)
		}
	}
	return append(gone, r)
}

// OtherDisk reports whether e is about another disk than the one on record, or may
// be, where the record was not read yet.
func (d *Dir) OtherDisk(e *uevent.Event) bool {
	if !e.Dev.Block {
		return false
	}
	now, _ := e.Get(diskseq)
	if now == "" || d.record.fd == none {
		return now != ""
	}
	_, was, known := strings.Cut(d.recall(e.ID()), " diskseq=")
	was, _, _ = strings.Cut(was, " ")
	return known && was != now
}

// follow notes that a disk, which stays the same device, has another medium.
func (d *Dir) follow(e *uevent.Event) {
	if !d.OtherDisk(e) {
		return
	}
	if r, known := d.Recorded(e); known && r.State == Live {
		r.Diskseq, _ = e.Get(diskseq)
		d.jot(&r)
	}
}

// late notes what an event tells of the device's instance that comes too late to
// change /dev. Existed is that of Apply.
func (d *Dir) late(p *Plan) (existed bool) {
	e, want := p.Event, recordOf(p)
	r, known := d.Recorded(e)
	switch e.Action {
	case uevent.Add:
		switch {
		case known && r.State == Live:
			return want.follows(&r)
		case known:
			want.Nodes, want.Links, want.Shared = r.Nodes, r.Links, r.Shared
		case d.recall(want.ID) != "":
			return false // these numbers are another device's
		default:
			want.Nodes, want.Links = nil, nil
		}
		want.State = Left
		d.jot(&want)
	case uevent.Remove:
		if known && want.sameDisk(&r) {
			r.State = Ended
			d.jot(&r)
		}
	case uevent.Move:
		old, _ := e.Get("DEVPATH_OLD")
		if r, known := d.find(old); known && r.Dev() == e.Dev {
			r.Devpath = e.Devpath
			d.jot(&r)
		}
	}
	return false
}
