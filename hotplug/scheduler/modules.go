//go:build !noboot

package scheduler

import (
	"devspool/hotplug/log"
	"devspool/hotplug/sys"
	"devspool/nodes"
)

// loadModulesLocked carries out the next command of t where that loads the modules of its
// device. It needs no slot: no process is started.
func (s *Scheduler) loadModulesLocked(t *task) bool {
	if !s.applier.loadsModules(t, &t.commands[0]) {
		return false
	}
	alias, _ := t.event.Get("MODALIAS")
	load := &Loading{sys.Now(), t.event.Action + " " + t.event.Devpath + ": modules for " + alias}
	s.pool.loads = append(s.pool.loads, load)
	var err error
	s.runAsync(s.pool.inFlight.Go, func() { err = s.applier.modules.Load(alias) }, func() {
		outcome := "loaded"
		if err != nil {
			outcome = err.Error()
		}
		s.pool.loadDone(load)
		s.log.Event(log.Info, "modules", t.event, alias+": "+outcome)
		s.commandDoneYield(t)
	})
	return true
}

// loadDone removes what is loaded from the list.
func (p *pool) loadDone(ended *Loading) {
	for i, load := range p.loads {
		if load == ended {
			// In order: the oldest stays first.
			copy(p.loads[i:], p.loads[i+1:])
			p.loads = p.loads[:len(p.loads)-1]
			return
		}
	}
}

// loadsModules reports whether a command of t is carried out by loading modules here.
func (a *applier) loadsModules(t *task, c *nodes.Command) bool {
	alias, _ := t.event.Get("MODALIAS")
	return a.modules != nil && alias != "" && !c.Program && a.modules.Handles(c.Text)
}
