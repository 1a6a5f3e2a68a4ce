// Package kerneltest is what tests and benchmarks need to play the kernel: uevents that the real
// kernel numbers and multicasts, a sysfs tree of devices that do not exist, and namespaces in which
// a device manager can do no harm.
//
// It is never part of the program, and it never touches the machine's own /dev.
package kerneltest

import (
	"slices"
	"strconv"
	"strings"

	"devspool/hotplug/sys"
)

// Event is a uevent.
type Event struct {
	Action  string
	Devpath string   // the device's path below /sys
	Vars    []string // further variables, KEY=VALUE: the kernel adds ACTION, DEVPATH and SEQNUM
}

// Environ returns the environment that the kernel gives its helper for e (kobject_uevent_env in
// lib/kobject_uevent.c), with a SEQNUM.
func (e Event) Environ(seqnum uint64) []string {
	env := []string{"HOME=/", "PATH=/sbin:/bin:/usr/sbin:/usr/bin"}
	env = append(env, "ACTION="+e.Action, "DEVPATH="+e.Devpath)
	env = append(env, e.Vars...)
	return append(env, "SEQNUM="+strconv.FormatUint(seqnum, 10))
}

// Subsystem returns the event's SUBSYSTEM, which is also the only argument of the kernel's helper.
func (e Event) Subsystem() string {
	return sys.Getenv(e.Vars, "SUBSYSTEM")
}

// With returns a copy of e with further variables.
func (e Event) With(vars ...string) Event {
	e.Vars = append(slices.Clone(e.Vars), vars...)
	return e
}

// String returns e in one line.
func (e Event) String() string {
	return e.Action + "@" + e.Devpath + " " + strings.Join(e.Vars, " ")
}
