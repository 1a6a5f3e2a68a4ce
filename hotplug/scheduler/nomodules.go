//go:build noboot

package scheduler

import "devspool/nodes"

// loadModulesLocked leaves modules to the modprobe program.
func (s *Scheduler) loadModulesLocked(*task) bool { return false }

// loadsModules is always false: an Inherited event runs no command then.
func (a *applier) loadsModules(*task, *nodes.Command) bool { return false }
