//go:build noboot

package loop

import (
	"devspool/hotplug/coldplug"
	"devspool/hotplug/control"
	"devspool/hotplug/scheduler"
)

type boot struct{}

func (l *Loop) bootSide() control.Boot { return nil }

func (l *Loop) takeOver() bool { return false }

func (l *Loop) follow() {}

func (l *Loop) waitHandedOver() error { return nil }

func once(f func()) func() { return f }

// Scan has the devices that are there set up.
func (l *Loop) Scan() *scheduler.Batch { return coldplug.Scan(l.Scheduler, l.Sys) }
