package scheduler

import (
	"devspool/hotplug/log"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// Sink gets what happens to events. Each function may be nil. None may block, nor call the
// Scheduler, which is locked in most of them.
//
// Of each event Received comes first, then Done, then SliceEnd, and then the end of its batch: a client
// that waits for the batch finds the event in its queue.
type Sink struct {
	// Received gets each event that comes, before any of its slice is started.
	Received func(e *uevent.Event)

	// Done gets an event when it is done, and its Plan. The Plan says whether the event
	// was late; so does the event itself, by uevent.LateKey.
	Done func(e *uevent.Event, p *nodes.Plan)

	// Withdrawn tells that one event that Received got is no event for sinks, and so has no
	// Done: it was done by another loop, or came by itself after it was missed.
	Withdrawn func()

	// SliceEnd is called after each slice in which events were done, with /dev unlocked.
	SliceEnd func()

	// Gap is called when events were lost, with the reason.
	Gap func(why string)

	// Started is called when a loop begins to listen, with the SEQNUM of the kernel's last
	// event.
	Started func(seqnum uint64)

	// HasBacklog reports whether events are queued for slow clients, which would be lost
	// if this process exited.
	HasBacklog func() bool

	// Remounted is called when another file system is mounted over /dev.
	Remounted func()

	// Status returns a line of text for the status.
	Status func() string

	// Recent returns what a sink keeps of the last events.
	Recent func() string
}

// Recent returns what the sinks keep of the last events.
func (s *Scheduler) Recent() string {
	text := ""
	s.mu.Lock()
	for i := range s.sinks {
		if f := s.sinks[i].Recent; f != nil {
			text += f()
		}
	}
	s.mu.Unlock()
	return text
}

// HasBacklog reports whether a sink would lose events if this process exited. Unlike most functions
// of sinks this one is called without mu, and so are those of TellRemounted and TellStarted: the list
// of sinks never changes.
func (s *Scheduler) HasBacklog() bool {
	for i := range s.sinks {
		if f := s.sinks[i].HasBacklog; f != nil && f() {
			return true
		}
	}
	return false
}

// TellRemounted tells the sinks that another file system is mounted over /dev.
func (s *Scheduler) TellRemounted() {
	for i := range s.sinks {
		if f := s.sinks[i].Remounted; f != nil {
			f()
		}
	}
}

// TellStarted tells the sinks that events after seqnum will come to this process.
func (s *Scheduler) TellStarted(seqnum uint64) {
	for i := range s.sinks {
		if f := s.sinks[i].Started; f != nil {
			f(seqnum)
		}
	}
}

// Gap reports that events were lost before this moment, and why, to the log and the sinks.
func (s *Scheduler) Gap(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Gaps++
	s.log.Print(log.Warning, why)
	for i := range s.sinks {
		if f := s.sinks[i].Gap; f != nil {
			f(why)
		}
	}
}
