// Package hotplug leads every event down the one road: source, rules, Plan,
// /dev, commands, done.
//
// The sources are the environment of a helper that the kernel started (Helper),
// a netlink socket (Loop) and a scan of /sys (Coldplug). Each makes the same
// Event and gives it to a Road; nothing on the road asks where it came from, but a
// source may know that a device is there, so that /sys need not be asked.
//
// The package decides when an event may run, never what it does: that is the
// rules' part; and it never changes /dev itself: that is the part of nodes.
package hotplug
