package scheduler

import (
	"cmp"
	"strconv"
	"sync"
	"time"

	"devspool/conf"
	"devspool/hotplug/command"
	"devspool/hotplug/log"
	"devspool/nodes"
)

// DefaultPatience is how long a command keeps its slot where nothing else is said, and in a
// process that stays the later events of its device.
const DefaultPatience = 5 * time.Second

// maxDetached is how many commands run beside those that have a slot. Further ones keep
// theirs until one of these ends.
const maxDetached = 64

// pool starts commands, some at once. Scheduler.mu guards it.
type pool struct {
	queue    queue                     // tasks whose next command waits for a slot
	running  map[*command.Running]*job // commands that run
	detached int                       // of these, how many keep no slot
	inFlight sync.WaitGroup            // commands and firmware requests

	jobs     int  // slots; 0 after Shutdown
	jobsSet  bool // by an option or a request, so that the config does not
	runnable int  // how many commands may be in state R at once; 0 for no limit
	resident bool
	environ  []string // what commands inherit

	loadCheckDue bool // the commands' states are looked at soon
	keepErrors   bool // our standard error leads nowhere
	warned       warned
}

// job is a command that runs for a task.
type job struct {
	task      *task
	patience  time.Duration // how long others wait for it; forever for as long as it runs
	stopTimer func() bool   // of that. (A time.Timer here would cost the program 40 kB.)
	detached  bool          // it keeps no slot; in a process that stays its event is done too
}

func newPool(o Options) *pool {
	p := &pool{running: map[*command.Running]*job{}, jobs: o.Jobs, jobsSet: o.Jobs > 0, environ: o.Environ}
	if o.Rules != nil {
		p.useRules(o.Rules)
	}
	return p
}

func (p *pool) stay(environ []string) {
	p.resident = true
	p.keepErrors = command.ErrorsAreLost()
	if environ != nil {
		p.environ = environ
	}
}

// useRules has the pool go by what another config says.
func (p *pool) useRules(rules *conf.Config) {
	p.warned = warned{}
	if !p.jobsSet {
		p.jobs = cmp.Or(rules.Jobs(), DefaultJobs)
	}
}

// forever is the patience with a command for which others wait as long as it runs.
const forever time.Duration = -1

// patienceWith returns how long others wait for a command.
func patienceWith(c nodes.Command) time.Duration {
	switch {
	case c.Detach:
		return 0
	case c.Patience == nodes.Unlimited:
		return forever
	case c.Patience == 0:
		return DefaultPatience
	}
	return time.Duration(c.Patience) * time.Second
}

// hasSlot reports whether a command waits for a slot, and one is free.
func (p *pool) hasSlot() bool { return len(p.running)-p.detached < p.jobs && !p.queue.empty() }

// startCommandLocked starts the next command of t.
func (s *Scheduler) startCommandLocked(t *task) {
	c := t.commands[0]
	run, err := command.Start(command.Spec{Command: c, Plan: t.plan, Dir: s.dev.Path(), Environ: s.pool.environ, KeepErrors: s.pool.keepErrors})
	if err != nil {
		if why := describe(c) + ": " + err.Error(); command.Missing(err) {
			// The status that a shell has for it. It is no failure of the event.
			s.stats.recordError(t.event, "command ended: "+why)
			s.log.Event(s.pool.warned.level(c, t.event.Devpath), "command ended", t.event, why)
		} else {
			s.failLocked(t, "cannot run", why)
		}
		s.commandDoneYield(t)
		return
	}
	j := &job{task: t, patience: patienceWith(c), stopTimer: func() bool { return false }}
	s.pool.running[run] = j
	s.stats.commands++
	if j.patience > 0 {
		j.stopTimer = time.AfterFunc(j.patience, s.detachOverdue).Stop
	}
	var o command.Outcome
	s.runAsync(func() { o = run.Wait() }, func() {
		j.stopTimer()
		s.logOutcomeLocked(run, j.task, o)
		delete(s.pool.running, run)
		if j.detached {
			s.pool.detached--
			s.detachOverdueYield()
		}
		s.commandDoneYield(j.task)
	})
	if j.patience == 0 {
		s.detachOverdueYield()
	}
}

