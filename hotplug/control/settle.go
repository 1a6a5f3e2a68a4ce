package control

import (
	"time"

	"devspool/hotplug/sys"
)

// settled waits until nothing is under way and nothing came for quiet. It reports false
// where that took until timeout, or gone was closed.
func (c *Server) settled(quiet time.Duration, timeout, gone <-chan struct{}) bool {
	for {
		// What leaves the source is in the scheduler before, so this order misses nothing.
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
