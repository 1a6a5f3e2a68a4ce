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
	"devspool/hotplug/eventlog"
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

// NoEvents, in place of a directory for queues, has the program make none.
const NoEvents = "none"

// Options are what the command line and the environment say, a field for each option. Paths may
// be relative.
type Options struct {
	Dev, Sys  string   // directories: where to make nodes, and the sysfs
	Conf      string   // the config's file
	ConfNamed bool     // Conf was named on the command line, so it must exist
	Firmware  string   // the directory of firmware files
	Jobs      int      // how many commands may run at once
	Environ   []string // of this process

	DryRun  bool // change nothing and run nothing
	Table   bool // show each event on standard output
	Verbose bool // log at level info
	Syslog  bool // log to syslog

	Events  string // the directory for clients' queues, NoEvents, or "" for the usual one
	Compat  bool   // clients of libudev-compat have queues too
	Libudev string // the directory for these, or "" for the usual one
	Zero    bool   // wake clients of libudev-zero up to 0.5.2

	// For RunLoop.
	Ready       int    // the descriptor to write to when the loop is ready, or -1
	ReadyEarly  bool   // it is ready before the commands of the scan have ended
	Output      int    // the descriptor to write events to, or -1
	Groups      int    // the mask of netlink groups to send events to
	UdevControl bool   // obey udevcontrol
	Udev        bool   // serve the clients of libudev, and udevadm
	First       string // what is wanted before all else, as for wait, each after a blank
	Detached    bool   // the loop is in the background, started by StartLoop

	// For RunHelper.
	Kernel bool          // the kernel started this process
	Linger time.Duration // how long the first helper stays after the last event

	way Way // set by Run
}

// Way is one of the ways to run.
type Way int

// The ways to run. The zero Way is for programs that only print something.
const (
	RunScan   Way = 1 + iota // scan /sys once
	RunLoop                  // follow the kernel's events
	RunHelper                // do the event in the environment
)

// Result says how the work ended. The log has the details.
type Result int

// The results.
const (
	Done         Result = iota
	Failed              // a part of an event failed
	BadConfig           // the config has problems, or cannot be read
	BadEvent            // the environment has no usable event
	SystemFailed        // a system call failed without which nothing works
)

// result returns Done if ok, else Failed.
func result(ok bool) Result {
	if ok {
		return Done
	}
	return Failed
}

// The least number of descriptors that a process must be allowed to have (RLIMIT_NOFILE): with fewer,
// Go's runtime crashes when it opens its poller.
const (
	fewestFiles     = 16
	fewestLoopFiles = 48
)

// CheckFileLimit returns SystemFailed where the limit on open files is so low that the program could
// crash. It must be called before any file is opened.
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

// runner holds what the three ways to run work with: all that this package puts together, each
// thing in a field, nil where the options do not ask for it.
type runner struct {
	*Options
	dev        *nodes.Dir // nil for a dry run
	sys        sysfs.FS
	log        *log.Logger
	event      *uevent.Event    // of a helper, or nil
	sinks      []scheduler.Sink // in the order in which they get each event
	spool      spoolSink
	groups     *sink.Netlink // of Options.Groups, or nil
	output     *sink.Pipe    // of Options.Output, or nil
	udev       udevSink
	scheduler  *scheduler.Scheduler
	config     *reload.Config
	notifier   *daemon.Notifier // or nil
	modules    *moduleLoader    // or nil
	first      first
	handedOver bool // another loop has taken the place of this one
	stopped    bool // the process was told to end
}

