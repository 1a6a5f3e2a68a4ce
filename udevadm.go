//go:build !noudev

package main

import (
	"os"

	"devspool/hotplug/handoff"
	"devspool/hotplug/udev/udevadm"
)

var udevApplets = []tool{
	{"udevadm", "what udevadm does: info, trigger, settle, control, monitor\n(udevadm --help); also when called so", runUdevadm},
}

func runUdevadm(args []string) int {
	return udevadm.Run(append([]string{"udevadm"}, args...), handoff.Environ(), udevadm.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}
