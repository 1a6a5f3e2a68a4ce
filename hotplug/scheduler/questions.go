package scheduler

import (
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/command"
	"devspool/hotplug/procfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// IsIdle reports whether no event is under way. Detached commands may run.
func (s *Scheduler) IsIdle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isIdleLocked()
}

func (s *Scheduler) isIdleLocked() bool { return s.graph.count == 0 && s.arrivals.producers == 0 }

// Quiet returns how long ago events last came.
func (s *Scheduler) Quiet() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.arrivals.last.Age()
}

// HasSeen reports whether the event with that SEQNUM, or a later one, has come.
func (s *Scheduler) HasSeen(seqnum uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.arrivals.seqnum >= seqnum
}

// IsPending reports whether an event other than except is under way for the device at
// devpath or with these numbers. "" and the zero Dev stand for no device.
func (s *Scheduler) IsPending(devpath string, dev uevent.Dev, except TaskID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	isOther := func(t *task) bool { return t != nil && t != except.task }
	return isOther(s.graph.path[devpath]) || isOther(s.graph.dev[dev]) // no task has a zero key
}

// IsReady reports whether the device of an add event is set up: no rule makes a node of it,
// or all of its nodes and links have been made. Without a lock on /dev there is no record
// to tell, and every device counts as ready.
func (s *Scheduler) IsReady(e *uevent.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := &s.applier
	if a.rules.Plan(e).Work != nodes.Create {
		return true
	}
	a.dev.lock()
	defer a.dev.unlock()
	return a.dev.lockless || a.dev.IsSetUp(e)
}

// TaskID names an event that is under way. The zero TaskID names none.
type TaskID struct{ task *task }

// Owner returns the event whose command a process is part of: the process is a command,
// belongs to the process group of one, or descends from one. Such a process must not wait
// for the end of its event, which waits for it.
func (s *Scheduler) Owner(pid int) (id TaskID, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pool.running) == 0 {
		return TaskID{}, false
	}
	const maxDepth = 64 // of processes
	// From the process itself upwards: a command may have started others, which ask.
	for range maxDepth {
		j := s.pool.job(pid)
		if j == nil {
			// A process that was orphaned has another parent, and still its group.
			group, _ := unix.Getpgid(pid) // -1 where the process is gone
			j = s.pool.job(group)
		}
		if j != nil {
			return TaskID{j.task}, true
		}
		if pid = procfs.Parent(pid); pid <= 1 {
			break
		}
	}
	return TaskID{}, false
}

// IsCommand reports whether a process is a command that was started here, so that nothing
// else may wait for it. It is known before it can end.
func (s *Scheduler) IsCommand(pid int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pool.job(pid) != nil
}

// CommandsRunning returns how many commands run that this process has to wait for or to
// kill, detached ones too.
func (s *Scheduler) CommandsRunning() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.pool.running {
		if !command.Outlives(j.Command) {
			n++
		}
	}
	return n
}
