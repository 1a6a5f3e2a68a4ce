package hotplug

import "time"

// Halt stops the queue: events are taken, but none is begun, nor a command. What
// runs goes on.
func (r *Road) Halt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.halted = true
}

// Start opens the road again after Halt.
func (r *Road) Start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := r.held
	r.halted, r.held = false, nil
	for i, t := range held {
		if i%turn == 0 {
			r.pass()
		}
		switch {
		case r.halted: // again, meanwhile
			r.hold(t)
		case r.begin(t):
			r.retire(t)
		}
	}
	r.leave()
}

// hold keeps a task that could begin until the road is open again.
func (r *Road) hold(t *task) {
	t.fresh = false
	r.held = append(r.held, t)
}

func (r *Road) isHalted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.halted
}

// SetJobs sets how many commands may run at once, from 1. After End it does nothing.
func (r *Road) SetJobs(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Jobs > 0 {
		r.Jobs = n
		r.leave()
	}
}

// SetRunning sets how many of the commands may be in state R at once; 0 is for no limit.
func (r *Road) SetRunning(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Running = n
	r.leave()
}

// probe is how often the states of commands are looked at where their number is limited.
const probe = 50 * time.Millisecond

// busy reports whether so many commands are in state R that no other may start
// now. If so, there will be another look.
func (r *Road) busy() bool {
	if r.Running == 0 || len(r.active) < r.Running {
		return false
	}
	if r.probed {
		return true
	}
	if countRunning(r.active) < r.Running {
		return false
	}
	r.probed = true
	time.AfterFunc(probe, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.probed = false
		r.leave()
	})
	return true
}
