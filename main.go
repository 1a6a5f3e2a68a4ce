// Devspool turns the Linux kernel's device events into a correct /dev.
//
// It is one static binary that takes the place of BusyBox mdev: as the kernel's
// hotplug helper, as a loop that follows netlink, and as a scan of /sys. Called
// as mdev it takes mdev's options.
package main

import (
	"errors"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"devspool/conf"
	"devspool/hotplug"
	"devspool/hotplug/handoff"
	"devspool/hotplug/spool"
	"devspool/hotplug/spool/applet"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// What the build sets.
var (
	version = "unreleased"
	stay    = "2000" // milliseconds that the first helper stays after the last event; 0 for never
)

// The exit codes.
const (
	exitDone   = 0   // all is done
	exitFailed = 1   // an event, or a part of one, could not be done; the log says which
	exitConfig = 2   // the config has problems, or cannot be read
	exitUsage  = 100 // the command line is wrong
	exitSystem = 111 // a system call failed without which nothing works
)

const usage = `devspool turns the kernel's device events into a correct /dev.

usage:
  devspool -s            coldplug: make /dev what /sys says, then exit
  devspool -d            coldplug, then follow events in the background
  devspool -df           the same in the foreground
  ACTION=... DEVPATH=... devspool [SUBSYSTEM]
                         do one event, given in the environment: the way the
                         kernel calls its helper (/proc/sys/kernel/hotplug)
  devspool status        tell how a running loop stands
  devspool coldplug      have a running loop ask the kernel for an add of every
                         device, and wait for the end of all that follows
  devspool settle [SECONDS]
                         wait until every event is at its end (120)
  devspool wait DEVICE... [SECONDS]
                         wait until all of these are there (120): a path below
                         /dev or /sys, or KEY=VALUE of a device's event
  devspool ctl ...       steer a running loop: ping, status, stop, start, reload,
                         exit, log-level LEVEL, children-max N, running-max N
  devspool watch ...     print each event when all is done for it (watch --help)
  devspool event ...     put an event into clients' queues, pop the oldest of one,
                         list the queues (event --help)
  devspool --check       check the config; print every problem
  devspool --plan [DEVICE]
                         print what would be done for an add of DEVICE (a
                         devpath, or a path below /sys or /dev), or of every
                         device, and which line of the config says so; with
                         ACTION=remove in the environment, for a remove
  devspool --print-default-conf

options:
  -f              stay in the foreground; implies -d
  -n, --dry-run   change nothing and run nothing; with -t show what would be done
  -t, --table     show each event on stdout, a row each
  -v              log more
  -S              log to syslog
  -D FD           when ready (listening, coldplug done) write a newline to FD
  -j N            run at most N commands at once (4)
  -O MASK         send each event, when all is done for it, to these netlink groups:
                  4 for libudev-zero; -d only
  -o FD           write each event to FD then, NUL-separated; -f only
  --udevcontrol   let the udevcontrol of old steer the loop, at its socket
  --events DIR    where clients make queues for events (/dev/events), or none,
                  which is the default with another --dev
  --libudev[=DIR] let libudev-compat's clients have them too, in DIR
                  (/dev/metadata/udev/events)
  --libudev-zero  wake libudev-zero up to 0.5.2 by each event
  --quiet SECONDS for settle and coldplug: no event may have come for so long (0.2)
  --dev DIR       use DIR for /dev
  --sys DIR       use DIR for /sys
  --conf FILE     use FILE, which must be there; else /etc/mdev.conf is used, and
                  where that is missing a default config
  --firmware DIR  use DIR for /lib/firmware
  -h, --help      print this
  --version       print the version

Called as mdev it takes the same options.

exit codes: 0 done, 1 something failed (the log says what), 2 problems in the
config, 100 wrong usage, 111 nothing works here (a system call failed); -d: 0 when
the loop is ready, whatever the log says of single devices
`

func main() { os.Exit(run(os.Args, os.Environ())) }

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

// applets are the tools with a command line of their own, by the word that they
// are called with.
var applets = map[string]func(args []string) int{
	"watch": func(args []string) int { return applet.Watch(args, streams(), present) },
	"event": func(args []string) int { return applet.Event(args, streams()) },
}

func streams() applet.Streams { return applet.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr} }

