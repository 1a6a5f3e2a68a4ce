// Package scheduler decides when an event may run, runs it, and reports its end. It does not
// ask where an event comes from, and writes no text but log lines.
//
// # The life of an event
//
// Each event is a task, and its field state says how far it is:
//
//	submitted ──────────┬───────────────────────> started ──> done ──> (detached)
//	    │               │                         ^   ^ │ ^
//	    │ conflicts     │ Pause was called        │   │ │ │ a disk
//	    v               v                  Resume │   │ v │ is to be read
//	 waiting ───────> deferred ───────────────────┘   │ reading
//	    │   released,                                 │
//	    │   but paused            released            │
//	    └─────────────────────────────────────────────┘
//
// Run submits events, 64 at a time (a slice). A task that conflicts with an earlier one
// waits until that is done and releases it. While the scheduler is paused, a task that
// could start is deferred. Waiting and deferred tasks are packed: their text lies in the
// arena.
//
// A task of a disk whose names depend on what the disk holds leaves the scheduler at once to
// have it read, and starts again when that is known, or took too long.
//
// A task starts with its node work. It is done when its commands and its firmware are, or
// at once where it has none, as most events: these are done when Run returns. Sinks and
// observers get the event then, and the batch at the end of the slice. In a process that
// stays, a command that runs for too long is detached: its event is done, and another task,
// which is not in the graph, keeps the command and those after it.
//
// # Locks
//
// Scheduler.mu guards the fields below it, and the types that these consist of: all methods
// of applier, arena, devLock, failures, graph, observers, pool, queue, slice and warned
// need it held, and never release it. Of the methods of Scheduler
//
//   - those with a name that ends with Locked need it held;
//   - yield, and those with a name that ends with Yield, need it held, and may release it and
//     take it again: what the caller read before may be stale afterwards;
//   - all others take it themselves, if they need it.
//
// The lock on /dev (devLock) is a file lock, which excludes other processes. It is taken
// while mu is held, never the other way round. The part disks has a mutex of its own, since
// the goroutines that read disks share it; it is taken last.
package scheduler

import (
	"sync"
	"time"

	"devspool/conf"
	"devspool/hotplug/command"
	"devspool/hotplug/firmware"
	"devspool/hotplug/log"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// defaultJobs is how many commands run at once where neither Options nor the config says.
const defaultJobs = 4

// Options are what a Scheduler works with.
type Options struct {
	Rules *conf.Config
	Dev   *nodes.Dir // nil for a dry run: nothing is changed, no command runs
	Sys   sysfs.FS
	Log   *log.Logger
	Sinks []Sink // each gets every event at its end, in this order

	// Interfaces says that sinks are to be told of network interfaces too, of which a scan
	// else finds only those that a rule may match.
	Interfaces bool

	FirmwareDir string   // the directory that holds firmware
	Environ     []string // the environment that commands inherit
	Jobs        int      // commands at once; 0 for what the config says, else defaultJobs

	// ByHand says that the event of this process was sent by a person or a script, not by
	// the kernel: a remove is obeyed then, whatever /sys says.
	ByHand bool

	Names   Identifier                   // which names devices deserve besides those that rules give them; nil for none
	Stored  func(*uevent.Event) []string // which properties a device had when an earlier process ended; nil where nobody knows
	Watcher Watcher                      // is given the disks that are read for their names; nil for none
	Modules ModuleLoader                 // loads kernel modules without the modprobe program; nil for none
}

// ModuleLoader loads kernel modules; see package modules.
type ModuleLoader interface {
	// Handles reports whether a command is a call of modprobe for the event's MODALIAS
	// that can be carried out here.
	Handles(command string) bool

	// Load loads the modules of an alias for the device at devpath, and returns when they are
	// loaded or have failed. It logs failures.
	Load(alias, devpath string) error
}

// Scheduler runs events. Those that conflict run one after the other, in the order in which
// they came; others do not wait for each other. Node work is done at once, commands run
// beside it.
//
// Its methods may be called by several goroutines. They are many, since all that the package
// does is reached through them: more than half are exported, most of which lock mu and ask one
// of the parts, and the others are the steps in the life of an event. Most of its fields are
// these parts, which have fields and methods of their own.
type Scheduler struct {
	log   *log.Logger
	sinks []Sink

	interfaces bool // see Options
	firmware   firmware.Loader

	mu sync.Mutex // guards the fields below

	// The parts.
	applier   applier
	graph     graph
	arena     arena
	pool      *pool
	failures  failures
	observers observers

	slice    slice
	paused   bool    // see Pause
	deferred []*task // what Resume is to start
	disks    disks   // has a mutex of its own
	arrivals arrivals
	counts   Counts
	released func() // see OnRelease
}

// arrivals are what is known about events that come.
type arrivals struct {
	producers int      // calls of Run that may still submit events
	scans     int      // how many of them submit what a scan found; commands start after that
	last      sys.Time // when Run was last called
	seqnum    uint64   // the highest SEQNUM submitted
}

// New returns a Scheduler. It starts no goroutine.
func New(o Options) *Scheduler {
	s := &Scheduler{
		log: o.Log, sinks: o.Sinks, interfaces: o.Interfaces,
		firmware: firmware.Loader{Dir: o.FirmwareDir, Sys: o.Sys, Log: o.Log},
		pool:     newPool(&o),
		released: func() {},
	}
	s.counts.Since = sys.Now()
	s.graph.init()
	s.failures.log = o.Log
	s.applier.init(&o, &s.failures)
	return s
}

// Stay makes the scheduler that of a process which stays, to run events that come later. From
// now on, an event is done before a command of it that runs for too long; and the last line
// of the standard error of a failing command goes to the log, where our own standard error
// leads nowhere. Stay is to be called again when that changes. Where environ is not nil,
// commands inherit it.
func (s *Scheduler) Stay(environ []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool.stay(environ)
}

// OnRelease makes the scheduler call f when much memory may be free: after a long queue, a
// scan or a request. f may not call the Scheduler.
func (s *Scheduler) OnRelease(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released = f
}

// Released calls the function that OnRelease was given.
func (s *Scheduler) Released() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released()
}

