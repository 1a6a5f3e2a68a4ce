//go:build noboot

package scheduler

// loadModulesLocked leaves modules to the modprobe program.
func (s *Scheduler) loadModulesLocked(*task) bool { return false }
