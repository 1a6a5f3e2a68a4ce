// Package hotplug puts the program together: where events come from, the scheduler that
// runs them, and what is told of each at its end.
//
// Events come from the environment of a helper (package helper), from a netlink socket
// (package loop) and from a scan of /sys (package coldplug). Each makes the same Event and
// gives it to the scheduler. The sinks that the options ask for are told of it afterwards.
//
// The package never reads a command line, never exits, and never decides about an event.
package hotplug