// runAsync runs a part of a task beside the scheduler, and then the rest of it with mu
// held.
func (s *Scheduler) runAsync(part, rest func()) {
	s.pool.inFlight.Go(func() {
		part()
		s.mu.Lock()
		defer s.mu.Unlock()
		rest()
		s.endSlice()
	})
}

// describe names a command and the rule that it stands in.
func describe(c nodes.Command) string { return c.Rule.String() + ": " + c.Text }

// logOutcomeLocked logs how a command ended.
func (s *Scheduler) logOutcomeLocked(run *command.Running, t *task, o command.Outcome) {
	why := describe(run.Command) + ": " + o.String()
	switch {
	case o.Killed != "":
		s.failLocked(t, "killed", why)
		return
	case o.Status.Signaled():
		s.log.Event(log.Warning, "command ended", t.event, why)
	case o.Status != 0 && s.pool.resident:
		s.log.Event(s.pool.warned.level(run.Command, t.event.Devpath), "command ended", t.event, why)
	default:
		s.log.Event(log.Info, "command ended", t.event, why)
	}
	if o.Status != 0 {
		s.stats.recordError(t.event, "command ended: "+why)
	}
}

// failLocked says that a part of t could not be done, and why.
func (s *Scheduler) failLocked(t *task, what, why string) {
	t.batch.failed = true
	s.stats.failed++
	s.stats.recordError(t.event, what+": "+why)
	s.log.Event(log.Err, what, t.event, why)
}

// commandDoneYield drops the command of t that has ended and queues the one after it.
func (s *Scheduler) commandDoneYield(t *task) {
	if t.commands = t.commands[1:]; !s.queueNextLocked(t) && !t.detached {
		s.partDoneYield(t)
	}
}

// queueNextLocked sends what comes before the next command of t that has to run, and
// queues t for that one. It reports whether there is one.
func (s *Scheduler) queueNextLocked(t *task) bool {
	for len(t.commands) > 0 && t.commands[0].Socket != "" {
		s.sendLocked(t, t.commands[0])
		t.commands = t.commands[1:]
	}
	switch {
	case len(t.commands) == 0:
		return false
	case !s.loadModulesLocked(t):
		s.pool.queue.push(t)
	}
	return true
}

// loadModulesLocked carries out the next command of t where that loads modules. It needs no
// slot: no process is started.
func (s *Scheduler) loadModulesLocked(t *task) bool {
	c := t.commands[0]
	alias, said := t.event.Get("MODALIAS")
	if s.modules == nil || !said || alias == "" || !s.modules.Handles(c.Text) {
		return false
	}
	var err error
	s.runAsync(func() { err = s.modules.Load(alias) }, func() {
		outcome := "loaded"
		if err != nil {
			outcome = err.Error()
		}
		s.log.Event(log.Info, "modules", t.event, alias+": "+outcome)
		s.commandDoneYield(t)
	})
	return true
}

// sendLocked sends an event to the socket that c names, as one datagram in the form of the
// kernel's messages. Nobody may listen there, or have room for it: that is no failure.
func (s *Scheduler) sendLocked(t *task, c nodes.Command) {
	if err := log.SendDatagram(c.Socket, t.event.AppendMessage(nil)); err != nil {
		s.log.Event(log.Info, "not sent", t.event, describe(c)+": "+err.Error())
	}
}

// partDoneYield counts one part of t as done; after the last, t is done.
func (s *Scheduler) partDoneYield(t *task) {
	if t.open--; t.open > 0 {
		return
	}
	if t.plan.Work == nodes.Remove {
		s.removeNodesLocked(t)
	}
	s.completeLocked(t)
	s.releaseYield(t)
}

