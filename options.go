package main

import (
	"errors"
	"strconv"
	"strings"

	"devspool/hotplug"
	"devspool/hotplug/applets"
	"devspool/hotplug/cli"
	"devspool/hotplug/control"
	"devspool/hotplug/sys"
)

// options is the command line.
type options struct {
	hotplug.Options

	mode       mode
	foreground bool
	device     string   // for the plan
	words      []string // what the loop is asked for, as request puts it; nil unless the mode is modeAsk
	quiet      string   // seconds, for settle and coldplug
	metrics    bool     // for status
	json       bool     // for log
}

// mode is one thing that the program can be called for; a command line has one.
type mode int

// What the program is to do. Those up to modeVersion have an option.
const (
	modeNone mode = iota // neither options nor environment say
	modeScan
	modeLoop
	modeCheck
	modePlan
	modeConf
	modeDefaultConf
	modeUdevConf
	modeHelp
	modeVersion
	modeHelper // the environment holds an event
	modeAsk    // the words are a request to the loop
)

// The command line of this process. The options of the table are stored here: in variables of
// the package, so that the linker fills in the table, and no code does.
var (
	line = options{quiet: "0.2", Options: hotplug.Options{Ready: -1, Output: -1,
		Dev: "/dev", Sys: "/sys", Conf: "/etc/mdev.conf", Firmware: "/lib/firmware"}}
	given [modeVersion + 1]bool // the modes that it names
)

// table has every option of the command line, in the order of the help. Completions and usage
// are made from it too.
var table = [...]cli.Option{
	{Name: "-s", Mode: true, Given: &given[modeScan], Help: "coldplug: make /dev what /sys says, then exit"},
	{Name: "-d", Mode: true, Given: &given[modeLoop], Help: "coldplug, then follow events in the background, or\nwith -f in the foreground"},
	{Name: "--check", Mode: true, Given: &given[modeCheck], Help: "check the config; print every problem"},
	{Name: "--plan [DEVICE]", Mode: true, Given: &given[modePlan],
		Help: "print what would be done for an add of DEVICE (a\n" +
			"devpath, or a path below /sys or /dev), or of every\n" +
			"device, and which line of the config says so; with\n" +
			"ACTION=remove in the environment, for a remove"},
	{Name: "--print-conf", Mode: true, Given: &given[modeConf], Help: "print the config that is in force, and from which files"},
	{Name: "--print-default-conf", Mode: true, Given: &given[modeDefaultConf], Help: "print the config that is compiled in"},
	{Name: "--print-udev-conf", Mode: true, Given: &given[modeUdevConf], Help: "print a piece of a config that goes with --udev"},

	{Name: "-f", Given: &line.foreground, Help: "stay in the foreground; implies -d, if not with -s"},
	{Name: "-n, --dry-run", Given: &line.DryRun, Help: "change nothing and run nothing; with -t show what would be done"},
	{Name: "-t, --table", Given: &line.Table, Help: "show each event on stdout, a row each"},
	{Name: "-v", Given: &line.Verbose, Help: "log more"},
	{Name: "-S", Given: &line.Syslog, Help: "log to syslog"},
	{Name: "-D FD", Number: &line.Ready, Help: "when ready (listening, coldplug done) write a newline to FD"},
	{Name: "--ready-early", Given: &line.ReadyEarly, Help: "be ready before the commands of the coldplug have ended"},
	{Name: "-j N", Number: &line.Jobs, Least: 1, Help: "run at most N commands at once (4)"},
	{Name: "-O MASK", Number: &line.Groups, Least: 1,
		Help: "send each event, when all is done for it, to these netlink groups:\n4 for libudev-zero; -d only"},
	{Name: "-o FD", Number: &line.Output, Help: "write each event to FD then, NUL-separated; -f only"},
	{Name: "--first DEVICES", Text: &line.First,
		Help: "have these devices, each as for wait, and the modules on the\nway to them before all else; -d only"},
	{Name: "--udev", Given: &line.Udev, Help: "serve the clients of libudev, and udevadm, by /run/udev; -d only"},
	{Name: "--udevcontrol", Given: &line.UdevControl, Help: "let the udevcontrol of 2006 steer the loop, at its socket"},
	{Name: "--events DIR", Text: &line.Events,
		Help: "where clients make queues for events (/dev/events), or none,\nwhich is the default with another --dev"},
	{Name: "--libudev[=DIR]", Given: &line.Compat, Text: &line.Libudev,
		Help: "let libudev-compat's clients have them too, in DIR\n(/dev/metadata/udev/events)"},
	{Name: "--libudev-zero", Given: &line.Zero, Help: "wake libudev-zero up to 0.5.2 by each event"},
	{Name: "--quiet SECONDS", Text: &line.quiet, Help: "for settle and coldplug: no event may have come for so long (0.2)"},
	{Name: "--metrics", Given: &line.metrics, Help: "for status: the counters, in Prometheus's format"},
	{Name: "--json", Given: &line.json, Help: "for log: each event as a line of JSON"},
	{Name: "--dev DIR", Text: &line.Dev, Help: "use DIR for /dev"},
	{Name: "--sys DIR", Text: &line.Sys, Help: "use DIR for /sys"},
	{Name: "--conf FILE", Given: &line.ConfNamed, Text: &line.Conf,
		Help: "use FILE, which must be there, and before it the pieces\nFILE.d/*.conf; else /etc/mdev.conf is used, and where that is\nmissing a default config"},
	{Name: "--firmware DIR", Text: &line.Firmware, Help: "use DIR for /lib/firmware"},
	{Name: "-h, --help", Given: &given[modeHelp], Help: "print this"},
	{Name: "--version", Given: &given[modeVersion], Help: "print the version, the parts that are built in, and\nwhether helpers hand their events over"},

	{Name: "--detached", Given: &line.Detached}, // a loop that -d starts in the background
}

