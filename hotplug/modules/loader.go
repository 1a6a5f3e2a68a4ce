package modules

import (
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
)

// Options says how a Loader works.
type Options struct {
	Log     *log.Logger               // where failures are told; nil for nowhere
	Sys     string                    // where sysfs is mounted; "" for /sys
	Workers int                       // modules loaded at once; 0 for four a processor, and eight at least
	Force   bool                      // versions of symbols and of the kernel may differ, as modprobe -f
	Program func(args []string) error // runs the modprobe program, and waits for its end; nil where there is none
}

// Loader loads modules in goroutines of its own, each as soon as those that it needs are
// loaded, and each one once, however many ask for it. What failed is remembered and said
// once in the log. It is safe for use by several goroutines at once.
//
// A request passes through three states: in the queue; resolved, where it waits for
// modules; done. A module waits for others (blockers > 0), is ready, is being loaded, and
// then is forgotten if it was a success, since /sys tells of it, or else kept with its error.
// Each of these steps is a method.
type Loader struct {
	log   *log.Logger
	sys   string
	flags int
	run   func(args []string) error
	finit func(fd int, options string, flags int) error // for tests

	treeMu sync.Mutex // guards tree; taken before mu
	tree   *Tree

	mu        sync.Mutex
	queue     []request
	resolving bool                // a goroutine takes from queue; never two, since tree is not safe for that
	aliases   map[string][]string // the modules of an alias that was asked for; nil where nothing has it
	modules   map[string]*module  // those that wait or are being loaded, and those that failed
	ready     []*module           // without blockers, in the order in which workers take them
	later     []*module           // ready too, but held back: see First
	first     bool                // see First
	idle      int                 // workers that may still be started
	stopRest  func() bool         // stops the timer that calls rest; nil before resolve has ended once
}

// request is one alias or name that was asked for, before it is resolved.
type request struct {
	alias string
	done  func(error)
}

// Error says which module could not be loaded.
type Error struct {
	Module, Path string
	Err          error
}

func (e *Error) Error() string {
	if e.Path == "" {
		return "module " + e.Module + ": " + e.Err.Error()
	}
	return "module " + e.Module + " (" + e.Path + "): " + e.Err.Error()
}

// Unwrap returns the reason: an errno, as the kernel gave it, where there was one.
func (e *Error) Unwrap() error { return e.Err }

// module is one that waits, is being loaded, or failed.
type module struct {
	step       Step     // what to load
	given      bool     // to the kernel
	over       bool     // it is at its end; such a module is kept only if it failed
	needed     bool     // by a module that leads to a disk: First does not hold it back
	err        *Error   // nil unless it failed
	blockers   int      // modules that are to end before it is loaded
	dependents []blocks // those that wait for it
	waiting    []wait   // requests that are answered after it
}

// blocks is a module that waits for another one; it fails with that where it needs it.
type blocks struct {
	module *module
	needs  bool
}

// wait is a request that waits for a module.
type wait struct {
	r        *resolved
	optional bool
}

// resolved is a request of which the modules are known.
type resolved struct {
	left int         // modules that it waits for; done is called when none is left
	err  error       // the first, of a module that is not optional
	done func(error) // nil where nobody wants to know
}

const (
	// restAfter is how long no request comes before what searches have read is given back.
	restAfter = 5 * time.Second
	// maxAliases is how many are remembered: twenty times what a large machine has. A
	// device could make up new ones without end.
	maxAliases = 8192
)

// Open returns a Loader for the modules that s names.
func Open(s Source, o Options) (*Loader, error) {
	tree, err := OpenTree(s)
	if err != nil {
		return nil, err
	}
	return NewLoader(tree, o), nil
}

// NewLoader returns a Loader that owns tree from then on.
func NewLoader(tree *Tree, o Options) *Loader {
	l := &Loader{log: o.Log, sys: o.Sys, run: o.Program, finit: unix.FinitModule, tree: tree, idle: o.Workers,
		aliases: map[string][]string{}, modules: map[string]*module{}}
	if l.sys == "" {
		l.sys = "/sys"
	}
	if l.idle <= 0 {
		// Most of a module's initialization is waiting for its device, and one that waits
		// long is not to hold up the others.
		l.idle = max(8, 4*runtime.NumCPU())
	}
	if o.Force {
		l.flags = ignoreModversions | ignoreVermagic
	}
	for _, problem := range tree.Problems() {
		l.say(log.Warning, problem)
	}
	return l
}

