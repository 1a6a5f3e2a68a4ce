package helper

import (
	"devspool/hotplug/scheduler"
	"devspool/hotplug/uevent"
)

// Run does one event, that of this process: a script or another daemon started it, or
// the kernel where no helper can lead. It returns when all is done, the commands too, and
// reports whether everything could be.
func Run(o Options, e *uevent.Event) (ok bool) {
	o.Sys.Complete(e)
	var turn seqTurn
	if o.Dev != nil {
		turn = waitSeq(o.Dev.Path()+seqFileName, e.Seqnum)
	}
	ok = o.Scheduler.Run(scheduler.Events(e)).Wait()
	turn.advance()
	return ok
}
