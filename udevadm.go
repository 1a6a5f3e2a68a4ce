//go:build !noudev

package main

import (
	"os"
	"strings"

	"devspool/hotplug/handoff"
	"devspool/hotplug/udev/udevadm"
)

var udevApplets = []tool{
	{"udevadm", "what udevadm does: info, trigger, settle, control, monitor\n(udevadm --help); also when called so", runUdevadm},
}

func runUdevadm(args []string) int {
	return udevadm.Run(append([]string{"udevadm"}, args...), handoff.Environ(), udevadm.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}

// asUdevd returns the command line by which this program does what a udevd does that is
// called as args say: it follows events, in the background with --daemon, and serves the
// clients of libudev. What else udevd can be told it does in its own way.
func asUdevd(args []string) []string {
	ours := []string{args[0], "-f", "--udev"}
	for _, arg := range args[1:] {
		switch {
		case arg == "-d" || arg == "--daemon":
			ours[1] = "-d"
		case arg == "-D" || arg == "--debug":
			ours = append(ours, "-v")
		case arg == "-h" || arg == "--help":
			return []string{args[0], "--help"}
		case arg == "-V" || arg == "--version":
			return []string{args[0], "--version"}
		case strings.HasPrefix(arg, "--children-max="):
			ours = append(ours, "-j", arg[len("--children-max="):])
		}
	}
	return ours
}
