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
type udevSink struct {
	runner *runner
	added  bool
}

func (u *udevSink) open(r *runner) { u.runner = r }
func (*udevSink) scanned()         {}
func (*udevSink) close()           {}

func (*udevSink) stored(*uevent.Event) []string { return nil }

func (u *udevSink) start(*loop.Loop) error {
	if !u.runner.Udev {
		return nil
	}
	err := errors.New("--udev: this program was built without it; build it without the tag noudev")
	u.runner.log.Print(log.Err, err.Error())
	return err
}
