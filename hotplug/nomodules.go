//go:build noboot

package hotplug

import (
	"devspool/hotplug/loop"
	"devspool/hotplug/scheduler"
)

// HasModules tells that kernel modules can be loaded without modprobe.
const HasModules = false

// What follows stands for modules.go and first.go in a program that does not load modules itself (the
// tag noboot): commands run the modprobe program, and nothing is put off.
type moduleLoader struct{}

func newModules(*runner) scheduler.ModuleLoader { return nil }

type first struct{}

func (*first) begin(*runner) {}

func (*first) follow(*runner, *loop.Loop) {}
