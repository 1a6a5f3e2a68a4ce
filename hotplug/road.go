package hotplug

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"devspool/conf"
	"devspool/hotplug/log"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// DefaultJobs is how many commands run at once where nothing else is said.
const DefaultJobs = 4

// Road takes events to their end. Events that conflict take it one after the
// other, in the order in which they came; others need not wait for each other.
// Node work is done at once, commands run beside it.
//
// The exported fields are to be set before the first event. The methods may be
// called by several goroutines. Call NewRoad to make a Road.
type Road struct {
	Rules    *conf.Config
	Dev      *nodes.Dir // nil for a dry run: nothing is changed, no command runs
	Sys      sysfs.FS
	Log      *log.Logger
	Firmware string   // the directory that firmware lies in
	Environ  []string // what commands inherit
	Jobs     int      // commands at once
	Running  int      // of these, how many in state R at once; 0 for no limit

	// Patience is how long a command may keep its slot and the later events of its
	// device; 0 for as long as it runs. See outlast.
	Patience time.Duration

	// ByHand says that somebody, and not the kernel, sends the event of this process.
	ByHand bool

	// Conf is the absolute path of the config, and Reload reads it anew. The loop
	// needs them, to answer who asks it to coldplug.
	Conf   string
	Reload func() (*conf.Config, error)

	// Listeners are told of each event at its end, in this order.
	Listeners []Listener

	// Renewed, where set, is called in a goroutine of its own when another file
	// system was mounted over /dev, so that all has to be made anew.
	Renewed func()

	refused  error      // why the config was not used that was read last
	renewing sync.Mutex // held from the reading of a config until it is used

	told atomic.Bool // the process was told to end

	mu      sync.Mutex // guards what follows, and the fields above that change
	census  sysfs.Presence
	order   *order
	shelf   shelf             // the text of those that wait
	queue   queue             // tasks whose next command waits for a slot
	active  map[*started]bool // commands that run
	long    int               // of these, how many nothing waits for any more
	warned  map[string]bool   // commands that the log called long
	flights sync.WaitGroup    // commands and firmware requests under way
	ledger  ledger
	watches map[*watch]bool
	shed    func()   // called after a long queue, a scan or a request: memory may be free
	denied  int      // nodes that the kernel let nobody make
	ended   []*Batch // of the events that have ended in this turn, one for each
	coming  int      // coldplugs and runs that still bring events

	halted bool    // nothing is begun until Start
	held   []*task // what would have begun since, but for that
	probed bool    // a look at the commands' states is due

	locked   bool
	lockless bool // there is no lock to be had; said once
}

// Listener is somebody who is told what happens to events. It must not wait for
// anything, nor call the Road.
type Listener struct {
	// Done, where set, is told of an event at its end. The Plan says whether it came
	// too late to be acted on; so does the event, by uevent.LateKey.
	Done func(e *uevent.Event, p *nodes.Plan)

	// Turn, where set, is called when those that could end at once are told of,
	// and the lock on /dev is free.
	Turn func()

	// Gap, where set, is told that events were lost, and how.
	Gap func(why string)

	// Begun, where set, is told when the loop begins to listen of the number that the
	// kernel's last event has.
	Begun func(seqnum uint64)

	// Holds, where set, reports whether events are kept back for who is slow, and
	// go on to them only while this process lives.
	Holds func() bool

	// Renewed, where set, is told that another file system was mounted over /dev.
	Renewed func()

	// Status, where set, returns a line for the Road's status.
	Status func() string
}

// NewRoad returns a Road on which jobs commands may run side by side.
func NewRoad(rules *conf.Config, dev *nodes.Dir, sys sysfs.FS, logger *log.Logger, jobs int) *Road {
	r := &Road{
		Rules: rules, Dev: dev, Sys: sys, Log: logger, Jobs: jobs,
		census:  sysfs.NewPresence(sys),
		order:   newOrder(),
		active:  map[*started]bool{},
		watches: map[*watch]bool{},
		ledger:  newLedger(),
		shed:    func() {},
	}
	if dev != nil {
		dev.Rank = r.rank
	}
	return r
}

// Batch is a set of events whose end somebody waits for.
type Batch struct {
	open   int // events under way, and one for as long as more may come
	failed bool
	end    chan struct{}
}

