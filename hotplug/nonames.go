//go:build nonames

package hotplug

import (
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sysfs"
	"devspool/nodes"
)

// HasNames tells that devices get names by what they are.
const HasNames = false

func newNames(sysfs.FS, string, *nodes.Dir) scheduler.Identifier { return nil }
