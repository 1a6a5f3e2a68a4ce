package scheduler

import (
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/procfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// Observer collects events for somebody who waits for one.
type Observer struct {
	// Wake holds a token when there is something new.
	Wake chan struct{}

	s        *Scheduler
	received bool
	events   []*uevent.Event
}

// Observe begins to collect the events that are done, or with received those that come.
func (s *Scheduler) Observe(received bool) *Observer {
	o := &Observer{s: s, received: received, Wake: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observers[o] = true
	return o
}

// Take returns what was collected since the last call.
func (o *Observer) Take() []*uevent.Event {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	events := o.events
	o.events = nil
	return events
}

// Stop ends the collecting.
func (o *Observer) Stop() {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	delete(o.s.observers, o)
}

// notifyLocked keeps an event, which comes or is done, for those who observe that.
func (s *Scheduler) notifyLocked(e *uevent.Event, received bool) {
	for o := range s.observers {
		if o.received != received {
			continue
		}
		o.events = append(o.events, e)
		select {
		case o.Wake <- struct{}{}:
		default:
		}
	}
}

// IsIdle reports whether no event is under way. Commands that nothing waits for may run.
func (s *Scheduler) IsIdle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.graph.count == 0 && s.producers == 0
}

// Quiet returns how long no event has come.
func (s *Scheduler) Quiet() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats.lastEvent.Age()
}

// HasSeen reports whether the event of that SEQNUM, or a later one, came.
func (s *Scheduler) HasSeen(seqnum uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats.seqnum >= seqnum
}

// TaskID names an event that is under way. The zero TaskID names none.
type TaskID struct{ task *task }

// Owner returns the event whose command a process belongs to: the process is one, has its
// group, or descends from one. It would wait for itself if it waited for the end of events.
func (s *Scheduler) Owner(pid int) (id TaskID, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pool.running) == 0 {
		return TaskID{}, false
	}
	tasks := map[int]*task{}
	for run, j := range s.pool.running {
		tasks[run.PID] = j.task
	}
	const maxDepth = 64
	for range maxDepth {
		group, _ := unix.Getpgid(pid)
		for _, n := range []int{pid, group} {
			if t := tasks[n]; t != nil {
				return TaskID{t}, true
			}
		}
		if pid = procfs.Parent(pid); pid <= 1 {
			break
		}
	}
	return TaskID{}, false
}

// IsPending reports whether an event is under way of the device at devpath, or of the one
// with these numbers, but for the event except. "" and the zero Dev name no device.
func (s *Scheduler) IsPending(devpath string, dev uevent.Dev, except TaskID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range []*task{s.graph.path[devpath], s.graph.dev[dev]} { // neither holds a zero key
		if t != nil && t != except.task {
			return true
		}
	}
	return false
}

// IsReady reports whether the device of an add event is set up: no rule makes a node of
// it, or all of its nodes and links are there.
func (s *Scheduler) IsReady(e *uevent.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rules.Plan(e).Work != nodes.Create {
		return true
	}
	s.dev.lock()
	defer s.dev.unlock()
	return s.dev.lockless || s.dev.IsSetUp(e)
}