// A Generator calls yield for each of some events, in their order, with the Kind of each.
// It must not call the Scheduler; v answers what it may ask.
type Generator func(v View, yield func(*uevent.Event, Kind))

// Events returns the Generator of events that are Reported.
func Events(events ...*uevent.Event) Generator {
	return func(_ View, yield func(*uevent.Event, Kind)) {
		for _, e := range events {
			yield(e, Reported)
		}
	}
}

// Run submits the events of a generator. Those that neither wait nor have a command are
// done when it returns; the end of all is that of the Batch.
func (s *Scheduler) Run(generate Generator) *Batch {
	b := newBatch()
	s.RunIn(b, generate)
	return b
}

// RunIn is Run for events that become part of a batch made by NewBatch.
func (s *Scheduler) RunIn(b *Batch, generate Generator) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.unfinished++
	s.arrivals.producers++ // between two slices, others must not find the scheduler idle
	s.arrivals.last = sys.Now()
	if conf.HasNames {
		s.applier.names.start()
	}
	isScan := false
	generate(View{s, b}, func(e *uevent.Event, kind Kind) {
		if kind.isScan() && !isScan {
			isScan = true
			s.arrivals.scans++
		}
		if s.slice.add(e, kind) {
			s.submitSliceLocked(b)
			s.yield()
		}
	})
	s.submitSliceLocked(b)
	if isScan {
		s.arrivals.scans--
	}
	s.endSliceYield()
	s.arrivals.producers--
	b.partDone()
}

// sliceSize is how many events are submitted together, and how many tasks are started in a
// row before other goroutines may have mu, and other processes /dev.
const sliceSize = 64

// slice is what belongs together in time: events that are submitted at once, and later the
// batches of the events that are done by that.
// No event is left in it when mu is released, so calls of Run may take turns with one slice.
type slice struct {
	events   [sliceSize]*uevent.Event
	kinds    [sliceSize]Kind
	count    int      // of events
	finished []*Batch // one for each event that is done

	// Room for the tasks of the next slice, if none of the last one stayed.
	tasks []task
	works []work
}

// add adds an event, and reports whether the slice is full now.
func (sl *slice) add(e *uevent.Event, kind Kind) (full bool) {
	sl.events[sl.count], sl.kinds[sl.count] = e, kind
	sl.count++
	return sl.count == sliceSize
}

// takeRoom returns room for n tasks.
func (sl *slice) takeRoom(n int) (tasks []task, works []work) {
	if n > cap(sl.tasks) {
		sl.tasks, sl.works = make([]task, n), make([]work, n)
	}
	tasks, works = sl.tasks[:n], sl.works[:n]
	sl.tasks, sl.works = nil, nil
	return tasks, works
}

