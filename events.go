//go:build !nospool

package main

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sink"
	"devspool/hotplug/spool"
	"devspool/hotplug/spool/applet"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// hasSpool tells that clients can have events in queues of their own.
const hasSpool = true

// applets are the tools with a command line of their own, by the word that they
// are called with.
var applets = map[string]func(args []string) int{
	"watch": func(args []string) int { return applet.Watch(args, streams(), present) },
	"event": func(args []string) int { return applet.Event(args, streams()) },
}

func streams() applet.Streams { return applet.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr} }

// present returns an add event for each device that is there.
func present() ([]*uevent.Event, error) { return sysfs.FS("/sys").Events(uevent.Add, "", "/dev") }

// publish returns what is told by which events go to every queue, as the command line says, or
// nil. What stays for events to come keeps the spool open, until end is called; stopped tells
// that the process was told to end.
func publish(o options, logger *log.Logger) (to *scheduler.Sink, end func(stopped bool)) {
	switch {
	case o.events == noEvents:
		o.events = ""
	case o.events == "" && o.dev == "/dev":
		o.events = spool.DefaultEvents
	}
	libudev := o.dev + strings.TrimPrefix(spool.DefaultLibudev, "/dev")
	if o.libudev == "" && (o.compat || o.mode != modeLoop && o.events != "" && !absent(libudev)) {
		o.libudev = libudev // the kernel gives its helper no options, so that goes by what is there
	}
	resident := o.mode == modeLoop || o.kernel
	if o.dryRun || o.events == "" && o.libudev == "" || !resident && absent(o.events) && absent(o.libudev) {
		return nil, func(bool) {} // nobody has a queue; the loop or the kernel's first helper makes the roots
	}
	p := sink.NewSpool(spool.Options{
		Private: o.dev + "/" + nodes.Private, Events: o.events, Libudev: o.libudev,
		// Another directory than /dev is for a look; nothing is to be unmounted after it.
		Mount: o.dev == "/dev", Join: !resident, Resident: resident, Zero: o.zero,
	}, logger)
	s := p.Sink()
	return &s, func(stopped bool) {
		if stopped {
			p.Leave()
		}
		p.Close()
	}
}

func absent(path string) bool { return path == "" || unix.Access(path, unix.F_OK) != nil }