// present returns an add event for each device that is there.
func present() ([]*uevent.Event, error) { return hotplug.Sysfs("/sys").Events(uevent.Add, "", "/dev") }

// called returns the applet that the command line names. A subsystem may have such a
// name too: the kernel gives it to its helper.
func called(args, environ []string) func(args []string) int {
	if len(args) < 2 || holdsEvent(environ) && args[1] == hotplug.Getenv(environ, "SUBSYSTEM") {
		return nil
	}
	return applets[args[1]]
}

// holdsEvent reports whether the environment is that of a hotplug helper.
func holdsEvent(environ []string) bool {
	return hotplug.Getenv(environ, "ACTION") != "" && hotplug.Getenv(environ, "DEVPATH") != ""
}

func run(args, environ []string) int {
	if tool := called(args, environ); tool != nil {
		return tool(args[2:])
	}
	o, err := parse(args[1:], environ)
	if err != nil {
		complain(usage + "\n" + err.Error())
		return exitUsage
	}
	if o.kernel = handoff.FromKernel(args, environ); o.kernel && handoff.Offer(environ) {
		return exitDone // a server is there already
	}
	switch o.mode {
	case modeNone:
		complain(usage)
		return exitUsage
	case modeHelp:
		return say(usage)
	case modeVersion:
		return say("devspool " + version + "\n")
	case modeDefaultConf:
		return say(conf.Default)
	case modeCheck:
		return check(o)
	case modePlan:
		return plan(o, environ)
	case modeAsk:
		return ask(o)
	case modeLoop:
		for letter, fd := range map[string]int{"-D ": o.ready, "-o ": o.output} {
			if !o.detached && !isOpen(fd) {
				complain("devspool: " + letter + strconv.Itoa(fd) + ": no such descriptor is open")
				return exitUsage
			}
		}
		if !o.foreground {
			return daemon(args, o)
		}
	}
	return work(o, environ)
}

