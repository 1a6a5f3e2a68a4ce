package helper

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/control"
	"devspool/hotplug/handoff"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// Ask makes a request as control.Ask does, but settle, wait and status need no process that answers
// where the kernel starts helpers: none runs while no events come. Then Ask polls, until there is a
// process to ask or the request is done. It polls for wait also where nothing serves /dev; then
// complete, which may be nil, gives events the properties of their devices.
func Ask(dev *nodes.Dir, fs sysfs.FS, words []string, complete func(*uevent.Event) *uevent.Event, say func(line string)) (err error) {
	w := offlineWaiter{dev: dev, sys: fs, say: say}
	begun, timeout := sys.Now(), time.Second // status tries so long while a leader comes or leaves
	switch words[0] {
	case "settle":
		if timeout, err = control.ParseSeconds(words[1]); err == nil {
			w.quiet, err = control.ParseSeconds(words[2])
		}
	case "wait":
		if w.targets, timeout, err = control.ParseWait(words[1:], dev, fs); err == nil {
			w.targets.Complete = complete
		}
	case "status":
	default:
		return control.Ask(dev, words, say)
	}
	if err != nil {
		return err
	}
	for words = slices.Clone(words); ; time.Sleep(10 * sys.PollInterval) {
		err := control.Ask(dev, words, say)
		if !errors.Is(err, control.ErrNoLoop) && !errors.Is(err, control.ErrUnanswered) {
			return err
		}
		w.helper = fs.Helper()
		// Without a helper too, nothing does events: only what wait asks for can still be looked up, in
		// /dev and /sys. That a loop ended in the midst of the request is said in any case.
		if w.helper == "" && (words[0] != "wait" || errors.Is(err, control.ErrUnanswered)) {
			return err
		}
		left := timeout - begun.Age()
		w.late = left <= 0
		why := w.check(words[0])
		if why == "" {
			return nil
		}
		if w.late {
			return errors.New("timed out: " + why)
		}
		// A process that answers next time gets what is left of the timeout.
		if len(words) > 1 {
			words[1] = strconv.Itoa(int((left + time.Second - 1) / time.Second))
		}
	}
}

// offlineWaiter polls for settle, wait and status while no process serves /dev.
type offlineWaiter struct {
	dev    *nodes.Dir
	sys    sysfs.FS
	say    func(line string)
	helper string // the program that the kernel starts, or ""
	late   bool   // the timeout is over

	quiet   time.Duration    // of settle: how long no event may have come
	targets *control.Targets // of wait
	scanned sys.Time         // when /sys was last read for the properties of targets

	seqnum uint64   // of the last event that is waited for
	since  sys.Time // when that was seen first, or 0
}

// scanInterval is how often /sys is read for properties, since no process here receives events.
const scanInterval = 500 * time.Millisecond

// check returns "" where the request with a name is done, or else why it is not done yet.
func (w *offlineWaiter) check(name string) (why string) {
	n := w.sys.Seqnum()
	switch {
	case name == "status":
		return w.status()
	case name == "settle":
		// A new event begins the quiet time anew.
		if w.since == 0 || n != w.seqnum {
			w.seqnum, w.since = n, sys.Now()
		}
		if why = w.pending(); why == "" && w.since.Age() < w.quiet {
			why = "events are still coming"
		}
		return why
	}
	if w.scanned == 0 || w.scanned.Age() > scanInterval {
		w.targets.ScanProperties()
		w.scanned = sys.Now()
	}
	if unmet := w.targets.Unmet(); unmet != "" {
		w.since = 0
		return "still missing:" + unmet
	}
	if w.helper == "" || w.late {
		return ""
	}
	if w.since == 0 { // now wait for the events until now: devtmpfs has a node before its event comes
		w.seqnum, w.since = n, sys.Now()
	}
	return w.pending()
}

// pending returns why the events up to w.seqnum may not be done yet, or "". SEQNUMs that no helper has
// seen may be those of other network namespaces, or of helpers that are still to come.
func (w *offlineWaiter) pending() (why string) {
	seen, known, why := leaderState(w.dev)
	switch {
	case why != "" || known && seen >= w.seqnum:
		return why
	case !arrivedBy(w.since):
		return "events have just come"
	case !known:
		return leaderDied
	}
	return ""
}

// leaderDied says what follows where a leader left stateServing behind.
const leaderDied = "the helper that served was killed; the next event will have /sys scanned anew"

// status prints the status of a /dev that no process serves.
func (w *offlineWaiter) status() (why string) {
	last, known, why := leaderState(w.dev)
	if why != "" {
		return why
	}
	w.say("serving: " + w.dev.Path() + ", as the kernel's helper, which runs for events only: " + uevent.Printable(w.helper))
	events := "events: the last has SEQNUM " + strconv.FormatUint(w.sys.Seqnum(), 10)
	if last > 0 {
		events += ", the last that was done " + strconv.FormatUint(last, 10)
	}
	w.say(events)
	w.say("under way: 0")
	if !known {
		w.say("last error: " + leaderDied)
	}
	return ""
}

// leaderState returns the highest SEQNUM that the last leader has done. known is false where it was
// killed. why is not "" where a leader serves now.
func leaderState(dev *nodes.Dir) (last uint64, known bool, why string) {
	text := "" // where there is no file no helper has led yet: that is known, and the set is empty
	fd, err := unix.Open(dev.Path()+"/"+nodes.Private+"/"+leaderLock, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		// A shared lock: several that ask at once do not take each other for a leader.
		err = sys.Flock(fd, unix.LOCK_SH|unix.LOCK_NB)
		text, _ = sys.ReadAll(fd, maxState)
		unix.Close(fd)
	}
	if err == unix.EWOULDBLOCK || handoff.Waiting() {
		why = "a helper is running, and does not answer"
	}
	seen, known := parseIntervals(text)
	return seen.last(), known, why
}
