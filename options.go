package main

import (
	"errors"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/control"
	"devspool/hotplug/log"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sys"
)

// options is the command line.
type options struct {
	mode mode

	foreground, detached, dryRun, table, verbose, syslog, udevControl bool

	ready    int // the descriptor for readiness, or -1
	output   int // the descriptor for events, or -1
	groups   uint32
	jobs     int
	dev, sys string
	conf     string
	named    bool // the config was asked for by name
	firmware string
	events   string   // where queues are made, or noEvents
	compat   bool     // libudev-compat's clients have some too
	libudev  string   // where they make them
	zero     bool     // libudev-zero of old is to be served
	device   string   // for the plan
	words    []string // what the loop is asked for
	quiet    string
	kernel   bool // the kernel started this process for an event
}

type mode int

const (
	modeNone mode = iota
	modeScan
	modeLoop
	modeHelper
	modeCheck
	modePlan
	modeDefaultConf
	modeHelp
	modeVersion
	modeAsk
)

// requests are what "ctl" can ask the loop for, with how many words follow.
var requests = map[string]int{
	"ping": 0, "status": 0, "stop": 0, "start": 0, "reload": 0, "exit": 0,
	"log-level": 1, "children-max": 1, "running-max": 1,
}

// asks are the words that make a command line one that asks the loop.
var asks = []string{"ctl", "status", "coldplug", "settle", "wait"}

// parse reads the command line. Where it names no mode, the environment may hold
// an event.
func parse(args, environ []string) (options, error) {
	o := options{ready: -1, output: -1, jobs: scheduler.DefaultJobs,
		quiet: "0.2", dev: "/dev", sys: "/sys", conf: defaultConf, firmware: "/lib/firmware"}
	event := holdsEvent(environ)
	subsystem := sys.Getenv(environ, "SUBSYSTEM")
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case strings.HasPrefix(arg, "--"):
			rest, err := o.long(arg[2:], args)
			if err != nil {
				return o, err
			}
			args = rest
		case len(arg) > 1 && arg[0] == '-':
			rest, err := o.short(arg[1:], args)
			if err != nil {
				return o, err
			}
			args = rest
		case o.mode == modeAsk:
			o.words = append(o.words, arg)
		case o.mode == modeNone && slices.Contains(asks, arg) && !(event && arg == subsystem):
			o.mode = modeAsk
			o.words = []string{arg}
		case o.mode == modePlan && o.device == "":
			o.device = arg
		case event && o.mode == modeNone && len(args) == 0:
			// The kernel gives the subsystem, which the environment says too.
		default:
			return o, errors.New("devspool: not understood: " + arg)
		}
	}
	if o.mode == modeNone && event {
		o.mode = modeHelper
	}
	if o.mode == modeAsk {
		if err := o.request(); err != nil {
			return o, err
		}
	}
	switch {
	case !hasSpool && (o.events != "" && o.events != noEvents || o.compat || o.zero):
		return o, errors.New("devspool: this program was built without the spool (-tags nospool)")
	case o.output >= 0 && !o.foreground:
		return o, errors.New("devspool: -o needs -f")
	case o.output >= 0 && o.output == o.ready:
		return o, errors.New("devspool: -o and -D need descriptors of their own")
	case o.groups != 0 && o.mode != modeLoop:
		return o, errors.New("devspool: -O is for the loop: it needs -d or -f")
	case o.udevControl && o.mode != modeLoop:
		return o, errors.New("devspool: --udevcontrol is for the loop: it needs -d or -f")
	}
	return o, nil
}

// absolute makes the paths hold wherever the process goes.
func (o *options) absolute() {
	var cwd [unix.PathMax]byte
	n, err := unix.Getcwd(cwd[:])
	for _, place := range []*string{&o.dev, &o.sys, &o.conf, &o.firmware, &o.events, &o.libudev} {
		if *place == "" || place == &o.events && *place == noEvents {
			continue
		}
		if !path.IsAbs(*place) && err == nil {
			*place = string(cwd[:n-1]) + "/" + *place
		}
		*place = path.Clean(*place)
	}
}

// noEvents in the place of a directory says that there is to be none.
const noEvents = "none"

// short reads a cluster of one-letter options. Rest is args without what they took.
func (o *options) short(letters string, args []string) (rest []string, err error) {
	for i, c := range letters {
		switch c {
		case 's':
			err = o.choose(modeScan)
		case 'd':
			err = o.choose(modeLoop)
		case 'f':
			o.foreground = true
			err = o.choose(modeLoop)
		case 'n':
			o.dryRun = true
		case 't':
			o.table = true
		case 'v':
			o.verbose = true
		case 'S':
			o.syslog = true
		case 'h':
			err = o.choose(modeHelp)
		case 'D', 'j', 'o', 'O':
			value := letters[i+1:]
			if value == "" {
				if len(args) == 0 {
					return nil, errors.New("devspool: -" + string(c) + " needs a number")
				}
				value, args = args[0], args[1:]
			}
			n, err := strconv.ParseInt(value, 10, 32)
			if err != nil || n < 0 || n == 0 && (c == 'j' || c == 'O') {
				return nil, errors.New("devspool: -" + string(c) + ": not a usable number: " + value)
			}
			return args, o.number(c, int(n))
		default:
			err = errors.New("devspool: unknown option -" + string(c))
		}
		if err != nil {
			return nil, err
		}
	}
	return args, nil
}

