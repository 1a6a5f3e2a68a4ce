package hotplug

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"devspool/conf"
	"devspool/hotplug/coldplug"
	"devspool/hotplug/command"
	"devspool/hotplug/control"
	"devspool/hotplug/daemon"
	"devspool/hotplug/helper"
	"devspool/hotplug/log"
	"devspool/hotplug/loop"
	"devspool/hotplug/reload"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sink"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// NoEvents in the place of a directory for queues says that there is to be none.
const NoEvents = "none"

// Options are what the command line, and the environment, say of how to work. Paths may be
// relative.
type Options struct {
	Dev, Sys  string
	Conf      string
	ConfNamed bool // the config's file was asked for by name, so it must be there
	Firmware  string
	Jobs      int      // commands at once
	Environ   []string // of this process

	DryRun  bool // change nothing and run nothing
	Table   bool // show each event on standard output
	Verbose bool
	Syslog  bool

	Events  string // the directory for clients' queues, NoEvents, or "" for the usual one
	Compat  bool   // clients of libudev-compat have queues too
	Libudev string // the directory for these, or "" for the usual one
	Zero    bool   // clients of libudev-zero up to 0.5.2 are woken

	// Of the loop alone.
	Ready       int // the descriptor that is written to when the loop is ready, or -1
	Output      int // the descriptor that events are written to, or -1
	Groups      int // the mask of netlink groups that events are sent to
	UdevControl bool
	Detached    bool // the loop is in the background, started by StartLoop

	// Of the helper alone.
	Kernel bool          // the kernel started it
	Linger time.Duration // how long the first one stays after the last event

	way Way
}

// Way is one of the ways to run.
type Way int

// The ways to run. The zero Way does not run, but prints something.
const (
	RunScan Way = 1 + iota
	RunLoop
	RunHelper
)

// Result is how work ended. The log has the details.
type Result int

// The results.
const (
	Done         Result = iota
	Failed              // an event, or a part of one, could not be done
	BadConfig           // the config has problems, or cannot be read
	BadEvent            // the environment has no usable event
	SystemFailed        // a system call failed without which nothing works
)

// result is Done if all is well.
func result(ok bool) Result {
	if ok {
		return Done
	}
	return Failed
}

// How many descriptors a process must be allowed to have: with fewer Go's runtime
// crashes where it opens its poller.
const (
	fewestFiles     = 16
	fewestLoopFiles = 48
)

