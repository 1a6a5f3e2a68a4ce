package hotplug

import (
	"slices"
	"strconv"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// ledger counts what came of events.
type ledger struct {
	since    sys.Time
	last     sys.Time // when the last events came
	seqnum   uint64   // the highest that came
	received uint64   // events that took the road
	done     uint64   // of these, the ones at their end
	late     uint64   // of these, the ones that /sys did not bear out
	failed   uint64   // parts of events that could not be done
	commands uint64   // commands that were started
	gaps     uint64   // times that events were lost
	faults   map[string]fault
}

// fault is the last thing that went wrong with a device.
type fault struct {
	when sys.Time
	text string
}

// maxFaults is for how many devices the last fault is kept.
const maxFaults = 64

func newLedger() ledger { return ledger{since: sys.Now(), faults: map[string]fault{}} }

// blame keeps text as the last fault of the device of e.
func (l *ledger) blame(e *uevent.Event, text string) {
	l.faults[e.Devpath] = fault{sys.Now(), e.Action + ": " + text}
	if len(l.faults) <= maxFaults {
		return
	}
	oldest := e.Devpath
	for devpath, f := range l.faults {
		if f.when < l.faults[oldest].when {
			oldest = devpath
		}
	}
	delete(l.faults, oldest)
}

// Status tells how things stand, in lines for a person: "name: value", then one
// for each command that runs, and one for each device that something went wrong
// with.
func (r *Road) Status() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &r.ledger
	state := "open"
	if r.halted {
		state = "stopped"
	}
	lines := []string{
		"config: " + r.Rules.File() + r.refusal(),
		"up: " + l.since.Ago(),
		"queue: " + state,
		"events: " + count(l.received) + " received, " + count(l.done) + " done, " + count(l.late) + " of them too late",
		"under way: " + strconv.Itoa(r.order.count) + ", " + strconv.Itoa(r.queue.length()) + " of them waiting for a command's turn" + r.heldBack(),
		"commands: " + count(l.commands) + " started, " + strconv.Itoa(len(r.active)) + " running, " + strconv.Itoa(r.Jobs) + " at most" + r.runningLimit(),
		"failures: " + count(l.failed),
		"gaps: " + count(l.gaps),
	}
	for _, listener := range r.Listeners {
		if listener.Status != nil {
			lines = append(lines, listener.Status())
		}
	}
	var running []*started // the oldest first; slices.SortFunc would cost the program 8 kB
	for s := range r.active {
		running = append(running, s)
		for i := len(running) - 1; i > 0 && running[i-1].since > running[i].since; i-- {
			running[i-1], running[i] = running[i], running[i-1]
		}
	}
	for _, s := range running {
		lines = append(lines, "running: "+s.since.Ago()+", pid "+strconv.Itoa(s.pid)+": "+
			s.task.event.Action+" "+s.task.event.Devpath+": "+s.command.Rule.String()+": "+s.command.Text)
	}
	var paths []string
	for devpath := range l.faults {
		paths = append(paths, devpath)
	}
	slices.Sort(paths)
	for _, devpath := range paths {
		f := l.faults[devpath]
		lines = append(lines, "last error: "+devpath+": "+f.when.Ago()+" ago: "+f.text)
	}
	for i := range lines {
		lines[i] = uevent.Printable(lines[i])
	}
	return lines
}

func (r *Road) refusal() string {
	if r.refused == nil {
		return ""
	}
	return ", not as it is now: " + r.refused.Error()
}

func (r *Road) heldBack() string {
	if !r.halted {
		return ""
	}
	return ", " + strconv.Itoa(len(r.held)) + " for the queue to be open"
}

func (r *Road) runningLimit() string {
	if r.Running == 0 {
		return ""
	}
	return ", " + strconv.Itoa(r.Running) + " of them in state R"
}

func count(n uint64) string { return strconv.FormatUint(n, 10) }
