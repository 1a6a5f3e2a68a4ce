// Package kerneltest is what tests and benchmarks need to play the kernel: uevents
// that the real kernel numbers and multicasts, a sysfs tree of devices that do not
// exist, and namespaces of one's own to let a device manager loose in.
//
// It is never part of the program, and it never touches the machine's own /dev.
package kerneltest

import (
	"slices"
	"strconv"
	"strings"
)

// Event is what the kernel says about a device: the action, the device's path
// below /sys, and the variables that follow these two.
type Event struct {
	Action  string
	Devpath string
	Vars    []string // KEY=VALUE without ACTION, DEVPATH and SEQNUM, which the kernel adds
}

// Environ returns the environment that the kernel gives a hotplug helper for e
// (call_usermodehelper in lib/kobject_uevent.c), with the given number.
func (e Event) Environ(seqnum uint64) []string {
	env := []string{"HOME=/", "PATH=/sbin:/bin:/usr/sbin:/usr/bin"}
	env = append(env, "ACTION="+e.Action, "DEVPATH="+e.Devpath)
	env = append(env, e.Vars...)
	return append(env, "SEQNUM="+strconv.FormatUint(seqnum, 10))
}

// Subsystem returns the event's SUBSYSTEM, which is also the helper's only argument.
func (e Event) Subsystem() string {
	for _, kv := range e.Vars {
		if value, ok := strings.CutPrefix(kv, "SUBSYSTEM="); ok {
			return value
		}
	}
	return ""
}

// With returns e with further variables.
func (e Event) With(vars ...string) Event {
	e.Vars = append(slices.Clone(e.Vars), vars...)
	return e
}

// String shows e in one line, as a reproduction would list it.
func (e Event) String() string {
	return e.Action + "@" + e.Devpath + " " + strings.Join(e.Vars, " ")
}