// Request has the modules of an alias loaded, those that are blacklisted left out, and
// returns at once. Done is called from another goroutine when they and what they wish to
// have behind them are loaded: with ErrNotFound where nothing has the alias, or with an
// *Error; it must not block. The answer for an alias is remembered; whether its modules
// are still loaded is looked up each time.
func (l *Loader) Request(alias string, done func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, request{alias, done})
	if !l.resolving {
		l.resolving = true
		go l.resolve()
	}
}

// Load has modules loaded, by name or alias, and returns when all are, with the first
// error. Those that failed before are tried again.
func (l *Loader) Load(names ...string) (err error) {
	l.Retry()
	errs := make(chan error, len(names))
	for _, name := range names {
		l.Request(name, func(err error) { errs <- err })
	}
	for range names {
		if e := <-errs; err == nil {
			err = e
		}
	}
	return err
}

// Retry forgets what failed and what was not found, for when that may have changed.
func (l *Loader) Retry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, m := range l.modules {
		if m.over {
			delete(l.modules, name)
		}
	}
	clear(l.aliases)
}

// resolve works off the queue, and ends with it: the next Request starts it anew. l.resolving is set before.
func (l *Loader) resolve() {
	for {
		l.mu.Lock()
		if len(l.queue) == 0 {
			l.resolving, l.queue = false, nil
			if l.stopRest != nil {
				l.stopRest()
			}
			l.stopRest = time.AfterFunc(restAfter, l.rest).Stop // a time.Timer here would cost the program 40 kB
			l.mu.Unlock()
			return
		}
		r := l.queue[0]
		l.queue = l.queue[1:]
		// Requests are resolved one after the other, and loaded in parallel: a search is short,
		// while a module's initialization may wait for its device.
		names, known := l.aliases[r.alias]
		l.mu.Unlock()
		l.answer(r, names, known)
	}
}

// rest gives back what searches have read. It runs beside resolve at worst, which then
// reads it again.
func (l *Loader) rest() {
	l.treeMu.Lock()
	defer l.treeMu.Unlock()
	l.tree.Forget()
}

// answer finds the modules of one request and has them loaded. Names are what is remembered of the alias,
// which counts only where it is known. Only resolve calls it, without a mutex.
func (l *Loader) answer(r request, names []string, known bool) {
	// A module may have been removed since: only what is not found, or is there still, is
	// answered without a search.
	if known && (names == nil || l.allLive(names)) {
		call(r.done, notFound(names))
		return
	}
	l.treeMu.Lock()
	found := l.tree.Lookup(r.alias)
	names = l.loadable(found)
	var steps []Step
	if !l.allLive(names) { // or the modules that they need are not even looked up
		steps = l.tree.Steps(found, Blacklist)
	}
	l.treeMu.Unlock()
	l.remember(r.alias, names)
	if steps == nil {
		call(r.done, notFound(names))
		return
	}
	l.submit(steps, !known, r.done)
}

// notFound returns ErrNotFound for an alias that nothing has. See Loader.aliases.
func notFound(names []string) error {
	if names == nil {
		return ErrNotFound
	}
	return nil
}

// loadable returns the modules of an alias that can be loaded: nil where nothing has the
// alias, and none where all are blacklisted or part of the kernel. The tree's mutex is held.
func (l *Loader) loadable(found []Target) (names []string) {
	for _, target := range found {
		if names == nil {
			names = []string{}
		}
		if !l.tree.isBlacklisted(target, Blacklist) && !l.tree.isBuiltin(target.Name) {
			names = append(names, target.Name)
		}
	}
	return names
}

// remember keeps what an alias stands for. Where there are too many all are forgotten, and cost a search each.
func (l *Loader) remember(alias string, names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.aliases) >= maxAliases {
		clear(l.aliases)
	}
	l.aliases[strings.Clone(alias)] = names // a clone, or an event's whole text would stay
}

// allLive reports whether the kernel has all of these modules, which is true for none.
func (l *Loader) allLive(names []string) bool {
	for _, name := range names {
		if !isLive(l.sys, name) {
			return false
		}
	}
	return true
}

