package hotplug

import (
	"strings"

	"devspool/conf"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// DefaultJobs is how many commands run at once where nothing else is said.
const DefaultJobs = 4

// Road takes events to their end. Events that conflict take it one after the
// other, in the order in which they came; others need not wait for each other.
// Node work is done at once, commands run beside it.
//
// A Road is for one goroutine. Call NewRoad to make one.
type Road struct {
	Rules    *conf.Config
	Dev      *nodes.Dir // nil for a dry run: nothing is changed, no command runs
	Sys      Sysfs
	Log      *Log
	Firmware string   // the directory that firmware lies in
	Environ  []string // what commands inherit
	Jobs     int      // commands at once

	// Done, where set, is told of each event at its end. The Plan is nil for
	// one that came too late to be acted on.
	Done func(e *uevent.Event, p *nodes.Plan)

	order  *order
	queue  queue             // tasks whose next command waits for a slot
	active map[*started]bool // commands that run
	flying int               // commands and firmware requests under way
	ended  chan ending
	wake   func() // called when something was sent to ended; may be nil

	locked   bool
	lockless bool // there is no lock to be had; said once
	renewed  bool
	failed   bool
}

// NewRoad returns a Road that commands may run on side by side: jobs at most.
func NewRoad(rules *conf.Config, dev *nodes.Dir, sys Sysfs, log *Log, jobs int) *Road {
	return &Road{
		Rules: rules, Dev: dev, Sys: sys, Log: log, Jobs: jobs,
		order:  newOrder(),
		active: map[*started]bool{},
		ended:  make(chan ending),
	}
}

// step is what a task still has to do.
type step struct {
	plan     *nodes.Plan
	commands []nodes.Command
	open     int // parts that are under way: the commands, the firmware
}

// Run starts events on their way, in this order. Events that wait for nothing
// and have no command are at their end when it returns.
func (r *Road) Run(events []*uevent.Event) {
	for _, e := range events {
		r.enter(&task{event: e})
	}
	r.leave()
}

// enter starts one event on its way.
func (r *Road) enter(t *task) {
	if r.order.count == 0 {
		// Nothing is under way, so there is nothing to wait for.
		if !r.begin(t) {
			r.order.enter(t)
		}
		return
	}
	r.order.enter(t)
	if t.waits == 0 && r.begin(t) {
		r.settle(t)
	}
}

// leave ends a turn: others may change /dev now, and commands run.
func (r *Road) leave() {
	r.unlock()
	r.start()
}

// Drain returns when everything that was started is at its end.
func (r *Road) Drain() {
	for r.flying > 0 {
		r.end(<-r.ended)
	}
}

// Idle reports whether nothing is under way.
func (r *Road) Idle() bool { return r.order.count == 0 }

// Failed reports whether anything could not be done since the last call.
func (r *Road) Failed() bool {
	failed := r.failed
	r.failed = false
	return failed
}

// Renewed reports whether /dev was mounted over since the last call, so that
// all has to be made anew.
func (r *Road) Renewed() bool {
	renewed := r.renewed
	r.renewed = false
	return renewed
}

// begin does what can be done of t at once, and reports whether that was all.
func (r *Road) begin(t *task) (done bool) {
	e := t.event
	if !t.fresh && r.late(e) {
		return true
	}
	p := r.Rules.Plan(e)
	t.plan = p
	for _, fault := range p.Faults {
		r.failed = true
		r.Log.Event(Err, "refused", e, fault)
	}
	existed := false
	if p.Work != nodes.Clear || len(p.Commands) == 0 {
		existed = r.apply(p)
	}
	if r.Dev == nil {
		r.done(t)
		return true
	}
	t.commands = r.allowed(p, existed)
	if len(t.commands) > 0 {
		t.open++
		r.queue.push(t)
	}
	if p.Firmware != "" {
		t.open++
		r.fly(ending{task: t}, func() { r.loadFirmware(e, p.Firmware) })
	}
	if t.open == 0 {
		r.done(t)
	}
	return t.open == 0
}

// late reports whether /sys says that e is about a device that has gone or come
// back since, and so is not to be acted on.
func (r *Road) late(e *uevent.Event) bool {
	if e.Dev.IsZero() && e.Action != uevent.Remove {
		return false
	}
	r.lock()
	if !r.Sys.gone(e) {
		return false
	}
	r.Log.Event(Info, "too late", e, "/sys says otherwise by now")
	if r.Done != nil {
		r.Done(e, nil)
	}
	return true
}

// apply does the node work of p.
func (r *Road) apply(p *nodes.Plan) (existed bool) {
	if r.Dev == nil {
		return false
	}
	if p.Work != nodes.Leave || p.Event.Action == uevent.Add || p.Event.Action == uevent.Remove {
		r.lock()
	}
	existed, err := r.Dev.Apply(p)
	r.report(p.Event, err)
	for _, devpath := range r.Dev.Freed() {
		r.heir(devpath)
	}
	return existed
}

// heir does the node work of a device to which a path comes back that another had.
func (r *Road) heir(devpath string) {
	e, err := r.Sys.Event(uevent.Add, devpath)
	if err != nil || r.Sys.gone(e) {
		return // it leaves too
	}
	_, err = r.Dev.Apply(r.Rules.Plan(e))
	r.report(e, err)
}

// report logs what could not be done, a line each.
func (r *Road) report(e *uevent.Event, err error) {
	if err == nil {
		return
	}
	r.failed = true
	for line := range strings.SplitSeq(err.Error(), "\n") {
		r.Log.Event(Err, "failed", e, line)
	}
}

// clear does the node work of a remove, after its commands.
func (r *Road) clear(t *task) {
	r.lock()
	if r.Sys.gone(t.event) {
		r.Log.Event(Info, "node kept", t.event, "the device came back")
		return
	}
	r.apply(t.plan)
}

// allowed returns the commands of p that are to run, by their if_exists.
func (r *Road) allowed(p *nodes.Plan, existed bool) []nodes.Command {
	if !existed || p.Event.Action != uevent.Add {
		return p.Commands
	}
	var commands []nodes.Command
	for _, c := range p.Commands {
		switch c.Exists {
		case nodes.ExistsRun:
			commands = append(commands, c)
		case nodes.ExistsReport, nodes.ExistsError:
			r.failed = true
			r.Log.Event(Err, "exists already", p.Event, c.Rule.String()+": not run: "+c.Text)
		}
		if c.Exists == nodes.ExistsError {
			break
		}
	}
	return commands
}

// done is the end of the road for t.
func (r *Road) done(t *task) {
	r.Log.Event(Info, "done", t.event, "")
	if r.Done != nil {
		r.Done(t.event, t.plan)
	}
}

// settle takes out a task that is at its end, and begins those that waited for
// it, and in turn those that waited for them.
func (r *Road) settle(t *task) {
	for ended := []*task{t}; len(ended) > 0; {
		t, ended = ended[0], ended[1:]
		for _, next := range r.order.leave(t) {
			next.fresh = false
			if r.begin(next) {
				ended = append(ended, next)
			}
		}
	}
}

// start gives free slots to commands that wait for one.
func (r *Road) start() {
	for len(r.active) < r.Jobs {
		t := r.queue.pop()
		if t == nil {
			return
		}
		c := t.commands[0]
		run, err := r.spawn(t.event, c)
		if err != nil {
			r.failed = true
			r.Log.Event(Err, "cannot run", t.event, c.Rule.String()+": "+c.Text+": "+err.Error())
			r.next(t)
			continue
		}
		r.active[run] = true
		r.fly(ending{task: t, run: run}, func() { run.wait(r.Log, t.event, c) })
	}
}

// ending tells that a part of a task has ended: its command, or else its firmware.
type ending struct {
	task *task
	run  *started
}

// fly does a part of a task beside the road, and tells of its end.
func (r *Road) fly(end ending, part func()) {
	r.flying++
	go func() {
		part()
		if r.wake != nil {
			r.wake()
		}
		r.ended <- end
	}()
}

// end takes in that a part has ended.
func (r *Road) end(end ending) {
	r.flying--
	if end.run != nil {
		delete(r.active, end.run)
		r.next(end.task)
	} else {
		r.part(end.task)
	}
	r.unlock()
	r.start()
}

// next drops the command of t that has run and queues the one after it.
func (r *Road) next(t *task) {
	if t.commands = t.commands[1:]; len(t.commands) > 0 {
		r.queue.push(t)
		return
	}
	r.part(t)
}

// part counts one part of t as done; after the last, t is at its end.
func (r *Road) part(t *task) {
	if t.open--; t.open > 0 {
		return
	}
	if t.plan.Work == nodes.Clear {
		r.clear(t)
	}
	r.done(t)
	r.settle(t)
}

// lock takes the lock on /dev, unless it is held.
func (r *Road) lock() {
	if r.locked || r.Dev == nil {
		return
	}
	renewed, err := r.Dev.Lock()
	r.renewed = r.renewed || renewed
	r.locked = true
	if err != nil && !r.lockless {
		r.lockless = true
		r.Log.Print(Warning, "no lock and no record on "+r.Dev.Path()+": "+err.Error())
	}
}

func (r *Road) unlock() {
	if !r.locked {
		return
	}
	r.locked = false
	if err := r.Dev.Unlock(); err != nil {
		r.failed = true
		r.Log.Print(Err, err.Error())
	}
}

// queue is a first-in first-out list of tasks.
type queue struct {
	tasks []*task
	head  int
}

func (q *queue) push(t *task) { q.tasks = append(q.tasks, t) }

func (q *queue) pop() *task {
	if q.head == len(q.tasks) {
		*q = queue{}
		return nil
	}
	t := q.tasks[q.head]
	q.tasks[q.head] = nil
	q.head++
	return t
}
