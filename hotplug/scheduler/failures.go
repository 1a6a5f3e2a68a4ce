package scheduler

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// failures logs what could not be done, counts it, and keeps the last error of each device.
// Scheduler.mu guards it.
type failures struct {
	log    *log.Logger
	count  uint64               // parts of events that could not be done
	denied [len(reasons)]uint64 // of count: what failed in this scan for a reason that all devices share, by reason
	rights bool                 // byRights has had its line: no later event has one of its own for it
	last   []*LastError         // by devpath, at most maxErrors; but for isPublished none is changed once it is here
}

// LastError is the most recent error of a device. Stats shares it: what is exported never changes.
type LastError struct {
	Devpath string
	When    sys.Time
	Text    string

	isPublished bool // a Plan has it; see take
}

// maxErrors is for how many devices the last error is kept: the most recent ones.
const maxErrors = 64

// add notes that a part of an event could not be done: what part, and why.
func (f *failures) add(b *Batch, e *uevent.Event, what, why string) {
	b.failed = true
	f.count++
	f.keep(e, what+": "+why)
	f.log.Event(log.Err, what, e, why)
}

// addError notes each of the errors that are joined in err, which may be nil.
func (f *failures) addError(b *Batch, e *uevent.Event, err error) {
	if err == nil {
		return
	}
	// Each has a line of its own in the log, and its own count.
	if joined, is := err.(interface{ Unwrap() []error }); is {
		for _, err := range joined.Unwrap() {
			f.addError(b, e, err)
		}
		return
	}
	text := err.Error()
	if i := widespread(err); i >= 0 && (i == byRights || e.Seqnum == 0) { // in a scan, whose events have no number
		// The first one has a line of its own below. Each later one is counted, and LogDenied says how many.
		if f.denied[i]++; f.denied[i] > 1 || i == byRights && f.rights {
			b.failed = true
			f.count++
			return
		}
		if i == byRights {
			f.rights = true
			text += "; in a user namespace (unshare -U, a rootless container) nobody may make them: have the host's nodes mounted there"
		}
		text += ". Further ones are counted"
	}
	f.add(b, e, "failed", text)
}

// byRights is the first of the reasons that widespread knows, and the one that no event to
// come can change: without the rights of the real root every node is denied.
const byRights = 0

// reasons are those by number, as the kernel says them.
var reasons = [...]unix.Errno{unix.EPERM, unix.EROFS, unix.ENOSPC}

// widespread returns the number of the reason for err, if it is one that keeps all devices
// from having their nodes, so that one line is enough; else -1.
func widespread(err error) int {
	failed, is := err.(*nodes.Error) // errors.As would cost 10 kB
	if !is {
		return -1
	}
	// A directory that may not be written to is the same want of rights as EPERM of mknod.
	if failed.Err == unix.EACCES {
		return byRights
	}
	for i, reason := range reasons {
		if failed.Err == reason {
			return i
		}
	}
	return -1
}

// keep makes text the last error of the device of e.
func (f *failures) keep(e *uevent.Event, text string) {
	// The list is in the order of devpaths, as the status shows it, and short.
	at := 0
	for at < len(f.last) && f.last[at].Devpath < e.Devpath {
		at++
	}
	if at == len(f.last) || f.last[at].Devpath != e.Devpath {
		f.last = append(f.last, nil)
		copy(f.last[at+1:], f.last[at:])
	}
	// A new one in the place of the old one, which Stats may have given out.
	f.last[at] = &LastError{Devpath: e.Devpath, When: sys.Now(), Text: e.Action + ": " + text}
	if len(f.last) <= maxErrors {
		return
	}
	// There is one more than may be kept.
	oldest := at
	for i, other := range f.last {
		if other.When < f.last[oldest].When {
			oldest = i
		}
	}
	copy(f.last[oldest:], f.last[oldest+1:])
	f.last = f.last[:maxErrors]
}

// take returns the error that an event which is done has had, or "".
func (f *failures) take(e *uevent.Event) string {
	for _, last := range f.last {
		// An error of another action, or one that a Plan has already, is an earlier event's.
		if text, is := strings.CutPrefix(last.Text, e.Action+": "); is && !last.isPublished && last.Devpath == e.Devpath {
			last.isPublished = true
			return text
		}
	}
	return ""
}

// LogDenied ends a scan: it logs how many nodes, links or records could not be made for a
// reason that the log has only one line of, if there were more than that.
func (s *Scheduler) LogDenied() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range reasons {
		if n := s.failures.denied[i]; n > 1 {
			s.log.Print(log.Err, strconv.FormatUint(n, 10)+" nodes could not be made: "+reasons[i].Error())
		}
	}
	s.failures.denied = [len(reasons)]uint64{}
}
