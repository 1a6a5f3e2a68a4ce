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
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"devspool/conf"
	"devspool/hotplug/coldplug"
	"devspool/hotplug/command"
	"devspool/hotplug/control"
	"devspool/hotplug/daemon"
	"devspool/hotplug/handoff"
	"devspool/hotplug/helper"
	"devspool/hotplug/log"
	"devspool/hotplug/loop"
	"devspool/hotplug/reload"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sink"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
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
  devspool modprobe ...  load kernel modules, as modprobe does (modprobe --help)
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

Called as mdev it takes the same options. Called as modprobe it is that.

exit codes: 0 done, 1 something failed (the log says what), 2 problems in the
config, 100 wrong usage, 111 nothing works here (a system call failed); -d: 0 when
the loop is ready, whatever the log says of single devices
`

func main() { os.Exit(run(os.Args, handoff.Environ())) }

// called returns the applet that the program's name or the first argument says, and what
// of args is its own. A subsystem may have an applet's name too: the kernel gives it to
// its helper.
func called(args, environ []string) (tool func(args []string) int, rest []string) {
	if tool := bootApplets[path.Base(args[0])]; tool != nil {
		return tool, args[1:]
	}
	if len(args) < 2 || holdsEvent(environ) && args[1] == sys.Getenv(environ, "SUBSYSTEM") {
		return nil, nil
	}
	if tool := bootApplets[args[1]]; tool != nil {
		return tool, args[2:]
	}
	return applets[args[1]], args[2:]
}

// holdsEvent reports whether the environment is that of a hotplug helper.
func holdsEvent(environ []string) bool {
	return sys.Getenv(environ, "ACTION") != "" && sys.Getenv(environ, "DEVPATH") != ""
}

func run(args, environ []string) int {
	if tool, rest := called(args, environ); tool != nil {
		if tooFewFiles(fewestFiles) {
			return exitSystem
		}
		return tool(rest)
	}
	o, err := parse(args[1:], environ)
	if err != nil {
		complain(err.Error() + "\ndevspool: the options are shown by --help")
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
			return background(args, o)
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

const defaultConf = "/etc/mdev.conf"

// readConf reads the config, or takes the default one where there is no file in
// the usual place. A file that was asked for by name must be there. The config
// is nil only where there is an error.
func readConf(o options) (*conf.Config, error) {
	file := o.conf
	text, err := sys.ReadFile(o.conf)
	switch {
	case err == nil:
	case errors.Is(err, os.ErrNotExist) && o.mode != modeHelper && unix.Lstat(o.conf, new(unix.Stat_t)) == nil:
		return nil, errors.New(o.conf + " is a link to what is not there; make the file, or remove the link")
	case errors.Is(err, os.ErrNotExist) && !o.named:
		file, text = "default.conf", conf.Default
	default:
		return nil, err
	}
	var unread []conf.Problem
	names := func(path string) func() string {
		return sync.OnceValue(func() string {
			text, err := sys.ReadFile(path)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				unread = append(unread, conf.Problem{File: path, Line: 1, Column: 1,
					What: err.Error(), Remedy: "until then names become root"})
			}
			return text
		})
	}
	parse := conf.Parse
	if o.mode == modeCheck {
		parse = conf.Check
	}
	c := parse(file, text, conf.IDs{Passwd: names("/etc/passwd"), Group: names("/etc/group")})
	if c.Err != nil {
		return nil, c.Err
	}
	c.Problems = append(c.Problems, unread...)
	var root unix.Stat_t
	if unix.Stat("/", &root) == nil && unix.Major(uint64(root.Dev)) != 0 {
		c.Root = uevent.Dev{Block: true, Major: unix.Major(uint64(root.Dev)), Minor: unix.Minor(uint64(root.Dev))}
	}
	return c, nil
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
	action := sys.Getenv(environ, "ACTION")
	if action == "" {
		action = uevent.Add
	}
	events, err := sysfs.FS(o.sys).Events(action, o.device, o.dev)
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

// ask has the loop do what the command line says.
func ask(o options) int {
	o.absolute()
	dev, err := nodes.Open(o.dev)
	if err != nil {
		complain("devspool: error: " + err.Error())
		return exitSystem
	}
	if err := helper.Ask(dev, sysfs.FS(o.sys), o.words, func(line string) { say(line + "\n") }); err != nil {
		complain("devspool: error: " + err.Error())
		return exitFailed
	}
	return exitDone
}

// How many descriptors a process must be allowed to have: with fewer Go's runtime
// crashes where it opens its poller.
const (
	fewestFiles     = 16
	fewestLoopFiles = 48
)

// tooFewFiles reports whether the limit on open files is below fewest, and says so.
func tooFewFiles(fewest uint64) bool {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil || limit.Cur >= fewest {
		return false
	}
	complain("devspool: error: the limit on open files (RLIMIT_NOFILE) is " + strconv.FormatUint(limit.Cur, 10) +
		", and " + strconv.FormatUint(fewest, 10) + " are needed: raise it with ulimit -n")
	return true
}

// work opens /dev and does what the mode says.
func work(o options, environ []string) int {
	fewest := uint64(fewestFiles)
	if o.mode == modeLoop {
		fewest = fewestLoopFiles
	}
	if tooFewFiles(fewest) {
		return exitSystem
	}
	o.absolute()
	unix.Umask(0) // modes are made as they are meant; commands expect it, as under mdev
	event, logger, err := source(o, environ)
	if err != nil {
		logger.Print(log.Err, err.Error()+"; see --help")
		return exitUsage
	}
	c, err := readConf(o)
	if err != nil {
		if o.named {
			logger.Print(log.Err, err.Error())
			return exitConfig
		}
		logger.Print(log.Err, err.Error()+"; the default config is used")
		// A board without a config that can be read is still to have a /dev.
		c = conf.Parse("default.conf", conf.Default, conf.IDs{})
	}
	if o.mode != modeHelper { // or each event would say it again
		reload.LogProblems(logger, log.Warning, c.Problems)
	}
	var dev *nodes.Dir
	if !o.dryRun {
		if dev, err = nodes.Open(o.dev); err != nil {
			logger.Print(log.Err, err.Error())
			return exitSystem
		}
		if isNodev(o.dev) {
			logger.Print(log.Warning, o.dev+" is mounted nodev, so no node there can be opened; mount -o remount,dev "+o.dev)
		}
	}
	r := &runner{options: o, dev: dev, sys: sysfs.FS(o.sys), log: logger, environ: environ}
	var sinks []scheduler.Sink
	if o.table {
		sinks = append(sinks, scheduler.Sink{Done: sink.NewTable(1).Row})
	}
	sink, end := publish(o, logger)
	if sink != nil {
		sinks = append(sinks, *sink)
	}
	defer func() { end(r.stopped || o.mode == modeLoop) }()
	flush := func() {}
	if o.mode == modeLoop {
		// Events are worked off one after the other. For the little that is done beside,
		// to wake a second processor costs more than it gains.
		runtime.GOMAXPROCS(1)
		if o.detached {
			unix.Chdir("/") // or the file system that it was started in could not be unmounted
		}
		more, wait, err := passOn(o, r.sys, logger)
		if err != nil {
			logger.Print(log.Err, err.Error())
			return exitSystem
		}
		sinks, flush = append(sinks, more...), wait
	}
	defer flush()
	r.scheduler = scheduler.New(scheduler.Options{
		Rules: c, Dev: dev, Sys: r.sys, Log: logger, Sinks: sinks, FirmwareDir: o.firmware, Environ: environ,
		Jobs: o.jobs, ByHand: event != nil && event.Seqnum == 0,
	})
	r.config = reload.New(o.conf, c, func() (*conf.Config, error) { return readConf(o) }, r.scheduler.SetRules, logger)
	switch o.mode {
	case modeScan:
		return r.scan()
	case modeLoop:
		return r.loop()
	}
	ms, _ := strconv.Atoi(stay)
	h := helper.Options{Scheduler: r.scheduler, Config: r.config, Dev: dev, Sys: r.sys, Log: logger, Environ: environ,
		Linger: time.Duration(ms) * time.Millisecond}
	if !o.kernel {
		return result(helper.Run(h, event))
	}
	ok, stopped := helper.Serve(h, event)
	r.stopped = stopped
	return result(ok)
}

// runner is what the modes work with.
type runner struct {
	options
	dev       *nodes.Dir // nil for a dry run
	sys       sysfs.FS
	log       *log.Logger
	environ   []string
	scheduler *scheduler.Scheduler
	config    *reload.Config
	stopped   bool // the process was told to end
}

// isNodev reports whether nodes on the file system at path cannot be opened.
func isNodev(path string) bool {
	const nodev = 0x4 // ST_NODEV of statvfs(3)
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Flags&nodev != 0
}

// source returns the event of a helper, and the log that suits the mode: a
// helper's goes to mdev.log where the board has one, and to the kernel's where
// the kernel started it, since nobody reads its stderr.
func source(o options, environ []string) (*uevent.Event, *log.Logger, error) {
	logger := log.Stderr()
	if o.syslog {
		logger = log.Syslog()
	}
	logger.SetLevel(o.level())
	if o.mode != modeHelper {
		return nil, logger, nil
	}
	e, err := uevent.FromEnviron(environ)
	if err != nil {
		return nil, logger, err
	}
	if file := log.File(o.dev+"/mdev.log", e.Seqnum); file != nil {
		return e, file, nil
	}
	if e.Seqnum != 0 && !o.syslog {
		logger = log.Kmsg()
		logger.SetLevel(o.level())
	}
	return e, logger, nil
}

func result(ok bool) int {
	if !ok {
		return exitFailed
	}
	return exitDone
}

// scan coldplugs, or has the loop do it, unless the loop waits for us: a command that a rule
// runs.
func (r *runner) scan() int {
	if r.dev != nil && !r.table && !command.InCommand(r.environ) {
		if served, err := control.Delegate(r.dev, r.conf); err != nil {
			r.log.Print(log.Err, err.Error())
			return exitFailed
		} else if served {
			return exitDone
		}
	}
	return result(coldplug.Scan(r.scheduler, r.sys).Wait())
}

func (r *runner) loop() int {
	l, err := loop.New(loop.Options{Scheduler: r.scheduler, Config: r.config, Dev: r.dev, Sys: r.sys, Log: r.log})
	if errors.Is(err, control.ErrRunning) {
		r.log.Print(log.Err, err.Error())
		return exitFailed
	}
	if err != nil {
		r.log.Print(log.Err, err.Error())
		return exitSystem
	}
	if r.udevControl {
		if err := control.ServeUdevControl(r.scheduler, r.config, r.log); err != nil {
			r.log.Print(log.Err, err.Error())
			l.End()
			l.Serve()
			return exitFailed
		}
	}
	go func() {
		coldplug.Scan(r.scheduler, r.sys).Wait() // its commands may wait for what an event brings
		r.tellReady()
	}()
	if err := l.Serve(); err != nil {
		r.log.Print(log.Err, err.Error())
		return exitSystem
	}
	return exitDone
}

// tellReady says that the loop listens and has coldplugged, and lets go of the terminal.
func (r *runner) tellReady() {
	ready := r.ready
	if r.detached {
		ready = daemon.BackgroundFD
		if !r.syslog {
			r.log.Become(log.Kmsg())
		}
		daemon.Detach()
		r.scheduler.Stay(nil) // of whose commands nobody sees the standard error now
	}
	if ready >= 0 {
		daemon.Ready(ready)
	}
}

// passOn returns sinks for those who hear of each event at its end, as the command line
// says. What is still on its way to them is waited for by flush, for a while.
func passOn(o options, sys sysfs.FS, logger *log.Logger) (sinks []scheduler.Sink, flush func(), err error) {
	flush = func() {}
	if o.groups != 0 && !o.dryRun {
		groups, err := sink.NewNetlink(o.groups, logger)
		if err != nil {
			return nil, flush, err
		}
		groups.Sys = sys
		sinks = append(sinks, groups.Sink())
	}
	if o.output >= 0 {
		output := sink.NewPipe(o.output, logger)
		sinks = append(sinks, output.Sink())
		flush = func() { output.Flush(time.Second) }
	}
	return sinks, flush, nil
}

// background starts this program anew as a loop in the background, and returns when
// that loop is ready, or has failed.
func background(args []string, o options) int {
	child := append(slices.Clone(args), "-f", "--detached")
	code, err := daemon.Background(child, os.Environ())
	if err != nil {
		complain("devspool: error: " + err.Error())
		return exitSystem
	}
	if code == exitDone && o.ready >= 0 {
		daemon.Ready(o.ready)
	}
	return code
}
