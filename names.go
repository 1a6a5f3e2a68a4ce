//go:build !nonames

package main

import (
	"os"

	"devspool/hotplug"
	"devspool/hotplug/info"
)

var nameApplets = []tool{
	{"info", "show what a device is called, and its properties (info --help)", showInfo},
}

func showInfo(args []string) int {
	return info.Run(args, info.Streams{Out: os.Stdout, Err: os.Stderr}, hotplug.NewLookup)
}
