package scheduler

import (
	"slices"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// stats counts what came of events. Scheduler.mu guards it.
type stats struct {
	since     sys.Time
	lastEvent sys.Time // when the last events came
	seqnum    uint64   // the highest that came
	received  uint64
	done      uint64 // of the received ones
	late      uint64 // of the done ones, those that /sys did not bear out
	failed    uint64 // parts of events that could not be done
	denied    uint64 // of these, nodes that the kernel let nobody make
	commands  uint64 // commands that were started
	gaps      uint64 // times that events were lost
	errors    map[string]LastError
}

// LastError is the last thing that went wrong with a device.
type LastError struct {
	Devpath string
	When    sys.Time
	Text    string
}

// maxErrors is for how many devices the last error is kept.
const maxErrors = 64

func newStats() stats { return stats{since: sys.Now(), errors: map[string]LastError{}} }

// recordError keeps text as the last error of the device of e.
func (st *stats) recordError(e *uevent.Event, text string) {
	st.errors[e.Devpath] = LastError{e.Devpath, sys.Now(), e.Action + ": " + text}
	if len(st.errors) <= maxErrors {
		return
	}
	oldest := e.Devpath
	for devpath, f := range st.errors {
		if f.When < st.errors[oldest].When {
			oldest = devpath
		}
	}
	delete(st.errors, oldest)
}

// Stats is how things stand.
type Stats struct {
	Since                        sys.Time // the start of this process
	Received, Done, Late, Failed uint64   // events; Failed counts their parts
	Pending, Deferred            int      // events that are under way; of these, those that wait for Resume
	Paused                       bool
	Commands                     uint64 // that were started
	Queued, Jobs, Runnable       int    // commands that wait for a slot; the limits, 0 for none
	Detached                     int    // running commands that nothing waits for, or that keep no slot
	Gaps                         uint64
	Running                      []RunningCommand // the oldest first
	Errors                       []LastError      // by devpath
	Sinks                        []string         // a line from each sink that has one
	Observers                    int              // somebody waits for events
}

// RunningCommand is a command that runs, and the event that it runs for.
type RunningCommand struct {
	PID             int
	Since           sys.Time
	Action, Devpath string
	Text            string // the rule and the command
}

// Stats returns how things stand.
func (s *Scheduler) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.stats
	stats := Stats{
		Since: st.since, Received: st.received, Done: st.done, Late: st.late, Failed: st.failed,
		Pending: s.graph.count, Deferred: len(s.deferred), Paused: s.paused,
		Commands: st.commands, Queued: s.pool.queue.length(), Jobs: s.pool.jobs, Runnable: s.pool.runnable,
		Detached: s.pool.detached, Gaps: st.gaps, Observers: len(s.observers),
	}
	for run, j := range s.pool.running {
		stats.Running = append(stats.Running, RunningCommand{run.PID, run.Since, j.task.event.Action, j.task.event.Devpath, describe(run.Command)})
		r := stats.Running // in order; slices.SortFunc would cost the program 8 kB
		for i := len(r) - 1; i > 0 && r[i-1].Since > r[i].Since; i-- {
			r[i-1], r[i] = r[i], r[i-1]
		}
	}
	var devpaths []string
	for devpath := range st.errors {
		devpaths = append(devpaths, devpath)
	}
	slices.Sort(devpaths)
	for _, devpath := range devpaths {
		stats.Errors = append(stats.Errors, st.errors[devpath])
	}
	for _, sink := range s.sinks {
		if sink.Status != nil {
			stats.Sinks = append(stats.Sinks, sink.Status())
		}
	}
	return stats
}
