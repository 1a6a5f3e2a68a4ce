//go:build noudev

package hotplug

import (
	"errors"

	"devspool/hotplug/log"
	"devspool/hotplug/loop"
	"devspool/hotplug/uevent"
)

// UdevConf is nothing where libudev's clients cannot be served.
const UdevConf = "# This program was built without --udev.\n"

// HasUdev tells that libudev's clients can be served.
const HasUdev = false

// udevSink refuses the option --udev, and else does nothing.
type udevSink struct{ added bool }

func (*udevSink) open(*runner)    {}
func (*udevSink) scanned(*runner) {}
func (*udevSink) close(*runner)   {}

func (*udevSink) stored(*uevent.Event) []string { return nil }

func (*udevSink) start(r *runner, _ *loop.Loop) error {
	if !r.Udev {
		return nil
	}
	err := errors.New("--udev: this program was built without it; build it without the tag noudev")
	r.log.Print(log.Err, err.Error())
	return err
}