// submitSliceLocked submits the events that the slice has collected.
func (s *Scheduler) submitSliceLocked(b *Batch) {
	n := s.slice.count
	// One task that stays keeps those of the whole slice in memory: see pack and clear.
	tasks, works := s.slice.takeRoom(n)
	for i := range n {
		works[i].event = s.slice.events[i]
		tasks[i] = task{work: &works[i], batch: b, kind: s.slice.kinds[i]}
		s.slice.events[i] = nil
	}
	s.slice.count = 0
	for i := range s.sinks {
		if f := s.sinks[i].Received; f != nil {
			for j := range works {
				f(works[j].event)
			}
		}
	}
	// Deferred tasks are packed, and lose the plans that prepare makes.
	if !s.paused {
		s.applier.prepare(tasks)
	}
	stay := false
	for i := range tasks {
		if !s.submitLocked(&tasks[i]) {
			stay = true
		}
	}
	if !stay {
		s.slice.tasks, s.slice.works = tasks, works
	}
}

// submitLocked accepts one event, and starts it if nothing keeps it from that. It reports whether
// the task is done, and cleared.
func (s *Scheduler) submitLocked(t *task) (isDone bool) {
	t.batch.unfinished++
	s.counts.Received++
	s.arrivals.seqnum = max(s.arrivals.seqnum, t.event.Seqnum)
	s.observers.notify(t.event, true)
	if !s.paused && s.graph.isFree(t) {
		// Most events are done at once. No other task ever waits for them, so they spare
		// the way through the graph.
		isDone = s.startLocked(t)
		if isDone {
			t.clear()
		} else {
			s.graph.add(t)
		}
		return isDone
	}
	s.graph.add(t)
	t.state = waiting
	t.pack(&s.arena)
	if t.blockers == 0 {
		s.deferLocked(t)
	}
	return false
}

// startLocked does the node work of t and sets its commands and its firmware going. It
// reports whether t is done by that.
func (s *Scheduler) startLocked(t *task) (isDone bool) {
	t.unpack(&s.arena)
	t.state = started
	// Both are asked each time that t starts: /sys may have changed while it waited.
	late := s.applier.isLate(t) || s.applier.isLeftBehind(t)
	if conf.HasNames && !late && !s.applier.identify(t) {
		if s.readLocked(t) {
			return false
		}
	}
	s.applier.plan(t, late)
	// The plan stays: t starts again with it, and another name. Node work and commands come only then.
	if conf.HasNames && !late && s.renameLocked(t) {
		return false
	}
	if s.applier.isDryRun() {
		s.completeLocked(t)
		return true
	}
	e, p := t.event, t.plan
	endsLater := s.applier.removesAfterCommands(t)
	existed := s.applier.begin(t)
	if conf.HasNames {
		s.applier.renew(t)
		s.applier.watch(t)
	}
	t.commands = s.applier.runnable(t, existed)
	// Commands come after the attributes, and may rely on them. They are the same part.
	if len(p.Attributes) > 0 {
		t.parts++
		s.setAttributesLocked(t)
	} else if s.queueNextLocked(t) {
		t.parts++
	}
	if p.Firmware != "" {
		t.parts++
		// The firmware is loaded beside the commands, and needs no slot.
		ok := false
		s.runAsync(s.pool.inFlight.Go, func() { ok = s.firmware.Load(e, p.Firmware) }, func() {
			t.batch.failed = t.batch.failed || !ok
			s.partDoneYield(t)
		})
	}
	if t.parts > 0 {
		return false
	}
	if endsLater { // its commands were events to send, which are sent by now
		s.applier.end(t)
	}
	s.completeLocked(t)
	return true
}

// restartYield starts t once more, when what it waited for outside of the graph has come.
// While paused, what was found out meanwhile is let go: it may be out of date when Resume starts t.
func (s *Scheduler) restartYield(t *task) {
	t.kind = t.kind.stale()
	if s.paused {
		t.pack(&s.arena)
		s.deferLocked(t)
	} else if s.startLocked(t) {
		s.releaseYield(t)
	}
}

// partDoneYield counts one part of t as done: its commands or its firmware. After the last
// one, t is done.
func (s *Scheduler) partDoneYield(t *task) {
	if t.parts--; t.parts > 0 {
		return
	}
	s.applier.end(t)
	s.completeLocked(t)
	s.releaseYield(t)
}

