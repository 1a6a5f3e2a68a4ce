package scheduler

import (
	"devspool/hotplug/sys"
)

// Counts are counters since the start of the process.
type Counts struct {
	Since          sys.Time // the start
	Received       uint64   // events
	Done           uint64   // of the received ones
	Late           uint64   // of the done ones: /sys contradicted them
	Commands       uint64   // commands started
	CommandsFailed uint64   // commands that could not start, were killed, or ended with another status than 0
	Gaps           uint64   // times that events were lost
}

// Stats is the state of a Scheduler at one moment.
type Stats struct {
	Counts
	Failed    uint64            // parts of events that failed
	Pending   int               // events under way
	Deferred  int               // of the pending ones, those that wait for Resume
	Paused    bool              // see Pause
	Queued    int               // commands that wait for a slot
	Jobs      int               // see SetJobs; 0 after Shutdown
	Runnable  int               // see SetRunnable
	Detached  int               // running commands that have no slot
	Running   []*RunningCommand // the oldest first
	Errors    []*LastError      // by devpath
	Sinks     []string          // Status of each sink that has one
	Observers int               // those not stopped
}

// RunningCommand is a command that runs, and its event.
type RunningCommand struct {
	PID             int
	Since           sys.Time
	Action, Devpath string
	Text            string // the rule and the command
}

// Received returns how many events were received since the start.
func (s *Scheduler) Received() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts.Received
}

// Stats returns the state of the Scheduler. The caller may keep it.
func (s *Scheduler) Stats() *Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	// The list of errors is copied, since it is changed in place; what is exported of an error never is.
	st := &Stats{
		Counts: s.counts, Failed: s.failures.count, Errors: append([]*LastError(nil), s.failures.last...),
		Pending: s.graph.count, Deferred: len(s.deferred), Paused: s.paused,
		Queued: s.pool.queue.length(), Jobs: s.pool.jobs, Runnable: s.pool.runnable,
		Detached: s.pool.detached, Running: s.pool.list(), Observers: len(s.observers),
	}
	for i := range s.sinks {
		if f := s.sinks[i].Status; f != nil {
			st.Sinks = append(st.Sinks, f())
		}
	}
	return st
}
