// Package scheduler decides when an event may run, runs it, and says when it is done.
// It does not ask where an event came from, and makes no text but for the log.
//
// # The life of an event
//
//	submit ──> waiting ──> deferred ──> started ──> done
//	   │          │ blockers  │ Pause       │ commands,    │ sinks and batch are told,
//	   │          │ > 0       │             │ firmware     │ dependents are released
//	   └──────────┴───────────┴────────────>┘
//
// A task that waits or is deferred is packed: its text lies in the arena, and its work is
// nil. One that is started is in the graph until it is done, unless it had nothing to wait
// for and no command, as most events: those are done when submit returns.
//
// # Locks
//
// Scheduler.mu guards everything here. Functions whose name ends with Locked need it
// held. Those that end with Yield may let it go and take it again: what was read before
// may be stale after. The lock on /dev (devLock) is a file lock that orders processes; it
// is taken when it is needed first, and let go of at the end of a slice. Whoever needs
// both takes mu first.
package scheduler

import (
	"sync"
	"time"

	"devspool/conf"
	"devspool/hotplug/firmware"
	"devspool/hotplug/log"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// DefaultJobs is how many commands run at once where nothing else is said.
const DefaultJobs = 4

// Options are what a Scheduler works with.
type Options struct {
	Rules *conf.Config
	Dev   *nodes.Dir // nil for a dry run: nothing is changed, no command runs
	Sys   sysfs.FS
	Log   *log.Logger
	Sinks []Sink // are told of each event at its end, in this order

	FirmwareDir string   // the directory that firmware lies in
	Environ     []string // what commands inherit
	Jobs        int      // commands at once; 0 for what the config says, else DefaultJobs

	// ByHand says that somebody, and not the kernel, sends the event of this process: a
	// remove is an order then, and is obeyed whatever /sys says.
	ByHand bool

	// Names says which names devices deserve besides those that rules give them; nil for
	// none.
	Names Identifier

	// Watcher hears of the disks that are read for their names; nil for none.
	Watcher Watcher
}

// Scheduler takes events to their end. Events that conflict run one after the other, in
// the order in which they came; others need not wait for each other. Node work is done
// at once, commands run beside it. Its methods may be called by several goroutines.
type Scheduler struct {
	log      *log.Logger
	sys      sysfs.FS
	sinks    []Sink
	firmware firmware.Loader
	byHand   bool

	mu        sync.Mutex // guards what follows
	rules     *conf.Config
	slice     slice
	dev       devLock
	graph     *graph
	arena     arena // the text of tasks that wait
	pool      *pool
	paused    bool
	deferred  []*task  // could be started, but for the pause
	finished  []*Batch // of the events that are done in this slice, one for each
	producers int      // calls of Run that may still bring events
	names     names
	stats     stats
	observers map[*Observer]bool
	released  func() // memory may be free: a long queue has ended, or a request
}

// New returns a Scheduler. It starts nothing by itself.
func New(o Options) *Scheduler {
	s := &Scheduler{
		log: o.Log, sys: o.Sys, sinks: o.Sinks, byHand: o.ByHand, rules: o.Rules,
		firmware:  firmware.Loader{Dir: o.FirmwareDir, Sys: o.Sys, Log: o.Log},
		dev:       devLock{Dir: o.Dev, presence: sysfs.NewPresence(o.Sys), log: o.Log},
		graph:     newGraph(),
		pool:      newPool(o),
		names:     newNames(o),
		stats:     newStats(),
		observers: map[*Observer]bool{},
		released:  func() {},
	}
	if o.Dev != nil {
		o.Dev.Rank = s.rankLocked
	}
	return s
}

// Stay says that this process stays to do the events of others. A command that runs for
// long does not keep its event from its end then, nor what waits for that. Commands
// inherit environ from now on, where it is not nil. Where our standard error leads nowhere,
// the last line that a failing command writes there goes to the log; so call it again when
// that changes.
func (s *Scheduler) Stay(environ []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool.stay(environ)
}

// OnRemount has f called, in a goroutine of its own, when another file system was mounted
// over /dev, so that all has to be made anew.
func (s *Scheduler) OnRemount(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dev.remounted = f
}

// OnRelease has f called when much memory may be free.
func (s *Scheduler) OnRelease(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released = f
}

// Released says that memory may be free.
func (s *Scheduler) Released() { s.released() }

// Kind is what is known of an event besides what it says.
type Kind byte

const (
	// Reported: somebody told of it. /sys says whether it still holds.
	Reported Kind = iota
	// Current: the kernel has just sent it, and nothing about the device after it.
	Current
	// Scanned: it was made of what /sys says at this moment, with /dev locked.
	Scanned
	// Missed: a comparison with /sys misses it. It is dropped silently if it has come by
	// itself meanwhile.
	Missed
)

// A Generator brings events, in their order, and what is known of each. It must not call
// the Scheduler; v answers what it may ask.
type Generator func(v View, yield func(*uevent.Event, Kind))

// Events returns the Generator of events that somebody told of.
func Events(events ...*uevent.Event) Generator {
	return func(_ View, yield func(*uevent.Event, Kind)) {
		for _, e := range events {
			yield(e, Reported)
		}
	}
}

// Run starts the events of a generator, in their order. Those that wait for nothing and
// have no command are done when it returns; the Batch tells of the end of all.
func (s *Scheduler) Run(generate Generator) *Batch {
	b := &Batch{End: make(chan struct{})}
	s.RunIn(b, generate)
	return b
}

// RunIn is Run for events that become part of a batch.
func (s *Scheduler) RunIn(b *Batch, generate Generator) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.open++
	s.producers++ // whoever asks between two slices must not find the scheduler idle
	s.stats.lastEvent = sys.Now()
	generate(View{s, b}, func(e *uevent.Event, kind Kind) {
		s.slice.add(e, kind)
		if s.slice.full() {
			s.submitSliceLocked(b)
			s.yield()
		}
	})
	s.submitSliceLocked(b)
	s.endSlice()
	s.producers--
	b.partDone()
}

