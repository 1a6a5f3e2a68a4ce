package scheduler

import "devspool/hotplug/uevent"

// What tests outside of the package see of its inside.

const SliceSize = sliceSize

// IsIdleLocked is IsIdle for a Sink, which is told with the mutex held.
func IsIdleLocked(s *Scheduler) bool { return s.graph.count == 0 && s.producers == 0 }

// IsLockless reports whether there is no lock on /dev to be had.
func IsLockless(s *Scheduler) bool { return s.dev.lockless }

// Conflict reports whether two events conflict, by the plain rule.
func Conflict(a, b *uevent.Event) bool { return conflict(newTask(a), newTask(b)) }
