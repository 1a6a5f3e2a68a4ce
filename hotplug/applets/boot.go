//go:build !noboot

package applets

import (
	"os"

	"devspool/hotplug/handoff"
	"devspool/hotplug/modules/modprobe"
)

// boot has the tools of an early boot.
var boot = []Applet{
	{"modprobe", "load kernel modules, as modprobe does (modprobe --help);\nalso when called so", true, runModprobe},
}

func runModprobe(args []string) int {
	return modprobe.Run(args, handoff.Environ(), modprobe.Streams{Out: os.Stdout, Err: os.Stderr})
}