func newBatch() *Batch { return &Batch{open: 1, end: make(chan struct{})} }

// Wait returns when all of the events are at their end, commands included, and
// reports whether everything could be done.
func (b *Batch) Wait() (ok bool) {
	<-b.end
	return !b.failed
}

// close counts one part of the batch as ended.
func (b *Batch) close() {
	if b.open--; b.open == 0 {
		close(b.end)
	}
}

// step is what a task that is under way still has to do.
type step struct {
	event    *uevent.Event
	plan     *nodes.Plan
	commands []nodes.Command
	open     int // parts that are under way: the commands, the firmware
}

// Run starts events on their way, in this order. Those that wait for nothing and
// have no command are at their end when it returns.
func (r *Road) Run(events []*uevent.Event) *Batch { return r.run(events, nil) }

// run is Run for events of which it may be known that they are fresh.
func (r *Road) run(events []*uevent.Event, fresh []bool) *Batch {
	b := &Batch{end: make(chan struct{})}
	r.runIn(b, events, fresh)
	return b
}

// runIn is run for events that become part of a batch.
func (r *Road) runIn(b *Batch, events []*uevent.Event, fresh []bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b.open++
	r.coming++ // who asks between two turns shall not find the road idle
	defer func() { r.coming-- }()
	r.ledger.last = sys.Now()
	for from := 0; from < len(events); from += turn {
		if from > 0 {
			r.pass()
		}
		part := events[from:min(from+turn, len(events))]
		tasks, steps := make([]task, len(part)), make([]step, len(part))
		for i, e := range part {
			steps[i].event = e
			tasks[i] = task{step: &steps[i], batch: b, fresh: fresh != nil && fresh[from+i]}
		}
		r.announce(tasks)
		for i := range tasks {
			r.enter(&tasks[i])
		}
	}
	r.leave()
	b.close()
}

// announce puts on record what tasks are going to make, in one go. It is only an
// economy.
func (r *Road) announce(tasks []task) {
	if r.Dev == nil || r.halted || len(tasks) < 2 {
		return
	}
	var plans []*nodes.Plan
	for i := range tasks {
		t := &tasks[i]
		if t.event.Action == uevent.Add && !t.event.Dev.IsZero() {
			t.plan = r.Rules.Plan(t.event)
			plans = append(plans, t.plan)
		}
	}
	if len(plans) > 0 {
		r.lock()
		r.Dev.Announce(plans)
	}
}

// enter starts one event on its way.
func (r *Road) enter(t *task) {
	t.batch.open++
	r.ledger.received++
	r.ledger.seqnum = max(r.ledger.seqnum, t.event.Seqnum)
	r.tell(t.event, true)
	if !r.halted && r.order.free(t) {
		// Most events are at their end at once, and nobody ever waits for them.
		if r.begin(t) {
			t.drop()
		} else {
			r.order.enter(t)
		}
		return
	}
	r.order.enter(t)
	r.pause(t)
	if t.waits == 0 {
		r.hold(t)
	}
}

// pause keeps t in little memory until resume is called.
func (r *Road) pause(t *task) {
	t.rest = r.shelf.put(t.event.Pack())
	*t.step = step{}
	t.step = nil // other rules may hold when its turn comes
}

func (r *Road) resume(t *task) {
	if t.step == nil {
		t.step = &step{event: r.shelf.take(t.rest).Unpack()}
		t.rest = slot{}
	}
}

// close lets those who wait know of what has ended, listeners before them.
func (r *Road) close() {
	if len(r.ended) == 0 {
		return
	}
	for _, l := range r.Listeners {
		if l.Turn != nil {
			l.Turn()
		}
	}
	for _, b := range r.ended {
		b.close()
	}
	clear(r.ended)
	r.ended = r.ended[:0]
}

// turn is how many events of many are begun until others have their turn.
const turn = 64

// pass ends a turn in the midst of many events, and begins another.
func (r *Road) pass() {
	r.leave()
	r.mu.Unlock()
	r.mu.Lock()
}

// leave ends a turn: others may change /dev now, and commands get free slots.
func (r *Road) leave() {
	for {
		r.unlock()
		r.close()
		if r.halted || len(r.active)-r.long >= r.Jobs || r.queue.empty() || r.busy() {
			return
		}
		r.launch(r.queue.pop())
	}
}

