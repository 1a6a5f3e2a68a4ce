//go:build !nospool

package sink

import (
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/spool/broker"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// Spool publishes each event at its end in the spool, from which clients read it.
type Spool struct {
	log     *log.Logger
	options broker.Options

	// The scheduler calls done, publish and gap one at a time, so these need no mutex.
	finished []finished // events of this slice; empty after publish
	last     uint64     // the highest SEQNUM of the events that are at their end

	mu     sync.Mutex      // guards the fields below
	spool  *broker.Broker  // nil where there is none, or none is needed yet
	warned map[string]bool // texts that were logged; see warnOnceLocked
}

// finished is an event at its end.
type finished struct {
	event *uevent.Event
	plan  *nodes.Plan
}

// NewSpool returns a Spool with these options. Where no spool can be opened, the log says
// so, and events are not published.
func NewSpool(o broker.Options, logger *log.Logger) *Spool {
	s := &Spool{log: logger, options: o, warned: map[string]bool{}}
	s.options.Log = func(text string) { logger.Print(log.Notice, text) }
	if o.Resident {
		s.openLocked()
	}
	return s
}

// Close closes the spool. Clients can still read what was published.
func (s *Spool) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLocked()
}

// Leave is Close for a process that was told to end: it also unmounts what is mounted for
// the spool, where no client needs it.
func (s *Spool) Leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spool != nil {
		s.spool.Leave()
		s.spool = nil
	}
}

// closeLocked closes the spool, if it is open. withSpool opens it again in a process that does not
// stay.
func (s *Spool) closeLocked() {
	if s.spool != nil {
		s.spool.Close()
		s.spool = nil
	}
}

// openLocked opens the spool. Where it cannot, the log says why, once, and s.spool stays nil.
func (s *Spool) openLocked() {
	b, err := broker.Open(s.options)
	if err != nil {
		s.warnOnceLocked("no spool: " + err.Error())
		return
	}
	s.spool = b
}

// warnOnceLocked logs a text once, since what is wrong with the spool is wrong for each event.
func (s *Spool) warnOnceLocked(text string) {
	if !s.warned[text] {
		s.warned[text] = true
		s.log.Print(log.Warning, text)
	}
}

// Sink returns a Sink that publishes each event, late ones too, and each gap.
//
// Publishing once a slice checks for queues once; a queue that is made before a slice gets
// all events of it.
func (s *Spool) Sink() scheduler.Sink {
	return scheduler.Sink{
		Done: s.done, SliceEnd: s.publish, Gap: s.gap, Started: s.started,
		HasBacklog: s.hasBacklog, Remounted: s.reopen, Status: s.status,
	}
}

// status returns how many queues there are.
func (s *Spool) status() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spool == nil {
		return "queues: no spool"
	}
	queues, behind, refused := s.spool.Counts()
	return "queues: " + strconv.Itoa(queues) + ", " + strconv.Itoa(behind) + " of them behind, " + strconv.Itoa(refused) + " refused"
}

// hasBacklog reports whether events are kept for slow clients: a leader then stays for a while.
func (s *Spool) hasBacklog() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spool != nil && s.spool.HasBacklog()
}

// done keeps an event until publish.
func (s *Spool) done(e *uevent.Event, plan *nodes.Plan) {
	s.last = max(s.last, e.Seqnum)
	s.finished = append(s.finished, finished{e, plan})
}

// publish publishes the events that are at their end since the last slice.
func (s *Spool) publish() {
	s.withSpool(func(b *broker.Broker) error {
		return b.PublishAll(len(s.finished), func(i int) (*uevent.Event, []string) {
			f := &s.finished[i]
			return s.redact(f.event), variables(f.event, f.plan)
		})
	})
	clear(s.finished) // or they would stay in memory
	s.finished = s.finished[:0]
	s.recordLast()
}

// recordLast records the SEQNUM of the last event, for the process that comes after this
// one.
func (s *Spool) recordLast() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spool != nil && s.options.Resident {
		s.spool.Ended(s.last)
	}
}

