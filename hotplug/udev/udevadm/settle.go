package udevadm

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/udev"
)

// The options of settle.
const settleOptions = "t:timeout= E:exit-if-exists="

// longest is how long a file that nothing tells of is waited for between two looks.
const longest = 100 * time.Millisecond

// settle waits until no event is under way.
func (t *tool) settle(args []string) error {
	g, err := t.parse(args, settleOptions)
	if err != nil {
		return err
	}
	// 120 s is what udevadm waits for without -t.
	limit, err := seconds(g.Last('t', "120"))
	// Words too many say nothing, as to udevadm.
	if err != nil || t.inChroot() {
		return err
	}
	return t.settled(limit, g.Last('E', ""))
}

// settled waits until the queue file is gone, or until file, where it is not "", is there.
// It asks the device manager first, so that events which the kernel has sent are in the
// queue; where none runs there is nothing to wait for.
func (t *tool) settled(limit time.Duration, file string) error {
	start := sys.Now()
	if unix.Geteuid() == 0 {
		// Even with -t 0 the device manager gets some time, as udevadm gives it: the answer says that
		// the queue file is up to date.
		switch err := t.ping(max(limit, 5*time.Second)); err {
		case nil:
		case unix.ENOENT, unix.ECONNREFUSED:
			return nil
		default:
			return err
		}
		// Only root may ask. Others see whether a device manager runs, and may miss events that it has
		// not received yet.
	} else if err := unix.Access(t.run+"/"+udev.ControlName, unix.F_OK); err != nil {
		return err
	}
	// Of the directory, before the first look, so that no removal is missed.
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return err
	}
	// The program ends soon, and with it the descriptor.
	if _, err := unix.InotifyAddWatch(fd, t.run, unix.IN_DELETE); err != nil {
		return err
	}
	for {
		if file != "" && unix.Access(file, unix.F_OK) == nil || unix.Access(t.run+"/queue", unix.F_OK) != nil {
			return nil
		}
		left := limit - start.Age()
		if left <= 0 {
			return unix.ETIMEDOUT
		}
		// Nothing tells when a file appears somewhere.
		if file != "" {
			left = min(left, longest)
		}
		var drop [4096]byte
		udev.Readable(fd, left)
		_, _ = unix.Read(fd, drop[:])
	}
}

// within polls until ok returns true, for limit at most, and returns its last word. It asks once even
// where limit is 0.
func within(limit time.Duration, ok func() bool) bool {
	for start := sys.Now(); !ok(); time.Sleep(4 * sys.PollInterval) {
		if start.Age() >= limit {
			return false
		}
	}
	return true
}

// The options of wait.
const waitOptions = "t:timeout= 1:initialized= 2:removed 3:settle"

// wait waits for nodes, links and paths below /sys: until all are there, and set up unless
// --initialized=no; or with --removed until none is.
func (t *tool) wait(args []string) error {
	g, err := t.parse(args, waitOptions)
	if err != nil {
		return err
	}
	limit, err := seconds(g.Last('t', "infinity"))
	if err != nil {
		return err
	}
	if len(g.Operands) == 0 {
		return errNoDevice
	}
	removed, initialized := g.Has('2'), true
	switch word := g.Last('1', "yes"); word {
	case "yes", "y", "1", "true", "t", "on":
	case "no", "n", "0", "false", "f", "off":
		initialized = false
	default:
		return errors.New("neither yes nor no: " + word)
	}
	start := sys.Now()
	if !within(limit, func() bool {
		for _, name := range g.Operands {
			devpath, err := t.devpath(name, "")
			// With --removed each device that is there, set up or not, is one to wait for. Without it, each that
			// is missing, or that is not set up where it has to be.
			if (err == nil && (removed || !initialized || t.isSetUp(devpath))) == removed {
				return false
			}
		}
		return true
	}) {
		return unix.ETIMEDOUT
	}
	if g.Has('3') {
		return t.settled(max(0, limit-start.Age()), "")
	}
	return nil
}
