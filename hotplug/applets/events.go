//go:build !nospool

package applets

import (
	"os"

	"devspool/hotplug/spool/applet"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
)

// events are the tools of clients and scripts for what is published.
var events = []Applet{
	{"watch", "print each event when all is done for it (watch --help)", false, watch},
	{"event", "put an event into clients' queues, pop the oldest of one,\nlist the queues (event --help)", false, event},
}

func watch(args []string) int { return applet.Watch(args, streams(), present) }

func event(args []string) int { return applet.Event(args, streams()) }

func streams() applet.Streams { return applet.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr} }

// present returns an add event for each device that is there.
func present() ([]*uevent.Event, error) { return sysfs.FS("/sys").Events(uevent.Add, "", "/dev") }
