package hotplug

import (
	"devspool/hotplug/daemon"
	"devspool/hotplug/loop"
)

// takeNotifier takes the address of a service manager from the environment. In the background there
// is none: the manager follows the process that it started.
func (r *runner) takeNotifier() {
	r.notifier, r.Environ = daemon.TakeNotifier(r.Environ)
	if r.way != RunLoop || r.Detached {
		r.notifier = nil
	}
}

// notify has the service manager told of reloads and signs of life.
func (r *runner) notify(l *loop.Loop) {
	n := r.notifier
	n.Tell("STATUS=scanning /sys")
	r.config.OnReload(n.Reloading, func() { n.Ready("config: " + r.config.String()) })
	received, waited := uint64(0), false
	// A sign of life is sent when this returns true, and the manager restarts a loop that sends none.
	n.Watch(func() bool {
		// It waits for the scheduler's mutex. Where events are queued, some must have been taken.
		// So no sign comes from a loop that has a queue at two looks in a row and took nothing in between.
		before, didWait := received, waited
		received, waited = r.scheduler.Received(), l.Pending()
		return !waited || !didWait || received != before
	})
}
