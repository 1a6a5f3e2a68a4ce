package hotplug

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/handoff"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// Attend asks as Ask does, but needs nobody to answer where the kernel starts
// helpers, of which none runs between storms: settle, wait and status are seen to
// here then, until there is one to be asked. Where nothing serves at all, wait
// looks by itself too.
func Attend(r *Road, words []string, say func(line string)) (err error) {
	v := vigil{road: r, say: say}
	begun, timeout := sys.Now(), time.Second // for status, where a server comes or leaves
	switch words[0] {
	case "settle":
		if timeout, err = ParseSeconds(words[1]); err == nil {
			v.quiet, err = ParseSeconds(words[2])
		}
	case "wait":
		v.refs, timeout, err = r.parseRefs(words[1:])
	case "status":
	default:
		return Ask(r.Dev, words, say)
	}
	if err != nil {
		return err
	}
	for words = slices.Clone(words); ; time.Sleep(10 * sys.PollInterval) {
		err := Ask(r.Dev, words, say)
		if err != ErrNoLoop && err != errUnanswered {
			return err
		}
		v.helper = r.Sys.Helper()
		if v.helper == "" && (words[0] != "wait" || err == errUnanswered) {
			return err
		}
		left := timeout - begun.Age()
		v.late = left <= 0
		why := v.look(words[0])
		if why == "" {
			return nil
		}
		if v.late {
			return errors.New("timed out: " + why)
		}
		if len(words) > 1 {
			words[1] = strconv.Itoa(int((left + time.Second - 1) / time.Second))
		}
	}
}

// vigil is what somebody keeps who waits where no process serves.
type vigil struct {
	road   *Road
	say    func(line string)
	helper string // the program that the kernel starts, or ""
	late   bool   // the time is over

	quiet    time.Duration
	refs     []*ref
	surveyed sys.Time

	seqnum uint64   // of the last event
	since  sys.Time // when that was seen first
}

// surveyEvery is how often /sys is read where no events come.
const surveyEvery = 500 * time.Millisecond

// look does what is asked for, or tells why that is not so yet.
func (v *vigil) look(what string) (why string) {
	n := v.road.Sys.Seqnum()
	switch {
	case what == "status":
		return v.status()
	case what == "settle":
		if v.since == 0 || n != v.seqnum {
			v.seqnum, v.since = n, sys.Now()
		}
		if why = v.underWay(); why == "" && v.since.Age() < v.quiet {
			why = "events still come"
		}
		return why
	}
	if v.surveyed == 0 || v.surveyed.Age() > surveyEvery {
		v.road.survey(v.refs)
		v.surveyed = sys.Now()
	}
	if missing := v.road.missing(v.refs, nil, false); missing != "" {
		v.since = 0
		return "not there:" + missing
	}
	if v.helper == "" || v.late {
		return ""
	}
	if v.since == 0 { // the events until now are to be done: devtmpfs has a node before its event comes
		v.seqnum, v.since = n, sys.Now()
	}
	return v.underWay()
}

// underWay tells why the events up to v.seqnum may not be done. Numbers that no helper
// has seen may be those of other namespaces, or on their way still.
func (v *vigil) underWay() (why string) {
	text, why := v.road.serverLeft()
	taken, ok := parseSpans(text)
	switch {
	case why != "" || ok && taken.last() >= v.seqnum:
		return why
	case !cameBy(v.since):
		return "events have just come"
	case !ok:
		return serverDied
	}
	return ""
}

const serverDied = "the helper that served was killed; the next event has /sys scanned anew"

// status tells how things stand while no helper runs.
func (v *vigil) status() (why string) {
	text, why := v.road.serverLeft()
	if why != "" {
		return why
	}
	v.say("serving: " + v.road.Dev.Path() + ", as the kernel's helper, which runs for events only: " + uevent.Printable(v.helper))
	taken, ok := parseSpans(text)
	events := "events: the last has the number " + count(v.road.Sys.Seqnum())
	if last := taken.last(); last > 0 {
		events += ", the last that was done " + count(last)
	}
	v.say(events)
	v.say("under way: 0")
	if !ok {
		v.say("last error: " + serverDied)
	}
	return ""
}

// serverLeft returns what the last server wrote into its lock, or why it is not to
// be read.
func (r *Road) serverLeft() (text, why string) {
	path := r.Dev.Path() + "/" + nodes.Private + "/" + serverLock
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB)
		text, _ = sys.ReadFile(path)
		unix.Close(fd)
	}
	if err == unix.EWOULDBLOCK || handoff.Waiting() {
		why = "a helper is at work, and does not answer"
	}
	return text, why
}