// Submit has the modules of steps loaded, as Resolve returns them, and returns at once.
// Done is called when all are at their end; the error is of the first that was needed.
func (l *Loader) Submit(steps []Step, done func(error)) { l.submit(steps, true, done) }

// submit is Submit. With anew a module that has found no device is tried again: an alias
// that was not asked for before may be that of its device.
func (l *Loader) submit(steps []Step, anew bool, done func(error)) {
	// /sys is read without the mutex, which workers need. A module that is loaded between this
	// look and add is given to the kernel once more, and EEXIST counts as success.
	live := make([]bool, len(steps))
	for i := range steps {
		live[i] = steps[i].Builtin || isLive(l.sys, steps[i].Name)
	}
	r := &resolved{left: 1, done: done} // one for ourselves, so that it is not done too early
	l.mu.Lock()
	made := make([]*module, len(steps)) // nil for what is there
	for i := range steps {
		if !live[i] {
			if m := l.modules[steps[i].Name]; m != nil && anew && m.over && (m.err.Err == unix.ENODEV || m.err.Err == errBlocked) {
				delete(l.modules, steps[i].Name)
			}
			made[i] = l.addLocked(&steps[i], made)
			l.awaitLocked(made[i], r, steps[i].Optional)
		}
	}
	ended := l.leave(nil, r)
	l.mu.Unlock()
	callAll(ended)
}

// addLocked returns the module of a step, which may be known. A new one waits for those before
// it in made that it is to wait for. So a module is younger than those that it waits for,
// and nothing waits in a circle. The mutex is held.
func (l *Loader) addLocked(s *Step, made []*module) *module {
	// Another request's module keeps the options and the needs of the step that it was made for.
	if m := l.modules[s.Name]; m != nil {
		return m
	}
	// One blocker stands for this function: it goes last, and then the module is ready if it
	// waits for no other.
	m := &module{step: *s, blockers: 1}
	// They are indexes into the steps of this request.
	m.step.Needs, m.step.After = nil, nil
	l.modules[s.Name] = m
	for _, i := range s.Needs {
		l.blockLocked(m, made[i], true)
	}
	for _, i := range s.After {
		l.blockLocked(m, made[i], false)
	}
	l.unblockLocked(m)
	return m
}

// blockLocked has a module wait for another one. The mutex is held.
func (l *Loader) blockLocked(m, other *module, needs bool) {
	switch {
	case other == nil:
	case !other.over:
		// needs is transitive, as modules.dep is, so that all below other are marked too.
		if needs && m.step.leadsToDisk() {
			other.needed = true
			l.releaseLocked()
		}
		m.blockers++
		other.dependents = append(other.dependents, blocks{m, needs})
	case needs: // what is over is kept only if it failed
		// m is new, so that nothing waits for it yet that would have to be told.
		m.over = true
		m.err = &Error{m.step.Name, "", errBlocked}
	}
}

// awaitLocked has a request wait for a module. The mutex is held.
func (l *Loader) awaitLocked(m *module, r *resolved, optional bool) {
	if !m.over {
		r.left++
		m.waiting = append(m.waiting, wait{r, optional})
	} else if m.err != nil && !optional && r.err == nil {
		r.err = m.err
	}
}

// unblockLocked takes away one blocker of a module, and has a worker load it after the last.
// The mutex is held.
func (l *Loader) unblockLocked(m *module) {
	m.blockers--
	if m.blockers > 0 || m.over {
		return
	}
	if l.isHeldBackLocked(m) {
		l.later = append(l.later, m)
		return
	}
	l.enqueueLocked(m)
}

// First holds back the modules that no disk can need, until it is called with false.
func (l *Loader) First(first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first = first
	l.releaseLocked()
}

// isHeldBackLocked reports whether a module has to wait until First ends. The mutex is held.
func (l *Loader) isHeldBackLocked(m *module) bool {
	return l.first && !m.needed && !m.step.leadsToDisk()
}

// releaseLocked has the modules loaded that First held back, and does not any more. The mutex is held.
func (l *Loader) releaseLocked() {
	waiting := l.later
	l.later = nil
	for _, m := range waiting {
		if l.isHeldBackLocked(m) {
			l.later = append(l.later, m)
		} else {
			l.enqueueLocked(m)
		}
	}
}

