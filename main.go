// Devspool turns the Linux kernel's device events into a correct /dev.
//
// It is one static binary that takes the place of BusyBox mdev: as the kernel's
// hotplug helper, as a loop that follows netlink, and as a scan of /sys. Called
// as mdev it takes mdev's options.
package main

import (
	"os"
	"strconv"
	"strings"
	"time"

	"devspool/conf"
	"devspool/hotplug"
	"devspool/hotplug/applets"
	"devspool/hotplug/cli"
	"devspool/hotplug/handoff"
	"devspool/hotplug/sys"
)

// What the build sets by the linker's -X, which sets strings only.
var (
	version = "unreleased"
	stay    = "2000" // milliseconds that the first helper stays after the last event; 0 for never
)

// The exit codes.
// The last two are those of mdevd, and of other programs from skarnet.org.
const (
	exitDone   = 0   // all is done
	exitFailed = 1   // an event, or a part of one, could not be done; the log says which
	exitConfig = 2   // the config has problems, or cannot be read
	exitUsage  = 100 // the command line is wrong
	exitSystem = 111 // a system call failed without which nothing works
)

// exitCodes has the exit code for each result.
var exitCodes = [...]int{
	hotplug.Done:         exitDone,
	hotplug.Failed:       exitFailed,
	hotplug.BadConfig:    exitConfig,
	hotplug.BadEvent:     exitUsage,
	hotplug.SystemFailed: exitSystem,
}

// The environment comes from package handoff, since os.Environ leaves out a variable that is there twice.
func main() { os.Exit(run(os.Args, handoff.Environ())) }

// called returns the applet that the command line names, or nil. A subsystem may have such a
// name too: the kernel gives it to its helper.
func called(args, environ []string) *applets.Applet {
	if len(args) < 2 || holdsEvent(environ) && args[1] == sys.Getenv(environ, "SUBSYSTEM") {
		return nil
	}
	return applets.Find(args[1])
}

// run does what the command line and the environment ask for, and returns the exit code. The name
// that the program was called by comes first: an applet's, or that of udevd. A helper that
// hands its event over ends before anything is opened.
func run(args, environ []string) int {
	name := args[0][strings.LastIndexByte(args[0], '/')+1:]
	if applet := applets.Find(name); applet != nil && applet.IsOwn {
		return applet.Run(args[1:])
	}
	if hotplug.HasUdev && (name == "udevd" || name == "systemd-udevd") {
		args = asUdevd(args)
	}
	// Before parse, since an applet's options are its own.
	if applet := called(args, environ); applet != nil {
		if failure := hotplug.CheckFileLimit(0); failure != hotplug.Done {
			return exitCodes[failure]
		}
		return applet.Run(args[2:])
	}
	o, err := parse(args[1:], environ)
	if err != nil {
		return misuse(err)
	}
	if o.Kernel = handoff.FromKernel(args, environ); o.Kernel && handoff.Offer(environ) {
		return exitDone // another helper leads, and does the event
	}
	// What is no number is 0: such a build has no helper stay, and each does its own event.
	ms, _ := strconv.Atoi(stay)
	o.Linger = time.Duration(ms) * time.Millisecond
	var result hotplug.Result
	switch o.mode {
	case modeNone:
		_, _ = os.Stderr.WriteString(usage())
		return exitUsage
	case modeHelp:
		return show(usage())
	case modeVersion:
		return show("devspool " + version + " (" + hotplug.Build() + ")\n")
	case modeDefaultConf:
		return show(conf.Default)
	case modeUdevConf:
		return show(hotplug.UdevConf)
	case modeConf:
		result = hotplug.PrintConf(&o.Options, say)
	case modeCheck:
		result = hotplug.Check(&o.Options, say)
	case modePlan:
		result = hotplug.Plan(&o.Options, o.device, say)
	case modeAsk:
		result = hotplug.AskLoop(&o.Options, o.words, say)
	case modeScan:
		result = hotplug.Run(&o.Options, hotplug.RunScan)
	case modeHelper:
		result = hotplug.Run(&o.Options, hotplug.RunHelper)
	case modeLoop:
		return loop(o, args)
	}
	return exitCodes[result]
}

// loop follows events, here or in the background.
func loop(o *options, args []string) int {
	// First of all: a file that is opened before it could get the number that -D or -o names.
	if err := hotplug.CheckDescriptors(&o.Options); err != nil {
		return misuse(err)
	}
	if o.foreground {
		return exitCodes[hotplug.Run(&o.Options, hotplug.RunLoop)]
	}
	// The exit code of the loop in the background is this one's, if it fails before it is
	// ready.
	code, failure := hotplug.StartLoop(&o.Options, args)
	if failure != hotplug.Done {
		return exitCodes[failure]
	}
	return code
}

// misuse says what is wrong with the command line.
func misuse(err error) int {
	_, _ = os.Stderr.WriteString(cli.Misuse("", err.Error()))
	return exitUsage
}

// show is say for a text that is all there is to do.
func show(text string) int {
	if say(text) != nil {
		return exitFailed
	}
	return exitDone
}

// say writes to standard output. Its error is the caller's exit code: output that is lost, to a
// full disk say, must not look like success.
func say(text string) error {
	_, err := os.Stdout.WriteString(text)
	return err
}
