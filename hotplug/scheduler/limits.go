package scheduler

import (
	"strings"
	"time"

	"devspool/hotplug/procfs"
)

// Pause stops the queue: events are taken, but none is started, nor a command. What runs
// goes on.
func (s *Scheduler) Pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = true
}

// Resume starts what was deferred since Pause.
func (s *Scheduler) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	deferred := s.deferred
	s.paused, s.deferred = false, nil
	for i, t := range deferred {
		if i%sliceSize == 0 {
			s.yield()
		}
		switch {
		case s.paused: // again, meanwhile
			s.deferLocked(t)
		case s.startLocked(t):
			s.releaseYield(t)
		}
	}
	s.endSlice()
}

// deferLocked keeps a task that could be started until Resume.
func (s *Scheduler) deferLocked(t *task) {
	t.kind = t.kind.stale()
	s.deferred = append(s.deferred, t)
}

// IsPaused reports whether Pause was called, and Resume not since.
func (s *Scheduler) IsPaused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paused
}

// SetJobs sets how many commands may run at once, from 1. After Shutdown it does nothing.
func (s *Scheduler) SetJobs(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pool.jobs > 0 {
		s.pool.jobs, s.pool.jobsSet = n, true
		s.endSlice()
	}
}

// SetRunnable sets how many of the commands may be in state R at once; 0 is for no limit.
func (s *Scheduler) SetRunnable(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool.runnable = n
	s.endSlice()
}

// loadInterval is how often the states of commands are looked at where their number is
// limited.
const loadInterval = 50 * time.Millisecond

// overLimitLocked reports whether so many commands are in state R that no other may start
// now. If so, there will be another look.
func (s *Scheduler) overLimitLocked() bool {
	p := s.pool
	if p.runnable == 0 || len(p.running) < p.runnable {
		return false
	}
	if p.loadCheckDue {
		return true
	}
	groups := make(map[int]bool, len(p.running))
	for run := range p.running {
		groups[run.PID] = true
	}
	if procfs.CountRunnable(groups) < p.runnable {
		return false
	}
	p.loadCheckDue = true
	time.AfterFunc(loadInterval, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pool.loadCheckDue = false
		s.endSlice()
	})
	return true
}

// SetProperty has the commands of later events inherit a variable, or with an empty value
// not any more.
func (s *Scheduler) SetProperty(key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var environ []string
	for _, kv := range s.pool.environ {
		if !strings.HasPrefix(kv, key+"=") {
			environ = append(environ, kv)
		}
	}
	if value != "" {
		environ = append(environ, key+"="+value)
	}
	s.pool.environ = environ
}
