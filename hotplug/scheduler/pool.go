package scheduler

import (
	"sync"
	"time"

	"devspool/conf"
	"devspool/hotplug/command"
	"devspool/nodes"
)

// pool holds the commands that run, each in one of a few slots, and the tasks that wait for
// a slot. Scheduler.mu guards it.
type pool struct {
	queue    queue          // tasks whose next command waits for a slot
	running  []*job         // commands that run, the oldest first
	detached int            // how many of running have no slot
	inFlight sync.WaitGroup // commands and firmware requests

	first    bool     // see First
	jobs     int      // slots; 0 after Shutdown
	jobsSet  bool     // an option or a request has set jobs, so the config does not
	runnable int      // how many commands may be in state R at once; 0 for no limit
	resident bool     // the process stays; see Stay
	environ  []string // the environment that commands inherit

	loadCheckDue bool // a timer runs until overLimitLocked is asked again
	keepErrors   bool // our standard error leads nowhere
	warned       warned
}

// job is a command that runs for a task.
type job struct {
	*command.Running
	task      *task         // whose first command it is
	patience  time.Duration // how long others wait for it; forever for as long as it runs
	stopTimer func() bool   // stops the timer of its patience. (A time.Timer here would cost the program 40 kB.)
	detached  bool          // it has no slot
}

func newPool(o *Options) *pool {
	p := &pool{jobs: o.Jobs, jobsSet: o.Jobs > 0, environ: o.Environ}
	if o.Rules != nil {
		p.useRules(o.Rules)
	}
	return p
}

// stay is Stay.
func (p *pool) stay(environ []string) {
	p.resident = true
	p.keepErrors = command.ErrorsAreLost()
	if environ != nil {
		p.environ = environ
	}
}

// useRules makes the pool go by another config: its number of slots, unless that was set
// otherwise, and new warnings for its commands.
func (p *pool) useRules(rules *conf.Config) {
	// The rule of a warning may have been changed to mend what it was about.
	p.warned = nil
	if !p.jobsSet {
		if p.jobs = rules.Jobs(); p.jobs == 0 {
			p.jobs = defaultJobs
		}
	}
}

// setJobs sets the number of slots, whatever the config says.
func (p *pool) setJobs(n int) { p.jobs, p.jobsSet = n, true }

// hasSlot reports whether a command waits for a slot, and one is free.
func (p *pool) hasSlot() bool { return len(p.running)-p.detached < p.jobs && p.next() >= 0 }

// next returns the index in the queue of the task whose command is the next to start, or -1.
func (p *pool) next() int {
	for i := p.queue.head; i < len(p.queue.tasks); i++ {
		if !p.first || p.queue.tasks[i].mayLead() {
			return i
		}
	}
	return -1
}

// mayLead reports whether a disk may come of the event of t: its device is one, or has a
// driver to be found, or another event waits for it.
func (t *task) mayLead() bool {
	_, hasAlias := t.event.Get("MODALIAS")
	return t.event.Dev.Block || hasAlias || len(t.dependents) > 0
}

// job returns the job whose process has this number, or nil.
func (p *pool) job(pid int) *job {
	for _, j := range p.running {
		if j.PID == pid {
			return j
		}
	}
	return nil
}

// overdue returns the oldest job that has a slot and whose patience is over, or nil.
func (p *pool) overdue() *job {
	for _, j := range p.running {
		if !j.detached && j.patience != forever && j.Since.Age() >= j.patience {
			return j
		}
	}
	return nil
}

// remove removes a job whose command has ended.
// Its slot is free by that, unless it was detached and had none.
func (p *pool) remove(ended *job) {
	all := p.running
	for i, j := range all {
		if j == ended {
			// In order: the oldest stays first, for overdue and the status.
			copy(all[i:], all[i+1:])
			all[len(all)-1] = nil
			p.running = all[:len(all)-1]
		}
	}
	if ended.detached {
		p.detached--
	}
}

// list returns the commands that run, for Stats.
func (p *pool) list() (all []*RunningCommand) {
	for _, j := range p.running {
		e := j.task.event
		all = append(all, &RunningCommand{j.PID, j.Since, e.Action, e.Devpath, describe(j.Command)})
	}
	return all
}

// defaultPatience is how long a command keeps its slot where neither its rule nor the config
// says; in a process that stays also how long it keeps the later events of its device.
const defaultPatience = 5 * time.Second

// forever is the patience with a command that others wait for as long as it runs.
const forever time.Duration = -1

// patienceWith returns how long others wait for a command.
func patienceWith(c *nodes.Command) time.Duration {
	switch {
	case c.Detach:
		return 0
	case c.Patience == nodes.Unlimited:
		return forever
	case c.Patience == 0:
		return defaultPatience
	}
	return time.Duration(c.Patience) * time.Second
}
