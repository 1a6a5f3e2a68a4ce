//go:build !noboot

package applets

import (
	"os"

	"devspool/hotplug/handoff"
	"devspool/hotplug/modules/modprobe"
	"devspool/initramfs/pid1"
)

// boot has the tools of an early boot.
var boot = []Applet{
	{"init", "be the first process of an initramfs: find the root file system\nand start what lies there; also when called so", true, runInit},
	{"modprobe", "load kernel modules, as modprobe does (modprobe --help);\nalso when called so", true, runModprobe},
}

// runInit gives the applet the whole environment: what the kernel does not know on its command
// line it puts there.
func runInit(args []string) int {
	return pid1.Run(append([]string{"init"}, args...), handoff.Environ())
}

func runModprobe(args []string) int {
	return modprobe.Run(args, handoff.Environ(), modprobe.Streams{Out: os.Stdout, Err: os.Stderr})
}
