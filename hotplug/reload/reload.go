package reload

import (
	"errors"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"devspool/conf"
	"devspool/hotplug/log"
	"devspool/hotplug/sys"
)

// Config is the config in use, and the file that it is read from.
type Config struct {
	path string
	read func() (*conf.Config, error)
	use  func(*conf.Config)
	log  *log.Logger

	reloading sync.Mutex // held from the reading of a config until it is used

	mu      sync.Mutex // guards what follows
	rules   *conf.Config
	refused error // why the config was not used that was read last
}

// New returns a Config that uses rules. Read reads the file at path, an absolute
// path, and use is called with each config that is used after rules.
func New(path string, rules *conf.Config, read func() (*conf.Config, error), use func(*conf.Config), logger *log.Logger) *Config {
	return &Config{path: path, rules: rules, read: read, use: use, log: logger}
}

// Path returns the absolute path of the config's file.
func (c *Config) Path() string { return c.path }

// String names the file in use, and says why its content is not what is in use, if so.
func (c *Config) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused != nil {
		return c.rules.File() + ", not as it is now: " + c.refused.Error()
	}
	return c.rules.File()
}

// Reload reads the config anew and uses it from now on. A config that cannot be read, or
// that has a problem which the one in use has not, is logged and not used.
func (c *Config) Reload() error {
	c.reloading.Lock()
	defer c.reloading.Unlock()
	rules, err := c.readUnwritten()
	if err == nil {
		err = c.adopt(rules)
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

// adopt uses another config, unless it has a problem which the one in use has not.
func (c *Config) adopt(rules *conf.Config) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if added := newProblems(c.rules, rules); len(added) > 0 {
		LogProblems(c.log, log.Err, added[1:])
		return errors.New(added[0].String())
	}
	c.rules = rules
	c.use(rules)
	c.log.Print(log.Notice, "the config was read anew: "+rules.File())
	return nil
}

// newProblems returns the problems of a new config that the old one has not, on whatever
// line.
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

// readUnwritten reads the config, unless somebody writes it. A writer that opens it
// meanwhile waits.
func (c *Config) readUnwritten() (*conf.Config, error) {
	release, written := lease(c.path)
	defer release()
	if written {
		return nil, errors.New(c.path + " is being written")
	}
	return c.read()
}

// Watch reloads the config whenever the file changes, until stop is called.
func (c *Config) Watch() (stop func()) {
	w, err := newWatcher(c.path, c.log, func() { c.Reload() })
	if err != nil {
		c.log.Print(log.Warning, "changes of "+c.path+" will go unseen: "+err.Error())
		return func() {}
	}
	// It may have become another one since it was read, before the watch began.
	if rules, err := c.readUnwritten(); err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.rules = rules
		c.use(rules)
	}
	return w.close
}

// lease takes a read lease on the file at path: until release is called, whoever opens it
// for writing is held up. Written tells that somebody has it open for writing already. On
// file systems without leases (NFS, FUSE) neither is known, and only the pause protects.
func lease(path string) (release func(), written bool) {
	fd, err := sys.OpenRegular(path)
	if err != nil {
		return func() {}, false
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	return func() { unix.Close(fd) }, err == unix.EAGAIN
}

// shownProblems is how many problems of a config the log gets: the first ones show
// what is wrong with a file that is no config at all.
const shownProblems = 10

// LogProblems writes what is wrong with a config: the first problems, a line each, and
// how many more there are.
func LogProblems(logger *log.Logger, level log.Level, problems []conf.Problem) {
	for _, p := range problems[:min(len(problems), shownProblems)] {
		logger.Print(level, p.String())
	}
	if more := len(problems) - shownProblems; more > 0 {
		logger.Print(level, problems[0].File+": "+strconv.Itoa(more)+" more problems; devspool --check shows them")
	}
}
