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

// Spool puts each event at its end into the spool.
type Spool struct {
	log     *log.Logger
	options broker.Options

	mu     sync.Mutex
	spool  *broker.Broker // nil where there is none, or none is needed yet
	ended  []ended        // events of this slice
	last   uint64         // the highest SEQNUM among the events that are at their end
	logged map[string]bool
}

// ended is an event at its end.
type ended struct {
	event *uevent.Event
	plan  *nodes.Plan
}

// NewSpool returns a Publisher for a spool with these options. Where no spool
// can be had, the log says so, and events are handled all the same.
func NewSpool(o broker.Options, logger *log.Logger) *Spool {
	p := &Spool{log: logger, options: o, logged: map[string]bool{}}
	p.options.Log = func(text string) { logger.Print(log.Notice, text) }
	if o.Resident {
		p.open()
	}
	return p
}

// Close lets go of the spool.
func (p *Spool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.close()
}

// Leave is Close for a process that ends since it was told to: what is mounted goes
// too, where no client needs it.
func (p *Spool) Leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spool != nil {
		p.spool.Leave()
		p.spool = nil
	}
}

func (p *Spool) close() {
	if p.spool != nil {
		p.spool.Close()
		p.spool = nil
	}
}

func (p *Spool) open() {
	s, err := broker.Open(p.options)
	if err != nil {
		p.warnOnce("no spool: " + err.Error())
		return
	}
	p.spool = s
}

// warnOnce logs something once: what is wrong with the spool is so for each event.
func (p *Spool) warnOnce(text string) {
	if !p.logged[text] {
		p.logged[text] = true
		p.log.Print(log.Warning, text)
	}
}

// Sink returns what publishes each event, late or not, and gaps.
//
// Publishing once a slice checks for queues once; a queue that is made before the slice gets
// all of its events.
func (p *Spool) Sink() scheduler.Sink {
	return scheduler.Sink{Done: p.done, SliceEnd: p.publish, Gap: p.gap, HasBacklog: p.hasBacklog, Remounted: p.reopen, Status: p.status, Started: p.started}
}

// status tells how many listen.
func (p *Spool) status() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spool == nil {
		return "queues: no spool"
	}
	queues, behind, refused := p.spool.Counts()
	return "queues: " + strconv.Itoa(queues) + ", " + strconv.Itoa(behind) + " of them behind, " + strconv.Itoa(refused) + " refused"
}

func (p *Spool) hasBacklog() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spool != nil && p.spool.Held()
}

func (p *Spool) done(e *uevent.Event, plan *nodes.Plan) {
	p.last = max(p.last, e.Seqnum)
	p.ended = append(p.ended, ended{e, plan})
}

// publish publishes the events that have ended since the last slice.
func (p *Spool) publish() {
	p.withSpool(func(s *broker.Broker) error {
		return s.PublishAll(len(p.ended), func(i int) (*uevent.Event, []string) {
			x := p.ended[i]
			return p.redact(x.event), variables(x.event, x.plan)
		})
	})
	clear(p.ended) // or they would stay in memory
	p.ended = p.ended[:0]
	p.recordLast()
}

// recordLast keeps the number of the last event beyond the end of this process.
func (p *Spool) recordLast() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spool != nil && p.options.Resident {
		p.spool.Ended(p.last)
	}
}

// started tells the queues of the events that the kernel sent since the process before
// this one was at the end of its last. Seqnum is the kernel's last number; events with
// a higher one come to this process.
func (p *Spool) started(seqnum uint64) {
	p.mu.Lock()
	var last uint64
	if p.spool != nil {
		last = p.spool.LastEnded()
		p.spool.Ended(seqnum)
	}
	p.mu.Unlock()
	if last != 0 && seqnum > last {
		p.gap("nobody listened to the events from " + strconv.FormatUint(last+1, 10) + " to " + strconv.FormatUint(seqnum, 10))
	}
}

// redact returns e without what is private. A helper that a script
// started, and so without a SEQNUM, has all of the script's environment in its event,
// while anybody may read what is published.
func (p *Spool) redact(e *uevent.Event) *uevent.Event {
	if p.options.Resident || e.Seqnum != 0 {
		return e
	}
	var public []string
	for kv := range e.Env() {
		switch key, _, _ := strings.Cut(kv, "="); key {
		case "ACTION", "DEVPATH", "SUBSYSTEM", "MAJOR", "MINOR", "DEVNAME", "DEVTYPE", "DEVMODE", "DEVUID", "DEVGID",
			"DEVPATH_OLD", "DRIVER", "MODALIAS", "INTERFACE", "IFINDEX", "DISKSEQ", uevent.LateKey:
			public = append(public, kv)
		}
	}
	e, _ = uevent.FromEnviron(public) // no error, since it has e's ACTION and DEVPATH
	return e
}

// gap tells of lost events after those that have ended.
func (p *Spool) gap(why string) {
	p.publish()
	p.withSpool(func(s *broker.Broker) error { s.Gap(0, why); return nil })
}

// withSpool has the spool do something, where there is anybody to do it for.
func (p *Spool) withSpool(do func(*broker.Broker) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spool == nil {
		if p.options.Resident || broker.Empty(p.options) {
			return
		}
		if p.open(); p.spool == nil {
			return
		}
	}
	if err := do(p.spool); err != nil {
		p.warnOnce("an event is not published: " + err.Error())
	}
}

// reopen opens the spool of another /dev.
func (p *Spool) reopen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.close()
	if p.options.Resident {
		p.open()
	}
}

// variables returns what clients are told of an event besides its own: names as
// absolute paths, as udev says them.
func variables(e *uevent.Event, p *nodes.Plan) []string {
	const dev = "/dev/"
	var more []string
	switch {
	case len(p.Nodes) > 0:
		more = append(more, "DEVNAME="+dev+p.Nodes[0].Path)
	case e.Devname != "":
		more = append(more, "DEVNAME="+dev+e.Devname)
	}
	var links []string
	for _, link := range p.Links {
		if !strings.Contains(link.Path, " ") { // which ends a name in DEVLINKS
			links = append(links, dev+link.Path)
		}
	}
	if len(links) > 0 {
		more = append(more, "DEVLINKS="+strings.Join(links, " "))
	}
	tags := p.TagList()
	if _, forged := e.Get("TAGS"); tags != "" || forged { // no kernel gives any
		more = append(more, "TAGS="+tags)
	}
	if e.Action == uevent.Add {
		more = append(more, "USEC_INITIALIZED="+strconv.FormatInt(sinceBoot(), 10))
	}
	return more
}

// sinceBoot returns the time since the boot in microseconds.
func sinceBoot() int64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) != nil {
		return 0
	}
	return t.Nano() / 1000
}
