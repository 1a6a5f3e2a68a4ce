package scheduler

import (
	"time"

	"devspool/hotplug/procfs"
	"devspool/hotplug/sys"
)

// SetJobs sets how many commands may run at once, from 1. It has no effect after Shutdown.
func (s *Scheduler) SetJobs(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// 0 is Shutdown's, which no request may take back.
	if s.pool.jobs > 0 {
		s.pool.setJobs(n)
		s.endSliceYield()
	}
}

// SetRunnable sets how many commands may be in state R at once: while there are more, no
// further one starts. 0 is for no limit.
func (s *Scheduler) SetRunnable(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool.runnable = n
	s.endSliceYield()
}

// loadInterval is how often the states of commands are read while the limit of SetRunnable
// keeps others from starting.
const loadInterval = 50 * time.Millisecond

// overLimitLocked reports whether as many commands are in state R as may be. If so, it is
// asked again after loadInterval.
func (s *Scheduler) overLimitLocked() bool {
	p := s.pool
	if p.runnable == 0 || len(p.running) < p.runnable {
		return false
	}
	if p.loadCheckDue {
		return true
	}
	// Each command has a process group of its own: what it has started counts too.
	groups := make(map[int]bool, len(p.running))
	for _, j := range p.running {
		groups[j.PID] = true
	}
	if procfs.CountRunnable(groups) < p.runnable {
		return false
	}
	p.loadCheckDue = true
	time.AfterFunc(loadInterval, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pool.loadCheckDue = false
		s.endSliceYield()
	})
	return true
}

// SetProperty has the commands of later events inherit a variable, or with an empty value
// not any more. Commands that run keep the environment that they were started with.
func (s *Scheduler) SetProperty(key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A new slice: the old one may be the caller's of New or Stay.
	environ := sys.Unsetenv(s.pool.environ, key)
	if value != "" {
		environ = append(environ, key+"="+value)
	}
	s.pool.environ = environ
}

// First has commands of which no disk can come wait until it is called with false.
func (s *Scheduler) First(first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool.first = first
	s.endSliceYield()
}