// sliceSize is how many events of many are started until others may go on.
const sliceSize = 64

// slice collects events that are submitted together.
type slice struct {
	events [sliceSize]*uevent.Event
	kinds  [sliceSize]Kind
	n      int
}

func (sl *slice) full() bool { return sl.n == sliceSize }

func (sl *slice) add(e *uevent.Event, kind Kind) {
	sl.events[sl.n], sl.kinds[sl.n] = e, kind
	sl.n++
}

// submitSliceLocked submits what was collected.
func (s *Scheduler) submitSliceLocked(b *Batch) {
	n := s.slice.n
	tasks, works := make([]task, n), make([]work, n)
	for i := range n {
		works[i].event = s.slice.events[i]
		tasks[i] = task{work: &works[i], batch: b, kind: s.slice.kinds[i]}
		s.slice.events[i] = nil
	}
	s.slice.n = 0
	s.prepareRecordsLocked(tasks)
	for i := range tasks {
		s.submitLocked(&tasks[i])
	}
}

// prepareRecordsLocked puts on record what tasks are going to make, in one write. It only
// saves time.
func (s *Scheduler) prepareRecordsLocked(tasks []task) {
	if s.dev.Dir == nil || s.paused || len(tasks) < 2 {
		return
	}
	var plans []*nodes.Plan
	for i := range tasks {
		t := &tasks[i]
		if t.event.Action == uevent.Add && !t.event.Dev.IsZero() {
			if s.names.concerns(t.event) && s.names.NeedsContents(t.event) {
				continue // what it is to have is not known yet
			}
			s.identifyLocked(t)
			t.plan = s.planLocked(t.event, t.identity, t.kind)
			plans = append(plans, t.plan)
		}
	}
	if len(plans) > 0 {
		s.dev.lock()
		s.dev.Prepare(plans)
	}
}

// submitLocked takes one event, and starts it if nothing keeps it from that.
func (s *Scheduler) submitLocked(t *task) {
	t.batch.open++
	s.stats.received++
	s.stats.seqnum = max(s.stats.seqnum, t.event.Seqnum)
	s.notifyLocked(t.event, true)
	if !s.paused && s.graph.isFree(t) {
		// Most events are done at once, and nobody ever waits for them.
		if s.startLocked(t) {
			t.clear()
		} else {
			s.graph.add(t)
		}
		return
	}
	s.graph.add(t)
	t.pack(&s.arena)
	if t.blockers == 0 {
		s.deferLocked(t)
	}
}

// endSlice lets others change /dev, tells sinks and batches of what is done, and starts
// commands in free slots.
func (s *Scheduler) endSlice() {
	for {
		s.dev.unlock()
		s.tellFinishedLocked()
		if s.paused || !s.pool.hasSlot() || s.overLimitLocked() {
			return
		}
		s.startCommandLocked(s.pool.queue.pop())
	}
}

// yield ends a slice in the midst of many events, and begins another. It lets mu go for
// a moment.
func (s *Scheduler) yield() {
	s.endSlice()
	s.mu.Unlock()
	s.mu.Lock()
}

