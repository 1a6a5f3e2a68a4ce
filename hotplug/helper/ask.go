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

// Ask asks as Ask does, but needs no process to answer where the kernel starts
// helpers, of which none runs between storms: settle, wait and status are done here then,
// until there is one to be asked. Where nothing serves at all, wait looks by itself too;
// complete, which may be nil, tells it then what devices are besides what the kernel says.
func Ask(dev *nodes.Dir, fs sysfs.FS, words []string, complete func(*uevent.Event) *uevent.Event, say func(line string)) (err error) {
	w := offlineWaiter{dev: dev, sys: fs, say: say}
	begun, timeout := sys.Now(), time.Second // for status, where a server comes or leaves
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
		if err != control.ErrNoLoop && err != control.ErrUnanswered {
			return err
		}
		w.helper = fs.Helper()
		if w.helper == "" && (words[0] != "wait" || err == control.ErrUnanswered) {
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
		if len(words) > 1 {
			words[1] = strconv.Itoa(int((left + time.Second - 1) / time.Second))
		}
	}
}

// offlineWaiter polls for settle, wait and status while no process serves.
type offlineWaiter struct {
	dev    *nodes.Dir
	sys    sysfs.FS
	say    func(line string)
	helper string // the program that the kernel starts, or ""
	late   bool   // the time is over

	quiet   time.Duration
	targets *control.Targets
	scanned sys.Time // when /sys was last read for properties

	seqnum uint64   // of the last event
	since  sys.Time // when that was seen first
}

// scanInterval is how often /sys is read where no events come.
const scanInterval = 500 * time.Millisecond

// check does what is asked for, or tells why that is not so yet.
func (w *offlineWaiter) check(what string) (why string) {
	n := w.sys.Seqnum()
	switch {
	case what == "status":
		return w.status()
	case what == "settle":
		if w.since == 0 || n != w.seqnum {
			w.seqnum, w.since = n, sys.Now()
		}
		if why = w.pending(); why == "" && w.since.Age() < w.quiet {
			why = "events still come"
		}
		return why
	}
	if w.scanned == 0 || w.scanned.Age() > scanInterval {
		w.targets.ScanProperties()
		w.scanned = sys.Now()
	}
	if unmet := w.targets.Unmet(); unmet != "" {
		w.since = 0
		return "not there:" + unmet
	}
	if w.helper == "" || w.late {
		return ""
	}
	if w.since == 0 { // the events until now are to be done: devtmpfs has a node before its event comes
		w.seqnum, w.since = n, sys.Now()
	}
	return w.pending()
}

// pending tells why the events up to w.seqnum may not be done. Numbers that no helper has
// seen may be those of other namespaces, or on their way still.
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

const leaderDied = "the helper that served was killed; the next event has /sys scanned anew"

// status tells how things stand while no helper runs.
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

// leaderState returns the highest SEQNUM that the last leader of helpers has done, and
// whether it left that behind; or why it is not to be read.
func leaderState(dev *nodes.Dir) (last uint64, known bool, why string) {
	path, text := dev.Path()+"/"+nodes.Private+"/"+leaderLock, ""
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB)
		text, _ = sys.ReadFile(path)
		unix.Close(fd)
	}
	if err == unix.EWOULDBLOCK || handoff.Waiting() {
		why = "a helper is running, and does not answer"
	}
	seen, known := parseIntervals(text)
	return seen.last(), known, why
}