// CheckFileLimit returns SystemFailed where the limit on open files is so low that the program
// could crash. It is called before any file is opened.
func CheckFileLimit(way Way) Result {
	fewest := uint64(fewestFiles)
	if way == RunLoop {
		fewest = fewestLoopFiles
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil || limit.Cur >= fewest {
		return Done
	}
	return failed(SystemFailed, errors.New("the limit on open files (RLIMIT_NOFILE) is "+strconv.FormatUint(limit.Cur, 10)+
		", and "+strconv.FormatUint(fewest, 10)+" are needed: raise it with ulimit -n"))
}

// runner is what the three ways to run work with.
type runner struct {
	*Options
	dev       *nodes.Dir // nil for a dry run
	sys       sysfs.FS
	log       *log.Logger
	event     *uevent.Event // the helper's, else nil
	sinks     []scheduler.Sink
	spool     spoolSink
	output    *sink.Pipe // or nil
	scheduler *scheduler.Scheduler
	config    *reload.Config
	stopped   bool // the process was told to end
}

// Run makes /dev what /sys says (RunScan), follows events besides until the process is told to
// end (RunLoop), or does the event of the environment (RunHelper).
func Run(o *Options, way Way) Result {
	if failure := CheckFileLimit(way); failure != Done {
		return failure
	}
	o.way = way
	o.makeAbsolute()
	unix.Umask(0) // modes are made as they are meant; commands expect it, as under mdev
	r := &runner{Options: o, sys: sysfs.FS(o.Sys)}
	if !r.findEvent() {
		return BadEvent
	}
	rules := r.rules()
	if rules == nil {
		return BadConfig
	}
	if !r.openDev() {
		return SystemFailed
	}
	defer r.close()
	if !r.openSinks() {
		return SystemFailed
	}
	r.scheduler = scheduler.New(scheduler.Options{
		Rules: rules, Dev: r.dev, Sys: r.sys, Log: r.log, Sinks: r.sinks, FirmwareDir: o.Firmware, Environ: o.Environ, Watcher: r.newWatcher(),
		Jobs: o.Jobs, Names: newNames(r.sys, o.Dev, r.dev), ByHand: r.event != nil && r.event.Seqnum == 0,
	})
	read := func() (*conf.Config, error) { return o.readConf(conf.Parse) }
	r.config = reload.New(o.Conf, rules, read, r.scheduler.SetRules, r.log)
	switch way {
	case RunScan:
		return r.scan()
	case RunLoop:
		return r.loop()
	}
	return r.help()
}

// close lets what was sent to sinks go out, and lets go of them.
func (r *runner) close() {
	if r.output != nil {
		r.output.Flush(time.Second)
	}
	r.spool.close(r)
}

// findEvent takes a helper's event from the environment, and opens the log that suits it: a
// helper's goes to mdev.log where the board has it, and to the kernel's log where the kernel
// started the helper, since nobody reads its standard error. It is false where there is no
// usable event.
func (r *runner) findEvent() bool {
	var err error
	if r.way == RunHelper {
		r.event, err = uevent.FromEnviron(r.Environ)
	}
	found := r.event != nil && err == nil
	if found {
		if r.log = log.File(r.Dev+"/mdev.log", r.event.Seqnum); r.log != nil {
			return true
		}
	}
	switch {
	case r.Syslog:
		r.log = log.Syslog()
	case found && r.event.Seqnum != 0:
		r.log = log.Kmsg()
	default:
		r.log = log.Stderr()
	}
	if r.Verbose {
		r.log.SetLevel(log.Info)
	}
	if err != nil {
		r.log.Print(log.Err, err.Error()+"; see --help")
	}
	return err == nil
}

// rules returns the config to begin with, or nil.
func (r *runner) rules() *conf.Config {
	c, err := r.readConf(conf.Parse)
	switch {
	case err == nil:
	case r.ConfNamed:
		r.log.Print(log.Err, err.Error())
		return nil
	default:
		r.log.Print(log.Err, err.Error()+"; the default config is used")
		// A board without a config that can be read is still to have a /dev.
		c = conf.Parse("default.conf", conf.Default, conf.IDs{})
	}
	if r.way != RunHelper { // or each event would say it again
		reload.LogProblems(r.log, log.Warning, c.Problems)
	}
	return c
}

// openDev opens the directory that the nodes are in, unless nothing is to be changed.
func (r *runner) openDev() bool {
	if r.DryRun {
		return true
	}
	var err error
	if r.dev, err = nodes.Open(r.Dev); err != nil {
		r.log.Print(log.Err, err.Error())
		return false
	}
	if isNodev(r.Dev) {
		r.log.Print(log.Warning, r.Dev+" is mounted nodev, so no node there can be opened; mount -o remount,dev "+r.Dev)
	}
	return true
}

// isNodev reports whether nodes on the file system at path cannot be opened.
func isNodev(path string) bool {
	const nodev = 0x4 // ST_NODEV of statvfs(3)
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Flags&nodev != 0
}

// openSinks sets up what is told of each event at its end.
func (r *runner) openSinks() bool {
	if r.Table {
		r.sinks = append(r.sinks, scheduler.Sink{Done: sink.NewTable(1).Row})
	}
	r.spool.open(r)
	if r.way != RunLoop {
		return true
	}
	// Events are worked off one after the other. For the little that is done beside,
	// to wake a second processor costs more than it gains.
	runtime.GOMAXPROCS(1)
	if r.Detached {
		unix.Chdir("/") // or the file system that it was started in could not be unmounted
	}
	if r.Groups != 0 && !r.DryRun {
		groups, err := sink.NewNetlink(uint32(r.Groups), r.log)
		if err != nil {
			r.log.Print(log.Err, err.Error())
			return false
		}
		groups.Sys = r.sys
		r.sinks = append(r.sinks, groups.Sink())
	}
	if r.Output >= 0 {
		r.output = sink.NewPipe(r.Output, r.log)
		r.sinks = append(r.sinks, r.output.Sink())
	}
	return true
}

// scan coldplugs, or has the loop do it, unless the loop waits for this process: a command
// that a rule runs.
func (r *runner) scan() Result {
	if r.dev != nil && !r.Table && !command.InCommand(r.Environ) {
		if served, err := control.Delegate(r.dev, r.Conf); err != nil {
			r.log.Print(log.Err, err.Error())
			return Failed
		} else if served {
			return Done
		}
	}
	return result(coldplug.Scan(r.scheduler, r.sys).Wait())
}

// help does the event of a helper. The first helper that the kernel starts stays for a while,
// and does the events of those that come after it.
func (r *runner) help() Result {
	h := helper.Options{Scheduler: r.scheduler, Config: r.config, Dev: r.dev, Sys: r.sys, Log: r.log, Environ: r.Environ, Linger: r.Linger}
	var ok bool
	if r.Kernel {
		ok, r.stopped = helper.Serve(h, r.event)
	} else {
		ok = helper.Run(h, r.event)
	}
	return result(ok)
}

// loop makes /dev what /sys says, and follows events until the process is told to end.
func (r *runner) loop() Result {
	l, err := loop.New(loop.Options{Scheduler: r.scheduler, Config: r.config, Dev: r.dev, Sys: r.sys, Log: r.log})
	if err != nil {
		r.log.Print(log.Err, err.Error())
		if errors.Is(err, control.ErrRunning) {
			return Failed
		}
		return SystemFailed
	}
	if r.UdevControl {
		if err := control.ServeUdevControl(r.scheduler, r.config, r.log); err != nil {
			r.log.Print(log.Err, err.Error())
			l.End()
			l.Serve()
			return Failed
		}
	}
	go func() {
		coldplug.Scan(r.scheduler, r.sys).Wait() // its commands may wait for what an event brings
		r.tellReady()
	}()
	if err := l.Serve(); err != nil {
		r.log.Print(log.Err, err.Error())
		return SystemFailed
	}
	return Done
}

// tellReady says that the loop listens and has coldplugged, and lets go of the terminal.
func (r *runner) tellReady() {
	ready := r.Ready
	if r.Detached {
		ready = daemon.BackgroundFD
		if !r.Syslog {
			r.log.Become(log.Kmsg())
		}
		daemon.Detach()
		r.scheduler.Stay(nil) // of whose commands nobody sees the standard error now
	}
	if ready >= 0 {
		daemon.Ready(ready)
	}
}

// StartLoop starts args, this program's own command line, anew as a loop in the background,
// and returns when that loop is ready, or with its exit code when it has failed.
func StartLoop(o *Options, args []string) (code int, failure Result) {
	code, err := daemon.Background(append(slices.Clone(args), "-f", "--detached"), os.Environ())
	if err != nil {
		return 0, failed(SystemFailed, err)
	}
	if code == 0 && o.Ready >= 0 {
		daemon.Ready(o.Ready)
	}
	return code, Done
}

// AskLoop has the loop do what words say, and hands each line of its answer to say.
func AskLoop(o *Options, words []string, say func(text string) error) Result {
	o.makeAbsolute()
	dev, err := nodes.Open(o.Dev)
	if err != nil {
		return failed(SystemFailed, err)
	}
	if err := helper.Ask(dev, sysfs.FS(o.Sys), words, newCompleter(sysfs.FS(o.Sys), o.Dev), func(line string) { say(line + "\n") }); err != nil {
		return failed(Failed, err)
	}
	return Done
}

// CheckDescriptors returns an error where a descriptor that the loop is to write to is not
// open. It is called before anything is opened, since that could take the number.
func CheckDescriptors(o *Options) error {
	if o.Detached {
		return nil // the process that started this one has looked
	}
	option, fd := "-D ", o.Ready
	if isOpen(fd) {
		option, fd = "-o ", o.Output
	}
	if isOpen(fd) {
		return nil
	}
	return errors.New(option + strconv.Itoa(fd) + ": no such descriptor is open")
}

// isOpen reports whether fd is open, if it is one, and keeps commands from inheriting it.
func isOpen(fd int) bool {
	if fd < 0 {
		return true
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
	return err == nil
}
