//go:build nonames

package hotplug

import (
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// What follows stands for names.go in a program without package identity (the tag nonames): devices
// have the names of their rules alone, and no disk is read or watched.
func newNames(sysfs.FS, string, *nodes.Dir) scheduler.Identifier { return nil }

func newCompleter(sysfs.FS, string) func(*uevent.Event) *uevent.Event { return nil }

func (r *runner) newWatcher() scheduler.Watcher { return nil }

func (r *runner) pollMedia() {}
