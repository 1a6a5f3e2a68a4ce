// Package helper does the events for which the kernel starts a process each: its own event, or, as
// the leader, those of the helpers that come after it. It never listens to netlink, and never stays
// for longer than events come.
package helper

import (
	"devspool/hotplug/scheduler"
	"devspool/hotplug/uevent"
)

// Run does the one event of this process, which a script or another daemon started, or the kernel where
// no helper can lead. It returns when everything is done, commands included, and reports whether all of
// it succeeded.
func Run(o Options, e *uevent.Event) (ok bool) {
	// A script may give ACTION and DEVPATH alone.
	o.Sys.Complete(e)
	var turn seqTurn
	if o.Dev != nil {
		turn = waitSeq(o.Dev.Path()+seqFileName, e.Seqnum)
	}
	ok = o.Scheduler.Run(scheduler.Events(e)).Wait()
	turn.advance()
	return ok
}