// IsIdle reports whether nothing is left to do but what First holds back.
func (l *Loader) IsIdle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.resolving || len(l.ready) > 0 {
		return false
	}
	for _, m := range l.modules {
		// One with blockers is as idle as they are, which are looked at themselves.
		if !m.over && m.blockers == 0 && !l.isHeldLocked(m) {
			return false
		}
	}
	return true
}

// isHeldLocked reports whether a module is in later. Unlike isHeldBackLocked it says so only of one that
// waits for nothing but First. The mutex is held.
func (l *Loader) isHeldLocked(m *module) bool {
	for _, h := range l.later {
		if h == m {
			return true
		}
	}
	return false
}

// Unloaded calls f for each module that failed, and with nil for each that the kernel was given
// and that has not ended its initialization; in no order.
func (l *Loader) Unloaded(f func(name string, err *Error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.modules {
		// ENODEV is no failure: of several modules for one device, those that do not fit say so.
		if m.given && !m.over || m.over && m.err != nil && m.err.Err != unix.ENODEV {
			f(m.step.Name, m.err)
		}
	}
}

// enqueueLocked has a worker load a module. The mutex is held.
func (l *Loader) enqueueLocked(m *module) {
	l.ready = append(l.ready, m)
	if l.idle > 0 {
		l.idle--
		go l.work()
	}
}

// work loads modules until none is ready. It is a worker's goroutine, which enqueueLocked has taken from idle.
func (l *Loader) work() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.ready) > 0 {
		m := l.ready[0]
		l.ready = l.ready[1:]
		m.given = true
		l.mu.Unlock()
		// Without the mutex: the kernel may take seconds.
		err := l.insert(&m.step)
		l.report(m, err)
		l.mu.Lock()
		// done functions are called without the mutex, since they may make further requests.
		ended := l.finishLocked(m, err, nil)
		l.mu.Unlock()
		callAll(ended)
		l.mu.Lock()
	}
	l.idle++
}

// report writes what came of a module into the log.
func (l *Loader) report(m *module, err error) {
	if err == nil {
		l.say(log.Info, "module "+m.step.Name+" is loaded")
		return
	}
	level := log.Warning
	if err == unix.ENODEV {
		level = log.Info // it found no device of its own: many are tried for one
	}
	l.say(level, (&Error{m.step.Name, m.step.Path, err}).Error())
}

// say writes a line to the log, if there is one.
func (l *Loader) say(level log.Level, line string) {
	if l.log != nil {
		l.log.Print(level, line)
	}
}

// finishLocked ends a module, and with it those that need it if it failed, and so on through their
// dependents. Those that only come after it go on. Requests that have waited for nothing else
// are added to ended. The mutex is held.
func (l *Loader) finishLocked(m *module, err error, ended []*resolved) []*resolved {
	m.over = true
	// /sys tells of a success from now on; a failure is kept, so that it is not tried again for each device.
	if err == nil {
		delete(l.modules, m.step.Name)
	} else if m.err == nil {
		m.err = &Error{m.step.Name, m.step.Path, err}
	}
	// Requests first: to those that wait for its dependents too it is the reason.
	for _, w := range m.waiting {
		if m.err != nil && !w.optional && w.r.err == nil {
			w.r.err = m.err
		}
		ended = l.leave(ended, w.r)
	}
	for _, d := range m.dependents {
		if err != nil && d.needs && !d.module.over {
			ended = l.finishLocked(d.module, errBlocked, ended)
		}
		l.unblockLocked(d.module)
	}
	m.dependents, m.waiting = nil, nil
	return ended
}

// leave counts one module less that a request waits for, and adds the request to ended after
// the last one. The mutex is held.
func (l *Loader) leave(ended []*resolved, r *resolved) []*resolved {
	r.left--
	if r.left == 0 {
		ended = append(ended, r)
	}
	return ended
}

// callAll answers requests. The mutex is not held.
func callAll(ended []*resolved) {
	for _, r := range ended {
		call(r.done, r.err)
	}
}

// call answers one request, whose done may be nil. The mutex is not held.
func call(done func(error), err error) {
	if done != nil {
		done(err)
	}
}
