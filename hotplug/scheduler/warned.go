package scheduler

import (
	"devspool/hotplug/log"
	"devspool/nodes"
)

// warned remembers which commands the log has a warning of, so that a command that always
// fails does not fill it. It counts warnings by rule and command, and by these and devpath.
type warned map[string]int

// maxWarned is for how many devices the log warns of one command.
const maxWarned = 10

// first reports whether to say what for the device at devpath, and notes that it is said.
// It is true once for each device, and for no more than maxWarned of them.
func (w *warned) first(what, devpath string) bool {
	// The NUL is in no command and no devpath, so the two kinds of keys never meet.
	device := what + "\x00" + devpath
	if (*w)[device] > 0 || (*w)[what] >= maxWarned {
		return false
	}
	if *w == nil {
		*w = warned{}
	}
	(*w)[device]++
	(*w)[what]++
	return true
}

// level returns the level at which to log a failure of c: Warning where it is new.
func (w *warned) level(c *nodes.Command, devpath string) log.Level {
	if w.first(describe(c), devpath) {
		return log.Warning
	}
	return log.Info
}
