package udevadm

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/udev"
)

var settleOptions = options{
	{'t', "timeout", required, "how many seconds to wait; 120 where nothing is said"},
	{'E', "exit-if-exists", required, "wait no longer once this file is there"},
}

// longest is how long a file that nothing tells of is waited for between two looks.
const longest = 100 * time.Millisecond

func (t *tool) settle(args []string) error {
	limit, file := 120*time.Second, ""
	operands, err := t.parse(args, "settle", settleOptions, func(name, value string) (err error) {
		if name == "timeout" {
			limit, err = seconds(value)
		} else {
			file = value
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(operands) > 0 {
		return errors.New("there is nothing to name here: " + operands[0])
	}
	if t.inChroot() {
		return nil
	}
	return t.settled(limit, file)
}

// settled waits until the queue file is gone, or until file, where it is not "", is there.
// It asks the device manager first, so that events which the kernel has sent are in the
// queue; where none runs there is nothing to wait for.
func (t *tool) settled(limit time.Duration, file string) error {
	start := sys.Now()
	if unix.Geteuid() == 0 {
		switch err := t.ping(max(limit, 5*time.Second)); err {
		case nil:
		case unix.ENOENT, unix.ECONNREFUSED:
			return nil
		default:
			return err
		}
	} else if err := unix.Access(t.run+"/"+udev.ControlName, unix.F_OK); err != nil {
		return errors.New("no device manager runs: " + err.Error())
	}
	// Of the directory, before the first look, so that no removal is missed.
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, t.run, unix.IN_DELETE); err != nil {
		return err
	}
	for {
		if file != "" && unix.Access(file, unix.F_OK) == nil || unix.Access(t.run+"/queue", unix.F_OK) != nil {
			return nil
		}
		left := limit - start.Age()
		if left <= 0 {
			return errors.New("events are under way still: " + unix.ETIMEDOUT.Error())
		}
		if file != "" {
			left = min(left, longest)
		}
		var drop [4096]byte
		unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(min(left, time.Hour)/time.Millisecond)+1)
		unix.Read(fd, drop[:])
	}
}

// within polls until ok returns true, for limit at most, and returns its last word.
func within(limit time.Duration, ok func() bool) bool {
	for start := sys.Now(); !ok(); time.Sleep(4 * sys.PollInterval) {
		if start.Age() >= limit {
			return false
		}
	}
	return true
}

var waitOptions = options{
	{'t', "timeout", required, "how many seconds to wait; for ever where nothing is said"},
	{0, "initialized", required, "yes: until the device was set up too; no: until it is there"},
	{0, "removed", none, "wait until the devices are gone"},
	{0, "settle", none, "and until no event is under way"},
}

// wait waits for nodes, links and paths below /sys.
func (t *tool) wait(args []string) error {
	limit := time.Duration(1<<63 - 1)
	initialized, removed, settle := true, false, false
	names, err := t.parse(args, "wait", waitOptions, func(name, value string) (err error) {
		switch name {
		case "timeout":
			limit, err = seconds(value)
		case "initialized":
			initialized = contains([]string{"1", "yes", "y", "true", "t", "on"}, value)
			if !initialized && !contains([]string{"0", "no", "n", "false", "f", "off"}, value) {
				err = errors.New("neither yes nor no: " + value)
			}
		case "removed":
			removed = true
		case "settle":
			settle = true
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return errors.New("name a device")
	}
	start := sys.Now()
	if !within(limit, func() bool {
		for _, name := range names {
			if t.there(name, initialized && !removed) == removed {
				return false
			}
		}
		return true
	}) {
		return unix.ETIMEDOUT
	}
	if settle {
		return t.settled(max(0, limit-start.Age()), "")
	}
	return nil
}

// there reports whether a device is there, and was set up if it has to be.
func (t *tool) there(name string, initialized bool) bool {
	devpath, err := t.devpath(name, "")
	if err != nil {
		return false
	}
	if !initialized {
		return true
	}
	d, err := t.load(devpath)
	return err == nil && d.initialized
}
