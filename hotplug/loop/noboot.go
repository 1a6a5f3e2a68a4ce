//go:build noboot

package loop

import (
	"devspool/hotplug/coldplug"
	"devspool/hotplug/control"
	"devspool/hotplug/scheduler"
)

// Without the part for an early boot a loop hands over to none and takes over from none, and stays in
// its root. What these functions do otherwise is in boot.go.
type boot struct{}

func (l *Loop) bootSide() control.Boot { return nil }

func (l *Loop) takeOver() bool { return false }

func (l *Loop) follow() {}

// waitHandedOver is never called: nothing sets leaving.
func (l *Loop) waitHandedOver() error { return nil }

// once returns f itself: without a request to switch the root only one caller ends the watch.
func once(f func()) func() { return f }

// Scan has the devices that are there set up.
func (l *Loop) Scan() *scheduler.Batch { return coldplug.Scan(l.Scheduler, l.Sys) }
