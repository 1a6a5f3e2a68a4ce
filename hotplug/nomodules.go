//go:build noboot

package hotplug

import "devspool/hotplug/scheduler"

// HasModules tells that kernel modules can be loaded without modprobe.
const HasModules = false

func newModules(*runner) scheduler.ModuleLoader { return nil }
