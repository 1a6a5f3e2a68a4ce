package scheduler

import "devspool/hotplug/uevent"

// These are what tests outside of the package need of its inside.

// SliceSize is how many events are submitted together.
const SliceSize = sliceSize

// IsIdleLocked is IsIdle for a Sink, which is called with the mutex held.
func IsIdleLocked(s *Scheduler) bool { return s.isIdleLocked() }

// IsLockless reports whether /dev had no room for a lock when it was last to be locked.
func IsLockless(s *Scheduler) bool { return s.applier.dev.lockless }

// States returns the states of the tasks that are under way, by devpath.
func States(s *Scheduler) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := [...]string{submitted: "submitted", waiting: "waiting", deferred: "deferred", started: "started", done: "done"}
	states := map[string]string{}
	for devpath, t := range s.graph.path {
		state := names[t.state]
		if (t.state == waiting || t.state == deferred) != (t.work == nil) {
			state += ", but not packed as it should be"
		}
		states[devpath] = state
	}
	for _, j := range s.pool.running {
		if j.task.state == detached {
			states[j.task.event.Devpath] += "detached"
		}
	}
	return states
}

// Conflict reports whether two events conflict, by the plain rule.
func Conflict(a, b *uevent.Event) bool { return conflict(newTask(a), newTask(b)) }
