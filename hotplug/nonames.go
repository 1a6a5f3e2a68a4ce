//go:build nonames

package hotplug

import (
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

func newNames(sysfs.FS, string, *nodes.Dir) scheduler.Identifier { return nil }

func newCompleter(sysfs.FS, string) func(*uevent.Event) *uevent.Event { return nil }

func (r *runner) newWatcher() scheduler.Watcher { return nil }

func (r *runner) pollMedia() {}
