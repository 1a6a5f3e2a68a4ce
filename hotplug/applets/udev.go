//go:build !noudev

package applets

import (
	"os"

	"devspool/hotplug/handoff"
	"devspool/hotplug/udev/udevadm"
)

// udev has what the clients of libudev call.
var udev = []Applet{
	{"udevadm", "what udevadm does: info, trigger, settle, control, monitor\n(udevadm --help); also when called so", true, runUdevadm},
}

func runUdevadm(args []string) int {
	return udevadm.Run(append([]string{"udevadm"}, args...), handoff.Environ(), udevadm.Streams{Out: os.Stdout, Err: os.Stderr})
}
