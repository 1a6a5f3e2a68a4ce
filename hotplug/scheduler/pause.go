package scheduler

// Pause stops the queue: events are accepted, but none is started, and no command. Commands
// that run go on.
func (s *Scheduler) Pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = true
}

// Resume starts what was deferred since Pause.
func (s *Scheduler) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A task that is deferred once more, since Pause is called meanwhile, goes to a new list.
	tasks := s.deferred
	s.paused, s.deferred = false, nil
	for i, t := range tasks {
		if i%sliceSize == 0 {
			s.yield()
		}
		switch {
		case s.paused: // again, while the mutex was free
			s.deferLocked(t)
		case s.startLocked(t):
			s.releaseYield(t)
		}
	}
	s.endSliceYield()
}

// deferLocked keeps a task that could start until Resume.
// The callers have packed it.
func (s *Scheduler) deferLocked(t *task) {
	t.state = deferred
	// Until Resume its device may leave.
	t.kind = t.kind.stale()
	s.deferred = append(s.deferred, t)
}

// IsPaused reports whether Pause was called, and Resume not since.
func (s *Scheduler) IsPaused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paused
}