// launch starts the next command of t.
func (r *Road) launch(t *task) {
	c := t.commands[0]
	run, err := r.spawn(t, c)
	if missing(err) {
		// The status that a shell has for it. It is no fault of the event's.
		why := c.Rule.String() + ": " + c.Text + ": " + err.Error()
		r.ledger.blame(t.event, "command ended: "+why)
		r.Log.Event(log.Warning, "command ended", t.event, why)
		r.next(t)
		return
	}
	if err != nil {
		r.fail(t, "cannot run", c.Rule.String()+": "+c.Text+": "+err.Error())
		r.next(t)
		return
	}
	r.active[run] = true
	r.ledger.commands++
	r.watchLength(run)
	r.fly(func() {
		outcome := run.wait()
		r.mu.Lock()
		r.conclude(run, outcome)
		delete(r.active, run)
		if run.long {
			r.long--
		}
		r.next(run.task)
	})
}

// conclude says what came of a command.
func (r *Road) conclude(run *started, o outcome) {
	why := run.command.Rule.String() + ": " + run.command.Text + ": " + o.String()
	switch {
	case o.killed != "":
		r.fail(run.task, "killed", why)
		return
	case o.status.Signaled():
		r.Log.Event(log.Warning, "command ended", run.task.event, why)
	default:
		r.Log.Event(log.Info, "command ended", run.task.event, why)
	}
	if o.status != 0 {
		r.ledger.blame(run.task.event, "command ended: "+why)
	}
}

// fly does a part of a task beside the road. It is to come back with the Road's
// mutex locked.
func (r *Road) fly(part func()) {
	r.flights.Go(func() {
		part()
		defer r.mu.Unlock()
		r.leave()
	})
}

// fail says that a part of t could not be done, and why.
func (r *Road) fail(t *task, what, why string) {
	t.batch.failed = true
	r.ledger.failed++
	r.ledger.blame(t.event, what+": "+why)
	r.Log.Event(log.Err, what, t.event, why)
}

// begin does what can be done of t at once, and reports whether that was all.
func (r *Road) begin(t *task) (done bool) {
	r.resume(t)
	t.muted = t.made && r.heard(t.event)
	late := !t.fresh && r.late(t.event)
	if late {
		t.event, t.plan = t.event.Late(), nil // its rules may ask for that
	}
	e, p := t.event, t.plan
	if p == nil {
		if p = r.Rules.Plan(e); t.scan && e.Dev.IsZero() {
			p = r.Rules.PlanScan(e)
		}
		t.plan = p
	}
	if late {
		demote(p)
	}
	if t.muted {
		p.Commands, p.Firmware = nil, ""
	}
	for _, fault := range p.Faults {
		r.fail(t, "refused", fault)
	}
	if r.Dev == nil {
		r.finish(t)
		return true
	}
	existed := false
	if p.Work != nodes.Clear || len(p.Commands) == 0 {
		existed = r.apply(t)
	} else {
		r.lock()
		r.Dev.Locate(p)
		t.plan = p.Actual() // what its commands are to be told
	}
	t.commands = r.allowed(t, existed)
	if r.proceed(t) {
		t.open++
	}
	if p.Firmware != "" {
		t.open++
		r.fly(func() {
			ok := r.loadFirmware(e, p.Firmware)
			r.mu.Lock()
			t.batch.failed = t.batch.failed || !ok
			r.part(t)
		})
	}
	if t.open > 0 {
		return false
	}
	if p.Work == nodes.Clear && len(p.Commands) > 0 {
		r.clear(t) // what stood before it was only to be sent
	}
	r.finish(t)
	return true
}

// late reports whether /sys says that e is about a device that has gone or come
// back since, and so is not to change any node.
func (r *Road) late(e *uevent.Event) bool {
	switch e.Action {
	case uevent.Add, uevent.Move:
		if e.Dev.IsZero() {
			return false
		}
	case uevent.Remove:
		if r.ordered(e) {
			return false
		}
	default:
		return false
	}
	r.lock()
	if !r.census.Stale(e) {
		return false
	}
	r.Log.Event(log.Info, "too late", e, "/sys says otherwise by now")
	return true
}

// demote takes the node work out of the plan of an event that comes too late. Its
// commands stay: what happened did happen.
func demote(p *nodes.Plan) { p.Late, p.Work = true, nodes.Leave }