// number takes the number of an option.
func (o *options) number(option rune, n int) error {
	switch {
	case option == 'D':
		o.ready = n
	case option == 'j':
		o.jobs = n
	case option == 'o' && n < 3:
		return errors.New("devspool: -o: commands write to the descriptors up to 2; use one from 3 on")
	case option == 'o':
		o.output = n
	case n&1 != 0:
		return errors.New("devspool: -O: group 1 is the kernel's, and each event would come back; use 4")
	default:
		o.groups = uint32(n)
	}
	return nil
}

// defaultWait is how long settle and wait take at most, in seconds.
const defaultWait = "120"

// request turns the words of the command line into those that the loop is sent.
func (o *options) request() error {
	what, rest := o.words[0], o.words[1:]
	switch what {
	case "ctl":
		if len(rest) == 0 {
			return errors.New("devspool: ctl needs a word; see --help")
		}
		if n, known := requests[rest[0]]; !known || n != len(rest)-1 {
			return errors.New("devspool: ctl: not understood: " + strings.Join(rest, " "))
		}
		o.words = rest
	case "wait":
		timeout := defaultWait
		if n := len(rest); n > 0 && isSeconds(rest[n-1]) {
			timeout, rest = rest[n-1], rest[:n-1]
		}
		if len(rest) == 0 {
			return errors.New("devspool: wait needs a device to wait for")
		}
		o.words = append([]string{"wait", timeout}, rest...)
	case "settle":
		timeout := defaultWait
		if len(rest) == 1 && isSeconds(rest[0]) {
			timeout, rest = rest[0], nil
		}
		o.words = []string{"settle", timeout, o.quiet}
		return tooMany(what, rest)
	case "coldplug":
		o.words = []string{"coldplug", o.quiet}
		return tooMany(what, rest)
	default:
		return tooMany(what, rest)
	}
	return nil
}

func tooMany(what string, rest []string) error {
	if len(rest) > 0 {
		return errors.New("devspool: " + what + ": not understood: " + strings.Join(rest, " "))
	}
	return nil
}

func isSeconds(text string) bool {
	_, err := control.ParseSeconds(text)
	return err == nil
}

// choose sets the mode. A loop scans first, so that -s with it says nothing new;
// any other two exclude each other.
func (o *options) choose(m mode) error {
	switch {
	case m == modeHelp || o.mode == modeNone || o.mode == m || o.mode == modeScan && m == modeLoop:
		o.mode = m
	case o.mode == modeHelp || o.mode == modeLoop && m == modeScan:
	default:
		return errors.New("devspool: two of -s, -d, --check, --plan and the like exclude each other")
	}
	return nil
}

// long reads one option of more than a letter, given without its dashes.
func (o *options) long(arg string, args []string) (rest []string, err error) {
	name, value, given := strings.Cut(arg, "=")
	values := map[string]*string{"dev": &o.dev, "sys": &o.sys, "conf": &o.conf, "firmware": &o.firmware, "quiet": &o.quiet,
		"events": &o.events}
	if target := values[name]; target != nil {
		if !given && len(args) > 0 {
			value, args = args[0], args[1:]
		}
		if target == &o.quiet && !isSeconds(value) {
			return nil, errors.New("devspool: --quiet needs a time in seconds: " + value)
		}
		if value == "" {
			return nil, errors.New("devspool: --" + name + " needs a path")
		}
		*target = value
		o.named = o.named || name == "conf"
		return args, nil
	}
	if name == "libudev" && (value != "" || !given) {
		o.compat, o.libudev = true, value
		return args, nil
	}
	switch arg {
	case "help":
		err = o.choose(modeHelp)
	case "version":
		err = o.choose(modeVersion)
	case "check":
		err = o.choose(modeCheck)
	case "plan":
		err = o.choose(modePlan)
	case "print-default-conf":
		err = o.choose(modeDefaultConf)
	case "dry-run":
		o.dryRun = true
	case "table":
		o.table = true
	case "udevcontrol":
		o.udevControl = true
	case "libudev-zero":
		o.zero = true
	case "detached":
		o.detached = true
	default:
		err = errors.New("devspool: unknown option --" + arg)
	}
	return args, err
}

// level is what the log shows.
func (o *options) level() log.Level {
	if o.verbose {
		return log.Info
	}
	return log.Notice
}
