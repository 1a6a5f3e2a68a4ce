package scheduler

import (
	"devspool/hotplug/log"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// Sink is told what happens to events. Each function may be nil. None may block, nor
// call the Scheduler.
type Sink struct {
	// Received is told of each event that comes, before any of its slice is started.
	Received func(e *uevent.Event)

	// Done is told of an event at its end. The Plan says whether it came too late to be
	// acted on; so does the event, by uevent.LateKey.
	Done func(e *uevent.Event, p *nodes.Plan)

	// TurnEnd is called after each slice, with /dev unlocked.
	TurnEnd func()

	// Gap is told that events were lost, and why.
	Gap func(why string)

	// Started is told, when a loop begins to listen, which SEQNUM the kernel's last event
	// has.
	Started func(seqnum uint64)

	// HasBacklog reports whether events are queued for slow clients, and would be lost if
	// this process exits.
	HasBacklog func() bool

	// Remounted is told that another file system was mounted over /dev.
	Remounted func()

	// Status returns a line for a person.
	Status func() string
}

// HasBacklog reports whether a sink would lose events if this process exits.
func (s *Scheduler) HasBacklog() bool {
	for _, sink := range s.sinks {
		if sink.HasBacklog != nil && sink.HasBacklog() {
			return true
		}
	}
	return false
}

// TellRemounted tells the sinks that another file system was mounted over /dev.
func (s *Scheduler) TellRemounted() {
	for _, sink := range s.sinks {
		if sink.Remounted != nil {
			sink.Remounted()
		}
	}
}

// TellStarted tells the sinks that events after seqnum come to this process.
func (s *Scheduler) TellStarted(seqnum uint64) {
	for _, sink := range s.sinks {
		if sink.Started != nil {
			sink.Started(seqnum)
		}
	}
}

// Gap says that events were lost before this moment, and why.
func (s *Scheduler) Gap(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.gaps++
	s.log.Print(log.Warning, why)
	for _, sink := range s.sinks {
		if sink.Gap != nil {
			sink.Gap(why)
		}
	}
}