// heard reports whether an event that a comparison with /sys missed has come by
// itself since. Of a remove the record may know already, though not all could be done.
func (r *Road) heard(e *uevent.Event) bool {
	r.lock()
	if e.Action == uevent.Add {
		return r.Dev.IsSetUp(e)
	}
	rec := r.Dev.Recorded(e)
	return rec == nil || rec.State == nodes.Ended
}

// ordered reports whether e is a remove by hand. It is an order, no news of the
// device, and is obeyed whatever /sys says.
func (r *Road) ordered(e *uevent.Event) bool {
	return r.ByHand && e.Action == uevent.Remove && e.Seqnum == 0
}

// apply does the node work of t.
func (r *Road) apply(t *task) (existed bool) {
	p := t.plan
	switch p.Event.Action {
	case uevent.Add, uevent.Remove, uevent.Move:
		r.lock()
		r.oust(t)
	case uevent.Change:
		if r.Dev.OtherDisk(p.Event) {
			r.lock()
		}
	}
	existed, err := r.Dev.Apply(p)
	r.report(t, err)
	t.plan = p.Actual()
	r.warn(r.Dev.Conflicts())
	var heirs map[string]bool
	for freed := r.Dev.Freed(); len(freed) > 0; freed = r.Dev.Freed() {
		for _, heir := range freed {
			if heirs[heir.ID] {
				continue // it did what it could
			}
			if heirs == nil {
				heirs = map[string]bool{}
			}
			heirs[heir.ID] = true
			r.inherit(t, heir)
			r.warn(r.Dev.Conflicts())
		}
	}
	return existed
}

// oust does the node work for a device that had the devpath of t with other numbers,
// and of whose remove nobody has told.
func (r *Road) oust(t *task) {
	old := r.Dev.Displaced(t.event)
	if old == nil || t.event.Action == uevent.Remove && !r.Sys.Mounted() || r.census.Has(old.Devpath, old.Dev()) {
		return
	}
	r.report(t, r.Dev.Evict(old))
}

// inherit does the node work of a device to which a path comes back that the one
// of t had.
func (r *Road) inherit(t *task, heir *nodes.Record) {
	e, err := r.eventOf(heir)
	if err != nil || r.census.Stale(e) {
		return // it leaves too
	}
	p := r.Rules.Plan(e)
	p.Again = true
	_, err = r.Dev.Apply(p)
	r.report(newTask(e, t.batch), err)
}

// report logs what could not be done, a line each.
func (r *Road) report(t *task, err error) {
	if err == nil {
		return
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if strings.HasPrefix(line, "mknod ") && errors.Is(err, unix.EPERM) {
			r.deny(t, line)
			continue
		}
		r.fail(t, "failed", line)
	}
}

// deny notes that the kernel let no node be made. It does so for every device alike
// where this process is not the real root, so the first says it.
func (r *Road) deny(t *task, line string) {
	if r.denied++; r.denied == 1 {
		r.fail(t, "failed", line+"; in a user namespace (unshare -U, a rootless container) nobody may make them:"+
			" have the host's nodes mounted there. Further ones are counted")
		return
	}
	t.batch.failed = true
	r.ledger.failed++
}

// tellDenied says how many nodes a scan was not let make.
func (r *Road) tellDenied() {
	if r.denied > 1 {
		r.Log.Print(log.Err, strconv.Itoa(r.denied)+" nodes could not be made: "+unix.EPERM.Error())
	}
}

// clear does the node work of a remove, after its commands.
func (r *Road) clear(t *task) {
	r.lock()
	if !r.ordered(t.event) && r.census.Stale(t.event) {
		r.Log.Event(log.Info, "node kept", t.event, "the device came back")
		t.event = t.event.Late()
		t.plan.Event = t.event
		demote(t.plan)
	}
	r.apply(t)
}

// allowed returns the commands of t that are to run, by their if_exists.
func (r *Road) allowed(t *task, existed bool) []nodes.Command {
	p := t.plan
	if !existed || p.Event.Action != uevent.Add {
		return p.Commands
	}
	var commands []nodes.Command
	for _, c := range p.Commands {
		switch c.Exists {
		case nodes.ExistsRun:
			commands = append(commands, c)
		case nodes.ExistsReport, nodes.ExistsError:
			r.fail(t, "exists already", c.Rule.String()+": not run: "+c.Text)
		}
		if c.Exists == nodes.ExistsError {
			break
		}
	}
	return commands
}

