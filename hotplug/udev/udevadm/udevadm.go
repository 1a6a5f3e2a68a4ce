// Package udevadm is the program of that name, as image builders, scripts and package
// managers call it: trigger, settle, control, info, monitor and wait, with the options,
// output and exit codes of systemd's.
//
// It works beside any device manager that keeps /run/udev, and asks none for more than
// udevadm does. It never changes a device: trigger writes to uevent files, and info
// --cleanup-db removes files of the database.
package udevadm

import (
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/udev"
)

// The exit codes: udevadm has no others.
const (
	exitDone   = 0
	exitFailed = 1
)

// version is what --version says: the systemd of which the formats are. Scripts compare
// the number.
const version = "252"

const usage = `udevadm COMMAND [OPTION]...

  info      what the database and /sys say of devices
  trigger   ask the kernel for events
  settle    wait until no event is under way
  control   steer the device manager
  monitor   print events as they come
  wait      wait until devices are there

The options are those of systemd's; each command lists with --help which it knows.
`

// Streams are what the program writes.
type Streams struct {
	_        sys.NotComparable
	Out, Err io.Writer
}

// tool is a run of the program. It has a method for each of udevadm's commands, and those that
// they share.
type tool struct {
	Streams
	env []string // the environment, as KEY=VALUE
	sys sysfs.FS // where sysfs is mounted
	dev string   // where nodes are
	run string   // udev's directory
}

// Run runs the program; args begins with its name. It returns the exit code.
func Run(args, env []string, streams Streams) int {
	t := &tool{Streams: streams, env: env, sys: "/sys", dev: "/dev", run: udev.DefaultRun}
	return t.main(args)
}

// main is Run with the roots as fields, so that tests can have their own.
func (t *tool) main(args []string) int {
	name := ""
	if len(args) > 1 {
		name = args[1]
	}
	switch name {
	case "-h", "--help", "help":
		t.print(usage)
		return exitDone
	case "-V", "--version", "version":
		t.print(version + "\n")
		return exitDone
	case "", "-d", "--debug":
		// -d before the command asks for more messages: there are none, so it is passed over.
		if name != "" && len(args) > 2 {
			return t.main(args[1:])
		}
		_, _ = t.Err.Write([]byte(usage))
		return exitFailed
	}
	var err error
	args = args[2:]
	switch name {
	case "info":
		err = t.info(args)
	case "trigger":
		err = t.trigger(args)
	case "settle":
		err = t.settle(args)
	case "control":
		err = t.control(args)
	case "monitor":
		err = t.monitor(args)
	case "wait":
		err = t.wait(args)
	case "test":
		err = errors.New("not here; what is done with a device's event is shown by: devspool --plan DEVICE")
	default:
		err = errors.New("there is no such command here; see udevadm --help")
	}
	if err == nil || err == errSaid {
		return exitDone
	}
	return t.failed(name+": ", err)
}

// failed says what went wrong, unless that was said, and returns the exit code.
func (t *tool) failed(where string, err error) int {
	if err != errSilent {
		_, _ = t.Err.Write([]byte("udevadm: " + where + err.Error() + "\n"))
	}
	return exitFailed
}

// print writes to standard output. An error is of no use: a reader that has gone wants no more.
func (t *tool) print(text string) { _, _ = io.WriteString(t.Out, text) }

// What a command returns where nothing is left to be said. With errSaid the exit code is 0.
var (
	errSaid   = errors.New("what was asked for was printed")
	errSilent = errors.New("failed, and has said why or was asked not to")
)

// inChroot reports whether this is not the root of the process 1. There udevadm asks
// nothing of a device manager, since scripts of packages call it while an image is built.
func (t *tool) inChroot() bool {
	if value := sys.Getenv(t.env, "SYSTEMD_IGNORE_CHROOT"); value == "1" || value == "yes" || value == "true" {
		return false
	}
	// Without /proc, or the right to look, this counts as the root of process 1.
	root := sys.FileIDOf("/proc/1/root/.")
	return root != (sys.FileID{}) && root != sys.FileIDOf("/")
}

// devpaths returns the devpaths of devices that are named by a path below /sys, by a node's name, or by
// either. One that is not there is an error.
func (t *tool) devpaths(below, nodes, either []string) (devpaths []string, err error) {
	for place, names := range [...][]string{below, nodes, either} {
		for _, name := range names {
			devpath, err := t.devpath(name, [...]string{string(t.sys), t.dev, ""}[place])
			if err != nil {
				return nil, err
			}
			udev.Add(&devpaths, devpath)
		}
	}
	return devpaths, nil
}

// devpath finds a device by a path below /sys or of a node, or by a node's name. Where
// within is not "" the name is taken to lie there.
func (t *tool) devpath(name, within string) (string, error) {
	full := name
	if within != "" && !strings.HasPrefix(name, within+"/") {
		full = within + "/" + strings.TrimPrefix(name, "/")
	}
	path, err := t.sys.Find(full, t.dev)
	if err == nil && !t.exists(path) {
		err = unix.ENODEV
	}
	if err != nil {
		// What is wrong, without where.
		if path, is := err.(*os.PathError); is {
			err = path.Err
		}
		return "", errors.New("no device " + name + ": " + err.Error())
	}
	return path, nil
}