// detachOverdue has commands that have run for too long give back their slots.
func (s *Scheduler) detachOverdue() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detachOverdueYield()
	s.endSlice()
}

// detachOverdueYield detaches the commands that have run for longer than the patience with
// them, the oldest first, as many as may be detached.
func (s *Scheduler) detachOverdueYield() {
	for s.pool.detached < maxDetached {
		var oldest *command.Running
		for run, j := range s.pool.running {
			if !j.detached && j.patience != forever && run.Since.Age() >= j.patience && (oldest == nil || run.Since < oldest.Since) {
				oldest = run
			}
		}
		if oldest == nil {
			return
		}
		s.detachYield(oldest, s.pool.running[oldest])
	}
}

// detachYield gives the slot of a command to others. In a process that stays its event is
// done then, so that clients get it and the later events of its device are started, such
// as the remove whose command is to end this one. The command itself runs on until its time
// limit, and those of its event that come after it follow it.
func (s *Scheduler) detachYield(run *command.Running, j *job) {
	j.detached = true
	s.pool.detached++
	s.warnDetachedLocked(run, j)
	t := j.task
	if !s.pool.resident && !run.Command.Detach || t.detached {
		return
	}
	rest := *t.work
	j.task = &task{work: &rest, batch: NewBatch(), detached: true}
	s.partDoneYield(t)
}

// warnDetachedLocked logs a command that runs for long, once, unless its rule lets it.
func (s *Scheduler) warnDetachedLocked(run *command.Running, j *job) {
	c := run.Command
	if c.Detach || c.Patience != 0 || c.Timeout == nodes.Unlimited || !s.pool.warned.first(c, "") {
		return // the config says that it may
	}
	what := "nothing waits for it any more"
	if !s.pool.resident {
		what = "its slot is another command's"
	}
	s.log.Event(log.Warning, "still runs", j.task.event, describe(c)+": after "+
		strconv.Itoa(int(DefaultPatience/time.Second))+" s "+what+"; before its rule, detach=yes; says that it is to run on, patience=0; that others are to wait")
}

// CommandsRunning returns how many commands run, also those that nothing waits for.
func (s *Scheduler) CommandsRunning() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pool.running)
}

// IsCommand reports whether a process is a command that was started here, and is to be
// waited for by nobody else. A command is known from before it can end.
func (s *Scheduler) IsCommand(pid int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for run := range s.pool.running {
		if run.PID == pid {
			return true
		}
	}
	return false
}

// warned is of which commands the log has a warning: of each rule for some devices.
type warned struct {
	devices map[string]bool // by rule, command and devpath
	rules   map[string]int  // how many devices
}

// maxWarned is for how many devices a rule's command is warned of.
const maxWarned = 10

// first reports whether no warning was given of c for the device at devpath, and notes
// one. Of a rule that has had many it is always false.
func (w *warned) first(c nodes.Command, devpath string) bool {
	rule := describe(c)
	key := rule + "\x00" + devpath
	if w.devices[key] || w.rules[rule] >= maxWarned {
		return false
	}
	if w.devices == nil {
		w.devices, w.rules = map[string]bool{}, map[string]int{}
	}
	w.devices[key] = true
	w.rules[rule]++
	return true
}

// level returns the level at which a failure of c is logged: a warning the first time.
func (w *warned) level(c nodes.Command, devpath string) log.Level {
	if w.first(c, devpath) {
		return log.Warning
	}
	return log.Info
}

// queue is a first-in first-out list of tasks.
type queue struct {
	tasks []*task
	head  int
}

func (q *queue) push(t *task) { q.tasks = append(q.tasks, t) }

func (q *queue) length() int { return len(q.tasks) - q.head }

func (q *queue) empty() bool { return q.length() == 0 }

// pop takes the first task out of a queue that is not empty.
func (q *queue) pop() *task {
	t := q.tasks[q.head]
	q.tasks[q.head] = nil
	if q.head++; q.empty() {
		*q = queue{}
	}
	return t
}