// isOpen reports whether fd, which is to be told of readiness or of events, is
// open. It looks before anything of ours takes that number, and keeps commands
// from inheriting it.
func isOpen(fd int) bool {
	if fd < 0 {
		return true
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
	return err == nil
}

func say(text string) int {
	if _, err := os.Stdout.WriteString(text); err != nil {
		return exitFailed
	}
	return exitDone
}

func complain(text string) { os.Stderr.WriteString(strings.TrimSuffix(text, "\n") + "\n") }

// parse reads the command line. Where it names no mode, the environment may hold
// an event.
func parse(args, environ []string) (options, error) {
	o := options{ready: -1, output: -1, jobs: hotplug.DefaultJobs,
		quiet: "0.2", dev: "/dev", sys: "/sys", conf: defaultConf, firmware: "/lib/firmware"}
	event := holdsEvent(environ)
	subsystem := hotplug.Getenv(environ, "SUBSYSTEM")
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
	if o.events == "" && o.dev == "/dev" {
		o.events = spool.DefaultEvents
	}
	if o.compat && o.libudev == "" {
		o.libudev = o.dev + strings.TrimPrefix(spool.DefaultLibudev, "/dev")
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
	_, err := hotplug.ParseSeconds(text)
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
		if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
			o.device, args = args[0], args[1:]
		}
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

const defaultConf = "/etc/mdev.conf"

// readConf reads the config, or takes the default one where there is no file in
// the usual place. A file that was asked for by name must be there. The config
// is nil only where there is an error.
func readConf(o options) (*conf.Config, error) {
	file := o.conf
	text, err := hotplug.ReadFile(o.conf)
	switch {
	case err == nil:
	case errors.Is(err, os.ErrNotExist) && !o.named:
		file, text = "default.conf", conf.Default
	default:
		return nil, err
	}
	c := conf.Parse(file, text, conf.IDs{Passwd: once("/etc/passwd"), Group: once("/etc/group")})
	var root unix.Stat_t
	if unix.Stat("/", &root) == nil && unix.Major(uint64(root.Dev)) != 0 {
		c.Root = uevent.Dev{Block: true, Major: unix.Major(uint64(root.Dev)), Minor: unix.Minor(uint64(root.Dev))}
	}
	return c, nil
}

// once returns a function that reads a file when it is first called. Without the
// file names become root, with a warning.
func once(path string) func() string {
	return sync.OnceValue(func() string {
		text, _ := hotplug.ReadFile(path)
		return text
	})
}

func check(o options) int {
	c, err := readConf(o)
	if err != nil {
		complain("devspool: error: " + err.Error())
		return exitConfig
	}
	for _, p := range c.Problems {
		say(p.String() + "\n")
	}
	if len(c.Problems) > 0 {
		return exitConfig
	}
	return exitDone
}

func plan(o options, environ []string) int {
	o.absolute()
	c, err := readConf(o)
	if err != nil {
		complain("devspool: error: " + err.Error())
		return exitConfig
	}
	action := hotplug.Getenv(environ, "ACTION")
	if action == "" {
		action = uevent.Add
	}
	events, err := hotplug.Sysfs(o.sys).Events(action, o.device, o.dev)
	if err != nil {
		complain("devspool: error: " + err.Error())
		return exitFailed
	}
	for _, e := range events {
		if code := say(c.Plan(e).String()); code != exitDone {
			return code
		}
	}
	return exitDone
}

// ask has the loop do what the command line says. Waiting for a device needs no loop.
func ask(o options) int {
	o.absolute()
	dev, err := nodes.Open(o.dev)
	if err != nil {
		complain("devspool: error: " + err.Error())
		return exitSystem
	}
	err = hotplug.Ask(dev, o.words, func(line string) { say(line + "\n") })
	if err == hotplug.ErrNoLoop && o.words[0] == "wait" {
		road := hotplug.NewRoad(nil, dev, hotplug.Sysfs(o.sys), hotplug.Stderr(), 0)
		err = hotplug.Wait(road, o.words[1:], func(line string) { say(line + "\n") })
	}
	if err != nil {
		complain("devspool: error: " + err.Error())
		return exitFailed
	}
	return exitDone
}

// work opens /dev and does what the mode says.
func work(o options, environ []string) int {
	o.absolute()
	unix.Umask(0) // modes are made as they are meant; commands expect it, as under mdev
	event, log, err := source(o, environ)
	if err != nil {
		log.Print(hotplug.Err, err.Error()+"; see --help")
		return exitUsage
	}
	c, err := readConf(o)
	if err != nil {
		log.Print(hotplug.Err, err.Error())
		if o.named {
			return exitConfig
		}
		// A board without a config that can be read is still to have a /dev.
		c = conf.Parse("default.conf", conf.Default, conf.IDs{})
	}
	for _, p := range c.Problems {
		log.Print(hotplug.Warning, p.String())
	}
	var dev *nodes.Dir
	if !o.dryRun {
		if dev, err = nodes.Open(o.dev); err != nil {
			log.Print(hotplug.Err, err.Error())
			return exitSystem
		}
	}
	road := hotplug.NewRoad(c, dev, hotplug.Sysfs(o.sys), log, o.jobs)
	road.Firmware = o.firmware
	road.Environ = environ
	road.Conf = o.conf
	road.Reload = func() (*conf.Config, error) { return readConf(o) }
	if o.table {
		road.Listeners = append(road.Listeners, hotplug.Listener{Done: hotplug.NewTable(1).Row})
	}
	if publisher := publish(road, o); publisher != nil {
		defer publisher.Close()
	}
	switch o.mode {
	case modeScan:
		return scan(road, o)
	case modeLoop:
		return loop(road, o)
	}
	if o.kernel {
		ms, _ := strconv.Atoi(stay)
		return result(hotplug.Serve(road, event, time.Duration(ms)*time.Millisecond))
	}
	return result(hotplug.Helper(road, event))
}

// publish has events go to whoever has a queue, as the command line says. What
// does more than one event keeps the spool open.
func publish(road *hotplug.Road, o options) *hotplug.Publisher {
	if o.events == noEvents {
		o.events = ""
	}
	if o.dryRun || o.events == "" && o.libudev == "" {
		return nil
	}
	p := hotplug.NewPublisher(spool.Options{
		Private: o.dev + "/" + nodes.Private, Events: o.events, Libudev: o.libudev,
		// Another directory than /dev is for a look; nothing is to be unmounted after it.
		Mount: o.dev == "/dev", Resident: o.mode != modeHelper || o.kernel, Zero: o.zero,
	}, road.Log)
	road.Listeners = append(road.Listeners, p.Listener())
	return p
}

// source returns the event of a helper, and the log that suits the mode: a
// helper's goes to mdev.log where the board has one, and to the kernel's where
// the kernel started it, since nobody reads its stderr.
func source(o options, environ []string) (*uevent.Event, *hotplug.Log, error) {
	log := hotplug.Stderr()
	if o.syslog {
		log = hotplug.Syslog()
	}
	log.SetLevel(o.level())
	if o.mode != modeHelper {
		return nil, log, nil
	}
	e, err := uevent.FromEnviron(environ)
	if err != nil {
		return nil, log, err
	}
	if file := hotplug.File(o.dev+"/mdev.log", e.Seqnum); file != nil {
		return e, file, nil
	}
	if e.Seqnum != 0 && !o.syslog {
		log = hotplug.Kmsg()
		log.SetLevel(o.level())
	}
	return e, log, nil
}

// level is what the log shows.
func (o *options) level() hotplug.Level {
	if o.verbose {
		return hotplug.Info
	}
	return hotplug.Notice
}

func result(ok bool) int {
	if !ok {
		return exitFailed
	}
	return exitDone
}

// scan coldplugs, or has the loop do it, unless the loop waits for us: a command
// that a rule runs.
func scan(road *hotplug.Road, o options) int {
	if road.Dev != nil && !o.table && !hotplug.InCommand(road.Environ) {
		if served, err := hotplug.HandOver(road); err != nil {
			road.Log.Print(hotplug.Err, err.Error())
			return exitFailed
		} else if served {
			return exitDone
		}
	}
	return result(hotplug.Coldplug(road).Wait())
}

func loop(road *hotplug.Road, o options) int {
	ready := o.ready
	if o.detached {
		ready = hotplug.BackgroundFD
		unix.Chdir("/") // or the file system that it was started in could not be unmounted
	}
	flush, err := passOn(road, o)
	if err != nil {
		road.Log.Print(hotplug.Err, err.Error())
		return exitSystem
	}
	defer flush()
	l, err := hotplug.NewLoop(road)
	if errors.Is(err, hotplug.ErrRunning) {
		road.Log.Print(hotplug.Err, err.Error())
		return exitFailed
	}
	if err != nil {
		road.Log.Print(hotplug.Err, err.Error())
		return exitSystem
	}
	if o.udevControl {
		if err := hotplug.ServeUdevControl(road); err != nil {
			road.Log.Print(hotplug.Err, err.Error())
			l.End()
			l.Serve()
			return exitFailed
		}
	}
	go func() {
		hotplug.Coldplug(road).Wait() // its commands may wait for what an event brings
		if o.detached {
			if !o.syslog {
				road.Log.Become(hotplug.Kmsg())
			}
			hotplug.Detach()
		}
		if ready >= 0 {
			hotplug.Ready(ready)
		}
	}()
	if err := l.Serve(); err != nil {
		road.Log.Print(hotplug.Err, err.Error())
		return exitSystem
	}
	return exitDone
}

// passOn has others hear of each event at its end, as the command line says. What
// is still on its way to them is waited for by flush, for a while.
func passOn(road *hotplug.Road, o options) (flush func(), err error) {
	flush = func() {}
	if o.groups != 0 && !o.dryRun {
		groups, err := hotplug.NewRebroadcast(o.groups, road.Log)
		if err != nil {
			return flush, err
		}
		road.Listeners = append(road.Listeners, groups.Listener())
	}
	if o.output >= 0 {
		output := hotplug.NewOutput(o.output, road.Log)
		road.Listeners = append(road.Listeners, output.Listener())
		flush = func() { output.Flush(time.Second) }
	}
	return flush, nil
}

// daemon starts this program anew as a loop in the background, and returns when
// that loop is ready, or has failed.
func daemon(args []string, o options) int {
	child := append(slices.Clone(args), "-f", "--detached")
	code, err := hotplug.Background(child, os.Environ())
	if err != nil {
		complain("devspool: error: " + err.Error())
		return exitSystem
	}
	if code == exitDone && o.ready >= 0 {
		hotplug.Ready(o.ready)
	}
	return code
}
