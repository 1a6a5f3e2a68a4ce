//go:build !noboot

package main

import (
	"os"

	"devspool/hotplug/modules/modprobe"
)

// bootApplets are the tools of an early boot.
var bootApplets = []tool{
	{"modprobe", "load kernel modules, as modprobe does (modprobe --help);\nalso when called so", runModprobe},
}

func runModprobe(args []string) int {
	return modprobe.Run(args, os.Environ(), modprobe.Streams{Out: os.Stdout, Err: os.Stderr})
}
