package hotplug

import "devspool/hotplug/log"

// tunables is what programs that steer other device managers may change of a loop: udevcontrol (see
// control.Tunables), and udevadm control.
type tunables struct{ runner *runner }

func (t tunables) Pause()                        { t.runner.scheduler.Pause() }
func (t tunables) Resume()                       { t.runner.scheduler.Resume() }
func (t tunables) SetJobs(n int)                 { t.runner.scheduler.SetJobs(n) }
func (t tunables) SetRunnable(n int)             { t.runner.scheduler.SetRunnable(n) }
func (t tunables) SetProperty(key, value string) { t.runner.scheduler.SetProperty(key, value) }
func (t tunables) SetLevel(level log.Level)      { t.runner.log.SetLevel(level) }
func (t tunables) Reload() error                 { return t.runner.config.Reload() }
