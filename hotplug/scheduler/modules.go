//go:build !noboot

package scheduler

import (
	"devspool/hotplug/log"
	"devspool/nodes"
)

// loadModulesLocked carries out the next command of t where that loads the modules of its
// device. It needs no slot: no process is started.
func (s *Scheduler) loadModulesLocked(t *task) bool {
	if !s.applier.loadsModules(t, &t.commands[0]) {
		return false
	}
	alias, _ := t.event.Get("MODALIAS")
	var err error
	s.runAsync(s.pool.inFlight.Go, func() { err = s.applier.modules.Load(alias, t.event.Devpath) }, func() {
		outcome := "loaded"
		if err != nil {
			outcome = err.Error()
		}
		s.log.Event(log.Info, "modules", t.event, alias+": "+outcome)
		s.commandDoneYield(t)
	})
	return true
}

// loadsModules reports whether a command of t is carried out by loading modules here.
func (a *applier) loadsModules(t *task, c *nodes.Command) bool {
	alias, _ := t.event.Get("MODALIAS")
	return a.modules != nil && alias != "" && !c.Program && a.modules.Handles(c.Text)
}