// completeLocked makes t done: sinks and observers get the event, its batch will.
func (s *Scheduler) completeLocked(t *task) {
	t.state = done
	s.counts.Done++
	if t.plan.Late {
		s.counts.Late++
	}
	// Before the sinks, which show it to their clients.
	t.plan.Failure = s.failures.take(t.event)
	if !t.muted {
		s.log.Event(log.Info, "done", t.event, "")
	}
	for i := range s.sinks {
		if f := s.sinks[i].Done; f != nil && !t.muted {
			f(t.event, t.plan)
		} else if f := s.sinks[i].Withdrawn; f != nil && t.muted {
			f()
		}
	}
	if conf.HasNames {
		s.applier.names.remember(t)
	}
	s.observers.notify(t.event, false)
	// The batch ends in endSliceYield, when /dev is unlocked and the sinks have sent what they have.
	s.slice.finished = append(s.slice.finished, t.batch)
}

// releaseYield takes a task that is done out of the graph and starts those that waited for
// it, then those that waited for these if they are done at once, and so on.
func (s *Scheduler) releaseYield(t *task) {
	// A list in place of a recursion: the chain of tasks can be as long as the queue.
	for ended, count := []*task{t}, 0; len(ended) > 0; {
		t, ended = ended[0], ended[1:]
		for _, next := range s.graph.remove(t) {
			if count++; count%sliceSize == 0 {
				s.yield()
			}
			// While it waited, /sys may have changed.
			next.kind = next.kind.stale()
			switch {
			case s.paused:
				s.deferLocked(next)
			case s.startLocked(next):
				ended = append(ended, next)
			}
		}
		t.clear()
	}
	if s.graph.releaseMemory() {
		s.released()
	}
}

// endSliceYield unlocks /dev, reports what is done to sinks and batches, and starts
// commands in free slots. A scan's commands start when all it found is set up: only then is
// it known which of two devices has a path.
func (s *Scheduler) endSliceYield() {
	for {
		s.applier.dev.unlock()
		s.reportFinishedLocked()
		if s.paused || s.arrivals.scans > 0 || !s.pool.hasSlot() || s.overLimitLocked() {
			return
		}
		s.startCommandYield(s.pool.queue.take(s.pool.next()))
	}
}

// yield ends a slice in the midst of many events, lets waiting goroutines have mu, and
// begins another slice.
func (s *Scheduler) yield() {
	s.endSliceYield()
	s.mu.Unlock()
	s.mu.Lock()
}

// reportFinishedLocked reports the end of a slice in which events are done: to the sinks,
// and after them to the batches.
func (s *Scheduler) reportFinishedLocked() {
	finished := s.slice.finished
	if len(finished) == 0 {
		return
	}
	for i := range s.sinks {
		if f := s.sinks[i].SliceEnd; f != nil {
			f()
		}
	}
	for _, b := range finished {
		b.partDone()
	}
	clear(finished)
	s.slice.finished = finished[:0]
}

// SetRules makes events that start from now on go by other rules.
func (s *Scheduler) SetRules(rules *conf.Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applier.rules = rules
	s.applier.names.wanted = rules.WantsNames()
	s.applier.names.refresh()
	s.pool.useRules(rules)
	s.endSliceYield()
}

// Plan returns what the rules want done for an event.
func (s *Scheduler) Plan(e *uevent.Event) *nodes.Plan {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.applier.rules.Plan(e)
}

// Shutdown starts no further command, waits until those that run have ended, and kills them
// when that takes longer than limit. What has not started is left to the next scan.
func (s *Scheduler) Shutdown(limit time.Duration) {
	s.mu.Lock()
	s.pool.setJobs(0)
	s.mu.Unlock()
	if s.Drain(limit) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Those with Outlives are meant to run on when the process has ended.
	for _, j := range s.pool.running {
		if !command.Outlives(j.Command) {
			j.Kill("the loop ends")
		}
	}
}

// Drain waits until no command runs and nothing else is done beside, and reports whether that
// came about within limit. New ones may start meanwhile, unless Pause was called.
func (s *Scheduler) Drain(limit time.Duration) bool {
	// A WaitGroup knows no time limit: where limit passes the goroutine stays until the last command ends.
	drained := make(chan struct{})
	go func() {
		s.pool.inFlight.Wait()
		close(drained)
	}()
	select {
	case <-drained:
		return true
	case <-sys.After(limit):
		return false
	}
}
