//go:build !noboot

package scheduler

import "devspool/hotplug/log"

// loadModulesLocked carries out the next command of t where that loads the modules of its
// device. It needs no slot: no process is started.
func (s *Scheduler) loadModulesLocked(t *task) bool {
	alias, _ := t.event.Get("MODALIAS")
	if s.modules == nil || alias == "" || !s.modules.Handles(t.commands[0].Text) {
		return false
	}
	var err error
	s.runAsync(s.pool.inFlight.Go, func() { err = s.modules.Load(alias) }, func() {
		outcome := "loaded"
		if err != nil {
			outcome = err.Error()
		}
		s.log.Event(log.Info, "modules", t.event, alias+": "+outcome)
		s.commandDoneYield(t)
	})
	return true
}
