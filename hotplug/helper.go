package hotplug

import "devspool/hotplug/uevent"

// Helper does one event, that of this process: a script or another daemon started it, or
// the kernel where no helper can lead. It returns when all is done, the commands too, and
// reports whether everything could be.
func Helper(o HelperOptions, e *uevent.Event) (ok bool) {
	o.Sys.Complete(e)
	var turn seqTurn
	if o.Dev != nil {
		turn = waitSeq(o.Dev.Path()+seqFileName, e.Seqnum)
	}
	ok = o.Scheduler.Run(Events(e)).Wait()
	turn.advance()
	return ok
}