// next drops the command of t that has run and queues the one after it.
func (r *Road) next(t *task) {
	if t.commands = t.commands[1:]; !r.proceed(t) && !t.outlasted {
		r.part(t)
	}
}

// proceed sends what comes before the next command of t that has to run, and
// queues t for that one. It reports whether there is one.
func (r *Road) proceed(t *task) bool {
	for len(t.commands) > 0 && t.commands[0].Socket != "" {
		r.send(t.event, t.commands[0])
		t.commands = t.commands[1:]
	}
	if len(t.commands) == 0 {
		return false
	}
	r.queue.push(t)
	return true
}

// part counts one part of t as done; after the last, t is at its end.
func (r *Road) part(t *task) {
	if t.open--; t.open > 0 {
		return
	}
	if t.plan.Work == nodes.Clear {
		r.clear(t)
	}
	r.finish(t)
	r.retire(t)
}

// finish is the end of the road for t.
func (r *Road) finish(t *task) {
	r.ledger.done++
	if t.plan.Late {
		r.ledger.late++
	}
	if !t.muted {
		r.Log.Event(log.Info, "done", t.event, "")
		for _, l := range r.Listeners {
			if l.Done != nil {
				l.Done(t.event, t.plan)
			}
		}
	}
	r.tell(t.event, false)
	r.ended = append(r.ended, t.batch)
}

// holds reports whether a listener keeps events back.
func (r *Road) holds() bool {
	for _, l := range r.Listeners {
		if l.Holds != nil && l.Holds() {
			return true
		}
	}
	return false
}

// tellRenewed tells the listeners that another file system was mounted over /dev.
func (r *Road) tellRenewed() {
	for _, l := range r.Listeners {
		if l.Renewed != nil {
			l.Renewed()
		}
	}
}

// Told reports whether the process was told to end, and does not do so by itself.
func (r *Road) Told() bool { return r.told.Load() }

// Gap says that events were lost before this moment.
func (r *Road) Gap(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ledger.gaps++
	r.Log.Print(log.Warning, why)
	for _, l := range r.Listeners {
		if l.Gap != nil {
			l.Gap(why)
		}
	}
}

// retire takes out a task that is at its end, and begins those that waited for
// it, and in turn those that waited for them.
func (r *Road) retire(t *task) {
	for ended, begun := []*task{t}, 0; len(ended) > 0; {
		t, ended = ended[0], ended[1:]
		for _, next := range r.order.leave(t) {
			if begun++; begun%turn == 0 {
				r.pass()
			}
			next.fresh = false
			switch {
			case r.halted:
				r.hold(next)
			case r.begin(next):
				ended = append(ended, next)
			}
		}
		t.drop()
	}
	if r.order.shed() {
		r.shed()
	}
}

// End lets the commands that run come to their end, or kills them when limit is
// over. What has not begun is left to the next scan.
func (r *Road) End(limit time.Duration) {
	r.mu.Lock()
	r.Jobs = 0
	r.mu.Unlock()
	landed := make(chan struct{})
	go func() {
		r.flights.Wait()
		close(landed)
	}()
	select {
	case <-landed:
	case <-sys.After(limit):
		r.mu.Lock()
		defer r.mu.Unlock()
		for run := range r.active {
			run.kill("the loop ends")
		}
	}
}

// look notices where another file system was mounted over /dev.
func (r *Road) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lock()
	r.unlock()
}

// lock takes the lock on /dev, unless it is held.
func (r *Road) lock() {
	if r.locked || r.Dev == nil {
		return
	}
	renewed, err := r.Dev.Lock()
	r.locked = true
	r.census.Refresh()
	if renewed && r.Renewed != nil {
		go r.Renewed()
	}
	if err != nil && !r.lockless {
		r.Log.Print(log.Warning, "no lock and no record on "+r.Dev.Path()+": "+err.Error())
	}
	r.lockless = err != nil
}

func (r *Road) unlock() {
	if !r.locked {
		return
	}
	r.locked = false
	if err := r.Dev.Unlock(); err != nil {
		r.Log.Print(log.Err, err.Error())
	}
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