// Run makes /dev as /sys and the config say (RunScan), follows events besides until the process is told
// to end (RunLoop), or does the event in the environment (RunHelper). It changes the process: umask,
// log, and for a loop more. It is to be called once.
func Run(o *Options, way Way) Result {
	if failure := CheckFileLimit(way); failure != Done {
		return failure
	}
	o.way = way
	o.makeAbsolute()
	unix.Umask(0) // nodes get exactly their modes; commands expect 0 too, as under mdev
	r := &runner{Options: o, sys: sysfs.FS(o.Sys)}
	// The order: the environment is read before anything is changed, and a config that was named and
	// cannot be read changes nothing; sinks are open before the scheduler gets the list of them, and
	// newModules adds one.
	r.takeNotifier()
	// The log is open from here on.
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
	loader := newModules(r)
	r.scheduler = scheduler.New(scheduler.Options{
		Rules: rules, Dev: r.dev, Sys: r.sys, Log: r.log, Sinks: r.sinks, FirmwareDir: o.Firmware, Environ: o.Environ,
		Watcher: r.newWatcher(), Stored: r.udev.stored, Interfaces: r.udev.added,
		Jobs: o.Jobs, Names: newNames(r.sys, o.Dev, r.dev), Modules: loader, ByHand: r.event != nil && r.event.Seqnum == 0,
	})
	// The first config is read already; this one is for reloads.
	read := func() (*conf.Config, error) { return o.readConf(conf.ParseFiles) }
	r.config = reload.New(o.Conf, rules, read, r.scheduler.SetRules, r.log)
	switch way {
	case RunScan:
		return r.scan()
	case RunLoop:
		return r.loop()
	}
	return r.help()
}

// close flushes and closes the sinks. A client that reads slowly gets a second for what is queued:
// the end of the process does not wait longer. It is deferred before they are opened, so each may be nil.
func (r *runner) close() {
	if r.output != nil {
		r.output.Flush(time.Second)
	}
	if r.groups != nil {
		r.groups.Flush(time.Second)
	}
	r.udev.close()
	r.spool.close(r)
}

// findEvent reads a helper's event from the environment, and opens the log: mdev.log for a helper where
// that file exists, else the kernel's log where the kernel started the helper, since its standard error
// leads nowhere. (BusyBox's mdev writes to mdev.log too.) It returns false where there is no usable event.
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

// rules returns the config, or nil where a named file cannot be read.
func (r *runner) rules() *conf.Config {
	c, err := r.readConf(conf.ParseFiles)
	switch {
	case err == nil:
	case r.ConfNamed:
		r.log.Print(log.Err, err.Error())
		return nil
	default:
		r.log.Print(log.Err, err.Error()+"; the default config is used")
		// A board with a config that cannot be read still needs a /dev.
		c = conf.Parse("default.conf", conf.Default, conf.IDs{})
	}
	if r.way != RunHelper { // or every event would log it again
		reload.LogProblems(r.log, log.Warning, c.Problems)
	}
	return c
}

// openDev opens the directory for the nodes, unless this is a dry run.
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

// openSinks opens the sinks that the options ask for.
func (r *runner) openSinks() bool {
	if r.Table {
		r.sinks = append(r.sinks, sink.NewTable(1).Sink())
	}
	r.spool.open(r)
	r.udev.open(r)
	if r.way != RunLoop {
		return true
	}
	r.sinks = append(r.sinks, new(eventlog.Ring).Sink())
	// Events are done one after the other. To wake a second processor costs more than it gains for the
	// little that runs beside.
	runtime.GOMAXPROCS(1)
	if r.Detached {
		_ = unix.Chdir("/") // else the file system of the working directory could not be unmounted
	}
	if r.Groups != 0 && !r.DryRun {
		groups, err := sink.NewNetlink(uint32(r.Groups), r.log)
		if err != nil {
			r.log.Print(log.Err, err.Error())
			return false
		}
		groups.Sys = r.sys
		r.groups = groups
		r.sinks = append(r.sinks, groups.Sink())
	}
	if r.Output >= 0 {
		r.output = sink.NewPipe(r.Output, r.log)
		r.sinks = append(r.sinks, r.output.Sink())
	}
	return true
}

// scan scans /sys, or has the loop do it. A command that a rule runs scans itself: the loop waits for it.
func (r *runner) scan() Result {
	// With -t the events are to be shown here, and a dry run is not the loop's affair.
	if r.dev != nil && !r.Table && !command.InCommand(r.Environ) {
		// Where a loop runs it knows more than a second process would: which events are under way, say.
		if served, err := control.Delegate(r.dev, r.Conf); err != nil {
			r.log.Print(log.Err, err.Error())
			return Failed
		} else if served {
			return Done
		}
	}
	return result(coldplug.Scan(r.scheduler, r.sys).Wait())
}

