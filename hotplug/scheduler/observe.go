package scheduler

import "devspool/hotplug/uevent"

// Observer collects events for a goroutine that waits for some. Scheduler.mu guards its
// unexported fields.
type Observer struct {
	// Wake holds a token when events were collected since the last Take.
	Wake chan struct{}

	s        *Scheduler
	received bool
	events   []*uevent.Event
}

// Observe begins to collect the events that are done; or, with received, those that are
// submitted. Stop ends it: until then what is not taken stays in memory.
func (s *Scheduler) Observe(received bool) *Observer {
	o := &Observer{s: s, received: received, Wake: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observers = append(s.observers, o)
	return o
}

// Take returns the events that were collected since the last call.
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
	o.s.observers.remove(o)
}

// observers are the Observers that have not been stopped.
type observers []*Observer

// remove removes o, if it is there.
func (all *observers) remove(o *Observer) {
	for i, other := range *all {
		if other == o {
			last := len(*all) - 1
			(*all)[i], (*all)[last] = (*all)[last], nil
			*all = (*all)[:last]
			return
		}
	}
}

// notify gives an event to those that observe events received, or events done.
func (all observers) notify(e *uevent.Event, received bool) {
	for _, o := range all {
		if o.received != received {
			continue
		}
		o.events = append(o.events, e)
		// A token that is there already is enough: Take returns all events.
		select {
		case o.Wake <- struct{}{}:
		default:
		}
	}
}