// tellFinishedLocked tells the sinks, and after them the batches, what is done.
func (s *Scheduler) tellFinishedLocked() {
	if len(s.finished) == 0 {
		return
	}
	for _, sink := range s.sinks {
		if sink.TurnEnd != nil {
			sink.TurnEnd()
		}
	}
	for _, b := range s.finished {
		b.partDone()
	}
	clear(s.finished)
	s.finished = s.finished[:0]
}

// completeLocked ends a task's life: sinks, observers and its batch are told.
func (s *Scheduler) completeLocked(t *task) {
	s.stats.done++
	if t.plan.Late {
		s.stats.late++
	}
	if !t.muted {
		s.log.Event(log.Info, "done", t.event, "")
		for _, sink := range s.sinks {
			if sink.Done != nil {
				sink.Done(t.event, t.plan)
			}
		}
	}
	s.rememberLocked(t)
	s.notifyLocked(t.event, false)
	s.finished = append(s.finished, t.batch)
}

// releaseYield takes a task that is done out of the graph and starts those that waited
// for it, and in turn those that waited for them.
func (s *Scheduler) releaseYield(t *task) {
	for done, started := []*task{t}, 0; len(done) > 0; {
		t, done = done[0], done[1:]
		for _, next := range s.graph.remove(t) {
			if started++; started%sliceSize == 0 {
				s.yield()
			}
			next.kind = next.kind.stale()
			switch {
			case s.paused:
				s.deferLocked(next)
			case s.startLocked(next):
				done = append(done, next)
			}
		}
		t.clear()
	}
	if s.graph.releaseMemory() {
		s.released()
	}
}

// SetRules has events that start from now on go by other rules.
func (s *Scheduler) SetRules(rules *conf.Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = rules
	s.pool.useRules(rules)
	s.endSlice()
}

// Plan returns what is to be done for an event.
func (s *Scheduler) Plan(e *uevent.Event) *nodes.Plan {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rules.Plan(e)
}

// Exclusive calls f with /dev locked. It returns ErrNoLock where there is no lock to be
// had.
func (s *Scheduler) Exclusive(f func(View) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dev.lock()
	defer s.dev.unlock()
	if s.dev.lockless || s.dev.Dir == nil {
		return ErrNoLock
	}
	return f(View{s, nil})
}

// CheckRemount looks whether another file system was mounted over /dev.
func (s *Scheduler) CheckRemount() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names.refresh()
	s.dev.lock()
	s.dev.unlock()
}

// Shutdown lets the commands that run come to their end, or kills them when limit is
// over. What has not been started is left to the next scan.
func (s *Scheduler) Shutdown(limit time.Duration) {
	s.mu.Lock()
	s.pool.jobs, s.pool.jobsSet = 0, true
	s.mu.Unlock()
	drained := make(chan struct{})
	go func() {
		s.pool.inFlight.Wait()
		close(drained)
	}()
	select {
	case <-drained:
	case <-sys.After(limit):
		s.mu.Lock()
		defer s.mu.Unlock()
		for run := range s.pool.running {
			run.Kill("the loop ends")
		}
	}
}

// View is what a Generator may ask of the Scheduler while it brings events.
type View struct {
	s     *Scheduler
	batch *Batch
}

// Lock locks /dev, if it is not locked. An event is Scanned only if /sys was read since:
// each time that a Generator brings an event the lock may be given to others.
func (v View) Lock() { v.s.dev.lock() }

// Fail says that the generator could not bring all, and why.
func (v View) Fail(why string) {
	v.batch.failed = true
	v.s.log.Print(log.Err, why)
}

// Records returns the record of every device that has nodes or links here.
func (v View) Records() []*nodes.Record {
	if v.s.dev.Dir == nil {
		return nil
	}
	return v.s.dev.Records()
}

// IsOtherDisk reports whether e is about another disk than the one on record at its
// devpath, as its DISKSEQ shows.
func (v View) IsOtherDisk(e *uevent.Event) bool { return v.s.dev.Dir != nil && v.s.dev.OtherDisk(e) }

// Plan returns what is to be done for an event.
func (v View) Plan(e *uevent.Event) *nodes.Plan { return v.s.rules.Plan(e) }

// WantsUnnumbered reports whether a rule may care for a device of that name, which has
// no numbers; see conf.Config.
func (v View) WantsUnnumbered(sysname string) bool { return v.s.rules.WantsUnnumbered(sysname) }

// IsPending reports whether an event of the device at devpath is under way.
func (v View) IsPending(devpath string) bool { return v.s.graph.path[devpath] != nil }