// The columns at which help begins in the usage.
const (
	waysColumn    = 25
	optionsColumn = 18
)

// usage is the help text.
func usage() string {
	text := `devspool turns the kernel's device events into a correct /dev.

usage:
` + cli.Usage(table[:], true, "  devspool ", waysColumn) +
		cli.Row("  ACTION=... DEVPATH=... devspool [SUBSYSTEM]", `do one event, given in the environment: the way the
kernel calls its helper (/proc/sys/kernel/hotplug)`, waysColumn)
	ctl := cli.Row("  devspool ctl REQUEST", "steer a running loop; REQUEST is one of", waysColumn)
	// The requests and applets say for themselves what they are, so the usage is never out of
	// date.
	for i := range control.Requests {
		r := &control.Requests[i]
		call := r.Name + " " + r.Args
		if r.Word {
			text += cli.Row("  devspool "+call, r.Help, waysColumn)
		}
		if r.Ctl {
			ctl += cli.Row("    "+call, r.Help, waysColumn)
		}
	}
	text += ctl
	for _, applet := range applets.All {
		text += cli.Row("  devspool "+applet.Name+" ...", applet.Help, waysColumn)
	}
	return text + "\noptions:\n" + cli.Usage(table[:], false, "  ", optionsColumn) + `
Called as mdev it takes the same options.

exit codes: 0 done, 1 something failed (the log says what), 2 problems in the
config, 100 wrong usage, 111 nothing works here (a system call failed); -d: 0 when
the loop is ready, whatever the log says of single devices
`
}

// parse reads the command line into line. Where it names no mode, the environment may hold
// an event. It is to be called once: what a call stores in line and given stays there.
func parse(args, environ []string) (*options, error) {
	line.Environ = environ
	words, err := cli.Parse(args, table[:])
	if err == nil {
		err = line.choose()
	}
	if err == nil {
		err = line.operands(words, args)
	}
	if err == nil {
		err = line.check()
	}
	return &line, err
}

// choose sets the mode that the options name. Help wins. A loop scans first, so that -s with
// -d says nothing new. -f with -s does not either: a scan is in the foreground, and scripts for
// BusyBox that call mdev -sf wait for its end. Any other two exclude each other.
func (o *options) choose() error {
	if given[modeHelp] {
		o.mode = modeHelp
		return nil
	}
	if given[modeScan] && !given[modeLoop] {
		o.foreground = false
	}
	if o.foreground {
		given[modeLoop] = true
	}
	if given[modeLoop] {
		given[modeScan] = false
	}
	for m, is := range given {
		switch {
		case is && o.mode != modeNone:
			return errors.New("two of -s, -d, --check, --plan and the like exclude each other")
		case is:
			o.mode = mode(m)
		}
	}
	return nil
}

// operands reads the words that are no options. Where there is none, and no mode, the
// environment may hold an event.
func (o *options) operands(words, args []string) error {
	event := o.mode == modeNone && holdsEvent(o.Environ)
	switch {
	case event && len(words) == 0:
		o.mode = modeHelper
	// A word that is also a request counts as the subsystem only where the environment says so.
	// Commands of rules inherit an event's environment, and "devspool settle" in one of them
	// must not do that event again.
	case event && len(words) == 1 && words[0] == args[len(args)-1] && (!isRequest(words[0]) || words[0] == sys.Getenv(o.Environ, "SUBSYSTEM")):
		o.mode = modeHelper // the kernel gives the subsystem, which the environment says too
	// Help does not mind what else the command line says.
	case len(words) == 0 || o.mode == modeHelp:
	case o.mode == modePlan && len(words) == 1:
		o.device = words[0]
	case o.mode == modeNone && isRequest(words[0]):
		o.mode = modeAsk
		return o.request(words)
	default:
		wrong := words[0]
		if o.mode == modePlan {
			wrong = words[1]
		}
		return errors.New("not understood: " + wrong)
	}
	return nil
}

// holdsEvent reports whether the environment is that of a hotplug helper.
func holdsEvent(environ []string) bool {
	return sys.Getenv(environ, "ACTION") != "" && sys.Getenv(environ, "DEVPATH") != ""
}

// isRequest reports whether a word makes the command line one that asks the loop.
func isRequest(word string) bool {
	r := control.FindRequest(word)
	return word == "ctl" || r != nil && r.Word
}