// help does the event of a helper. The first helper that the kernel starts stays for a while, and does
// the events of later ones too.
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

// loop scans /sys, and follows events until the process is told to end.
func (r *runner) loop() Result {
	l, err := loop.New(loop.Options{Scheduler: r.scheduler, Config: r.config, Dev: r.dev, Sys: r.sys, Log: r.log})
	if err != nil {
		r.log.Print(log.Err, err.Error())
		// That another loop runs is the caller's mistake, not the system's.
		if errors.Is(err, control.ErrRunning) {
			return Failed
		}
		return SystemFailed
	}
	// After loop.New, which makes sure that this is the only loop.
	if r.udev.start(l) != nil {
		l.End()
		_ = l.Serve() // closes everything; there is an error already
		return SystemFailed
	}
	if r.UdevControl {
		if err := control.ServeUdevControl(tunables{r}, r.log); err != nil {
			r.log.Print(log.Err, err.Error())
			l.End()
			_ = l.Serve() // closes everything; there is an error already
			return Failed
		}
	}
	r.pollMedia()
	r.notify(l)
	// Before the first event, or modules would be loaded already.
	r.first.begin(r)
	go r.first.follow(r, l)
	go func() {
		batch := l.Scan()
		if !r.ReadyEarly {
			batch.Wait() // in a goroutine: its commands may wait for an event
		}
		// Before sweeping, so that no service waits for it.
		r.tellReady()
		r.udev.scanned()
	}()
	err = l.Serve()
	r.notifier.Tell("STOPPING=1")
	if err != nil {
		r.log.Print(log.Err, err.Error())
		return SystemFailed
	}
	r.handedOver = l.IsHandedOver()
	return Done
}

// tellReady reports that the loop listens and has scanned /sys, and frees the terminal.
func (r *runner) tellReady() {
	ready := r.Ready
	if r.Detached {
		// The process that started this one waits at that descriptor, and reports to o.Ready itself.
		ready = daemon.BackgroundFD
		if !r.Syslog {
			r.log.Become(log.Kmsg())
		}
		daemon.Detach()
		r.scheduler.Stay(nil) // standard error leads nowhere now, so it logs that of commands
	}
	if ready >= 0 {
		tellReady(ready, r.log)
	}
	r.notifier.Ready("config: " + r.config.String())
}

// tellReady reports at a descriptor that the loop is ready.
func tellReady(fd int, logger *log.Logger) {
	if err := daemon.Ready(fd); err != nil {
		logger.Print(log.Warning, "cannot report at descriptor "+strconv.Itoa(fd)+" that the loop is ready: "+err.Error())
	}
}

// StartLoop starts this program with the command line args as a loop in the background, and returns
// when that loop is ready (code 0), or with its exit code when it has failed.
func StartLoop(o *Options, args []string) (code int, failure Result) {
	code, err := daemon.Background(append(slices.Clone(args), "-f", "--detached"), os.Environ())
	if err != nil {
		return 0, failed(SystemFailed, err)
	}
	if code == 0 && o.Ready >= 0 {
		tellReady(o.Ready, log.Stderr())
	}
	return code, Done
}

// AskLoop makes a request of the loop (see control.Requests), and calls say with each line of the answer.
func AskLoop(o *Options, words []string, say func(text string) error) Result {
	o.makeAbsolute()
	dev, err := nodes.Open(o.Dev)
	if err != nil {
		return failed(SystemFailed, err)
	}
	if err := helper.Ask(dev, sysfs.FS(o.Sys), words, newCompleter(sysfs.FS(o.Sys), o.Dev), func(line string) { _ = say(line + "\n") }); err != nil {
		return failed(Failed, err)
	}
	return Done
}

// CheckDescriptors returns an error where Options.Ready or Options.Output is not an open descriptor. It
// must be called before any file is opened, which could get the number.
func CheckDescriptors(o *Options) error {
	if o.Detached {
		isOpen(daemon.BackgroundFD) // so that commands do not inherit it
		return nil                  // the process that started this one checked the others
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

// isOpen reports whether fd is open, or -1, and keeps commands from inheriting it.
func isOpen(fd int) bool {
	if fd < 0 {
		return true
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
	return err == nil
}
