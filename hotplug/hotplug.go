// Package hotplug puts the program together: the sources of events, the scheduler that does them,
// and the sinks that receive each event when it is done.
//
// Events come from the environment of a helper (package helper), from a netlink socket (package
// loop) and from a scan of /sys (package coldplug). Each source makes a uevent.Event and gives it
// to the scheduler; the options say which sinks there are.
//
// The package never reads a command line, never exits, and never decides about an event.
package hotplug
