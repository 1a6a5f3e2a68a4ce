//go:build noboot

package hotplug

import (
	"devspool/hotplug/loop"
	"devspool/hotplug/scheduler"
)

// HasModules tells that kernel modules can be loaded without modprobe.
const HasModules = false

type moduleLoader struct{}

func newModules(*runner) scheduler.ModuleLoader { return nil }

type first struct{}

func (*first) begin(*runner) {}

func (*first) follow(*runner, *loop.Loop) {}
