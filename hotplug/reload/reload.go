// Package reload is the config in use: it watches the config's files, reads them again when one changes,
// and uses it if it has no new problem. It never parses a config, and knows no scheduler.
package reload

import (
	"errors"
	"strconv"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/conf"
	"devspool/hotplug/log"
	"devspool/hotplug/pieces"
	"devspool/hotplug/sys"
)

// Config is the config in use, and the file that it is read from, with its pieces. Several goroutines may use it at once.
type Config struct {
	path string                       // absolute
	read func() (*conf.Config, error) // is called without mu
	use  func(*conf.Config)           // is called with mu held
	log  *log.Logger

	begins func() bool // see OnReload
	ends   func()      // nil until OnReload: begins returns false until then

	reloading sync.Mutex // held from the read of a config until it is used; taken before mu

	mu      sync.Mutex   // guards the fields below
	rules   *conf.Config // in use
	refused error        // why the config that was read last is not in use, or nil
}

// New returns a Config with rules in use. read is called to read the file at path, an absolute path, and
// use with every config that is put to use later.
func New(path string, rules *conf.Config, read func() (*conf.Config, error), use func(*conf.Config), logger *log.Logger) *Config {
	return &Config{path: path, rules: rules, read: read, use: use, log: logger, begins: func() bool { return false }}
}

// OnReload has begins called when a reload begins, and ends at its end, whatever came of it, if begins
// returned true. It is to be called before the first reload.
func (c *Config) OnReload(begins func() bool, ends func()) { c.begins, c.ends = begins, ends }

// Path returns the absolute path of the config's file.
func (c *Config) Path() string { return c.path }

// String returns the name of the file in use, and why its present content is not in use, if so.
func (c *Config) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused != nil {
		return c.rules.Name() + ", not as it is now: " + c.refused.Error()
	}
	return c.rules.Name()
}

// Reload reads the config and puts it to use. The error, which it also logs, says why not: the file
// cannot be read, is being written, or has a problem that the config in use does not have.
func (c *Config) Reload() error {
	c.reloading.Lock()
	defer c.reloading.Unlock()
	if c.begins() {
		defer c.ends()
	}
	rules, err := c.readUnwritten()
	if err == nil {
		err = c.replace(rules)
	}
	if err != nil {
		err = errors.New(err.Error() + "; the old config stays")
		c.log.Print(log.Err, err.Error())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused = err
	return err
}

// replace puts another config to use, unless it has a new problem.
func (c *Config) replace(rules *conf.Config) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	// A config that is half written, or broken by an edit, must not replace one that works.
	// Problems that the config in use has too are accepted: it works with them.
	if added := newProblems(c.rules, rules); len(added) > 0 {
		LogProblems(c.log, log.Err, added[1:])
		return errors.New(added[0].String())
	}
	c.rules = rules
	c.use(rules)
	c.log.Print(log.Notice, "the config was read anew: "+rules.Name())
	return nil
}

// newProblems returns the problems of a config that the old one does not have on any line: an edit may
// have moved it to another.
func newProblems(old, reloaded *conf.Config) (added []conf.Problem) {
	known := map[string]bool{}
	for _, p := range old.Problems {
		known[p.What+p.Remedy] = true
	}
	for _, p := range reloaded.Problems {
		if !known[p.What+p.Remedy] {
			added = append(added, p)
		}
	}
	return added
}

// readUnwritten reads the config, unless a process has one of its files open for writing. A process
// that opens one for writing during the read waits.
func (c *Config) readUnwritten() (*conf.Config, error) {
	l := lease(c.path)
	defer l.release()
	if l.written != "" {
		return nil, errors.New(l.written + " is being written")
	}
	return c.read()
}

// Watch reloads the config whenever one of its files changes, or a piece comes or goes, until stop is
// called. Where they cannot be watched it logs that.
func (c *Config) Watch() (stop func()) {
	w, err := newWatcher(c.path, c.log, func() { c.Reload() }) // which logs its error
	if err != nil {
		c.log.Print(log.Warning, "changes of "+c.path+" will not be noticed: "+err.Error())
		return func() {}
	}
	// The file may have changed between the first read and the begin of the watch. A reload waits for
	// this read, which may be older than its own.
	c.reloading.Lock()
	defer c.reloading.Unlock()
	if rules, err := c.readUnwritten(); err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.rules = rules
		c.use(rules)
	}
	return w.close
}

// leases are read leases on the files of a config (F_SETLEASE in fcntl(2)): until release is called,
// a process that opens one for writing waits, but no longer than fs.lease-break-time (45 s). The kernel
// sends this process SIGIO then, which Go's runtime ignores. On file systems without leases (NFS, FUSE)
// only the debounce time protects from half a file.
type leases struct {
	fds     []int
	written string // the path of a file that a process has open for writing already, or ""
	states  string // bytes that are different after any change of one of the files
}

// lease takes a lease on each file of the config that can be opened. It never fails: without a
// lease the file is read all the same.
func lease(path string) *leases {
	l := &leases{}
	for _, path := range pieces.Files(path) {
		var st unix.Stat_t
		if fd, err := sys.OpenRegular(path); err == nil {
			l.fds = append(l.fds, fd)
			// EAGAIN says that a process has it open for writing. Any other error says that
			// there are no leases here, and is no reason to leave the file unread.
			if _, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK); err == unix.EAGAIN {
				l.written = path
			}
			_ = unix.Fstat(fd, &st)
			st.Atim = unix.Timespec{} // a read is no change
		}
		l.states += path + string((*[unsafe.Sizeof(st)]byte)(unsafe.Pointer(&st))[:])
	}
	return l
}

// release gives the leases up, by closing the files: writers that wait go on.
func (l *leases) release() {
	for _, fd := range l.fds {
		unix.Close(fd)
	}
}

// shownProblems is how many problems of a config are logged: the first ones are enough for a file that
// is not a config at all.
const shownProblems = 10

// LogProblems logs the first problems of a config, a line each, and how many more there are.
func LogProblems(logger *log.Logger, level log.Level, problems []conf.Problem) {
	for _, p := range problems[:min(len(problems), shownProblems)] {
		logger.Print(level, p.String())
	}
	if more := len(problems) - shownProblems; more > 0 {
		logger.Print(level, problems[0].File+": "+strconv.Itoa(more)+" more problems; devspool --check shows them")
	}
}
