//go:build !nonames

package applets

import (
	"os"

	"devspool/hotplug"
	"devspool/hotplug/info"
)

// names has the tools for what devices are called.
var names = []Applet{
	{"info", "show what a device is called, and its properties (info --help)", false, showInfo},
}

func showInfo(args []string) int {
	return info.Run(args, info.Streams{Out: os.Stdout, Err: os.Stderr}, hotplug.NewLookup)
}