// check finds options that do not go together, and numbers that make no sense. It comes after
// operands, since that may change the mode.
func (o *options) check() error {
	switch {
	case !isSeconds(o.quiet):
		return errors.New("--quiet needs a time in seconds: " + o.quiet)
	case o.Output >= 0 && o.Output < 3:
		return errors.New("-o: commands write to the descriptors up to 2; use one from 3 on")
	case o.Groups&1 != 0:
		return errors.New("-O: group 1 is the kernel's, and each event would come back; use 4")
	case !hotplug.HasSpool && (o.Events != "" && o.Events != hotplug.NoEvents || o.Compat || o.Zero):
		return errors.New("this program was built without the spool (-tags nospool)")
	case !hotplug.HasModules && o.First != "":
		return errors.New("this program was built without what an early boot needs (-tags noboot)")
	case o.Output >= 0 && !o.foreground:
		return errors.New("-o needs -f")
	case o.Output >= 0 && o.Output == o.Ready:
		return errors.New("-o and -D need descriptors of their own")
	case o.Groups != 0 && o.mode != modeLoop:
		return errors.New("-O is for the loop: it needs -d or -f")
	case o.json && (o.mode != modeAsk || o.words[0] != "log"):
		return errors.New("--json is for log")
	case o.metrics && (o.mode != modeAsk || o.words[0] != "metrics"):
		return errors.New("--metrics is for status")
	case o.UdevControl && o.mode != modeLoop:
		return errors.New("--udevcontrol is for the loop: it needs -d or -f")
	}
	return nil
}

// defaultWait is how long settle and wait take at most, in seconds: text, the form in which it
// is sent.
const defaultWait = "120"

// request turns the words of the command line into those that the loop is sent.
func (o *options) request(words []string) error {
	what, rest := words[0], words[1:]
	if what == "ctl" {
		return o.ctl(rest)
	}
	r := control.FindRequest(what)
	if o.metrics && what == "status" {
		what = "metrics"
	}
	// What the loop is sent: the request's name, the timeout where it has one, the quiet time
	// where it has one, and then the devices.
	sent, n := [3]string{what}, 1
	if strings.HasSuffix(r.Args, "[SECONDS]") {
		sent[n] = defaultWait
		if last := len(rest) - 1; last >= 0 && isSeconds(rest[last]) {
			sent[n], rest = rest[last], rest[:last]
		}
		n++
	}
	if r.Quiet {
		sent[n] = o.quiet
		n++
	}
	if what == "log" { // its -n is the option that is there for another purpose, and changes nothing
		if n = 2; o.DryRun {
			number := strings.Join(rest, " ")
			if _, err := strconv.ParseUint(number, 10, 31); err != nil {
				return errors.New("log -n: not a usable number: " + number)
			}
			sent[1], rest = number, nil
		}
		if o.json {
			sent[2], n = "json", 3
		}
	}
	devices := strings.HasPrefix(r.Args, "DEVICE")
	if devices && len(rest) == 0 {
		return errors.New(what + " needs a device to wait for")
	}
	if !devices && len(rest) > 0 {
		return errors.New(what + ": not understood: " + strings.Join(rest, " "))
	}
	o.words = append(sent[:n], rest...)
	return nil
}

// ctl takes a request that steers the loop.
func (o *options) ctl(words []string) error {
	if len(words) == 0 {
		return errors.New("ctl needs a word; see --help")
	}
	// None of these requests has more than one argument.
	r, arguments := control.FindRequest(words[0]), 0
	if r != nil && r.Args != "" {
		arguments = 1
	}
	if r == nil || !r.Ctl || len(words)-1 != arguments {
		return errors.New("ctl: not understood: " + strings.Join(words, " "))
	}
	o.words = words
	return nil
}

// isSeconds reports whether the loop would take text for a time. By it a last word of "wait" is
// told from a device.
func isSeconds(text string) bool {
	_, err := control.ParseSeconds(text)
	return err == nil
}

// asUdevd returns the command line by which this program does what a udevd does that is
// called as args say: it follows events, in the background with --daemon, and serves the
// clients of libudev. The other options of udevd have no use here.
func asUdevd(args []string) []string {
	if args[len(args)-1] == "--detached" {
		return args // the process in the background, which gets what this returned before
	}
	// The -f becomes -d where udevd is to leave for the background; without, udevd stays too.
	ours := []string{args[0], "-f", "--udev"}
	for _, arg := range args[1:] {
		switch arg {
		case "-d", "--daemon":
			ours[1] = "-d"
			continue
		// Not devspool's own -D, which names a descriptor.
		case "-D", "--debug":
			arg = "-v"
		case "-h", "--help":
			return []string{args[0], "--help"}
		case "-V", "--version":
			return []string{args[0], "--version"}
		default:
			jobs, is := strings.CutPrefix(arg, "--children-max=")
			if !is {
				continue
			}
			arg = "-j" + jobs
		}
		ours = append(ours, arg)
	}
	return ours
}