// started publishes a gap for the events that the kernel sent after the last one of the
// process before this one. Seqnum is the number of the kernel's last event; later ones come
// to this process.
func (s *Spool) started(seqnum uint64) {
	s.mu.Lock()
	var last uint64
	if s.spool != nil {
		last = s.spool.LastEnded()
		s.spool.Ended(seqnum)
	}
	s.mu.Unlock()
	// 0: no process before recorded a number, so nothing tells what was missed.
	if last != 0 && seqnum > last {
		s.gap("nobody listened to the events from " + strconv.FormatUint(last+1, 10) + " to " + strconv.FormatUint(seqnum, 10))
	}
}

// publicKeys are the variables that redact keeps, each between two blanks.
const publicKeys = " ACTION DEVPATH SUBSYSTEM MAJOR MINOR DEVNAME DEVTYPE DEVMODE DEVUID DEVGID" +
	" DEVPATH_OLD DRIVER MODALIAS INTERFACE IFINDEX DISKSEQ " + uevent.LateKey + " "

// redact returns e without what may be private. Everybody can read what is published, but
// the event of a helper that a script started, which has no SEQNUM, has the whole
// environment of the script.
func (s *Spool) redact(e *uevent.Event) *uevent.Event {
	if s.options.Resident || e.Seqnum != 0 {
		return e
	}
	var public []string
	for kv := range e.Env() {
		if key, _, _ := strings.Cut(kv, "="); strings.IndexByte(key, ' ') < 0 && strings.Contains(publicKeys, " "+key+" ") {
			public = append(public, kv)
		}
	}
	e, _ = uevent.FromEnviron(public) // no error, since it has the ACTION and DEVPATH of e
	return e
}

// gap publishes that events were lost, after the events that are at their end. How many is unknown.
func (s *Spool) gap(why string) {
	s.publish()
	s.withSpool(func(b *broker.Broker) error { b.Gap(0, why); return nil })
}

// withSpool calls f with the spool, if there may be a queue in it. A process that does not
// stay opens the spool only then.
func (s *Spool) withSpool(f func(*broker.Broker) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spool == nil {
		if s.options.Resident || broker.Empty(s.options) {
			return
		}
		if s.openLocked(); s.spool == nil {
			return
		}
	}
	if err := f(s.spool); err != nil {
		s.warnOnceLocked("an event is not published: " + err.Error())
	}
}

// reopen opens the spool of another /dev.
func (s *Spool) reopen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLocked()
	if s.options.Resident {
		s.openLocked()
	}
}

// variables returns the variables that clients get besides those of the event. Names are
// absolute paths, as udev has them, and begin with /dev also where --dev names another
// directory.
func variables(e *uevent.Event, p *nodes.Plan) []string {
	const dev = "/dev/"
	var more []string
	name := e.Devname
	if len(p.Nodes) > 0 {
		name = p.Nodes[0].Path
	}
	if name != "" {
		more = append(more, "DEVNAME="+dev+name)
	}
	links := ""
	for i := range p.Links {
		if path := p.Links[i].Path; !strings.Contains(path, " ") { // a blank ends a name in DEVLINKS
			links += " " + dev + path
		}
	}
	if links != "" {
		more = append(more, "DEVLINKS="+links[1:])
	}
	tags := p.TagList()
	if _, forged := e.Get("TAGS"); tags != "" || forged { // no kernel sets TAGS
		more = append(more, "TAGS="+tags)
	}
	if e.Action == uevent.Add {
		more = append(more, "USEC_INITIALIZED="+strconv.FormatInt(sinceBoot(), 10))
	}
	return more
}

// sinceBoot returns the time since the boot in microseconds, without that in suspend: udev takes
// USEC_INITIALIZED from CLOCK_MONOTONIC too.
func sinceBoot() int64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) != nil {
		return 0
	}
	return t.Nano() / 1000
}
