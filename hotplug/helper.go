package hotplug

import "devspool/hotplug/uevent"

// Helper does one event, that of this process: a script or another daemon started it,
// or the kernel where no helper can serve. It returns when all is done, the commands
// too, and reports whether everything could be.
func Helper(r *Road, e *uevent.Event) (ok bool) {
	r.Sys.Complete(e)
	var turn turnstile
	if r.Dev != nil {
		turn = awaitTurn(r.Dev.Path()+turnFile, e.Seqnum)
	}
	ok = r.Run([]*uevent.Event{e}).Wait()
	turn.pass()
	return ok
}
