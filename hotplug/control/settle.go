package control

import (
	"time"

	"devspool/hotplug/sys"
)

// settled waits until no event is pending or under way and none has come for the time quiet. It
// returns false where timeout or gone is closed first. A nil timeout never comes.
func (c *Server) settled(quiet time.Duration, timeout, gone <-chan struct{}) bool {
	for {
		// The source first: it gives an event up only when the scheduler has it.
		if !c.Source.Pending() && c.Scheduler.IsIdle() && c.Scheduler.Quiet() >= quiet {
			return true
		}
		select {
		case <-sys.After(sys.PollInterval):
		case <-timeout:
			return false
		case <-gone:
			return false
		}
	}
}
