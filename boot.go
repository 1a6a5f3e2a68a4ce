//go:build !noboot

package main

import (
	"os"

	"devspool/hotplug/modules/modprobe"
)

// bootApplets are the tools of an early boot, by the word that they are called with: the
// first argument, or the program's own name.
var bootApplets = map[string]func(args []string) int{
	"modprobe": func(args []string) int {
		return modprobe.Run(args, os.Environ(), modprobe.Streams{Out: os.Stdout, Err: os.Stderr})
	},
}
