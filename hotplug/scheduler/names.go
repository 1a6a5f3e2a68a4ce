package scheduler

import (
	"slices"
	"strings"
	"time"

	"devspool/hotplug/log"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
	"devspool/nodes"
	"devspool/nodes/identity"
)

// Identifier says which names and properties a device deserves; see identity.Prober.
type Identifier interface {
	// Identify answers by the event and sysfs alone.
	Identify(*uevent.Event) identity.Identity

	// NeedsContents reports whether Probe would find more.
	NeedsContents(*uevent.Event) bool

	// Probe reads the contents of the disk too. It may take as long as the disk does.
	Probe(*uevent.Event) identity.Identity
}

// Watcher has a change event come of a disk that somebody has written to; see
// contents.Watcher. Neither method may block.
type Watcher interface {
	Watch(e *uevent.Event, node string)
	Drop(devpath string)
}

// probeLimit is how long an event waits for what its disk holds. After that it goes on
// without.
const probeLimit = 10 * time.Second

// maxProbes is how many disks are read at once.
const maxProbes = 8

// names is what devices deserve to be called. Scheduler.mu guards it.
type names struct {
	Identifier                               // nil where devices get no names
	isReal     func() bool                   // /sys is the kernel's own, from which names come
	active     bool                          // isReal, as it was seen last
	watcher    Watcher                       // or nil
	probes     chan struct{}                 // holds a token for each disk that is being read
	found      map[string]*identity.Identity // by devpath, of devices that were set up
	slow       map[string]bool               // devpaths of disks that did not answer in time
}

func newNames(o Options) names {
	n := names{Identifier: o.Names, isReal: o.Sys.IsKernels, watcher: o.Watcher}
	if n.Identifier != nil {
		n.probes, n.found, n.slow = make(chan struct{}, maxProbes), map[string]*identity.Identity{}, map[string]bool{}
		n.refresh()
	}
	return n
}

// refresh looks whether /sys is the kernel's own.
func (n *names) refresh() { n.active = n.Identifier != nil && n.isReal() }

// concerns reports whether the device of e may have other names than before.
func (n *names) concerns(e *uevent.Event) bool {
	return n.active && e.Action != uevent.Remove && e.Action != "unbind" && e.Action != "offline"
}

// identifyLocked finds out what the device of t deserves, and completes its event by that.
// It returns false where the contents of a disk are to be read first: t is started again
// when that is done.
func (s *Scheduler) identifyLocked(t *task) (done bool) {
	if t.identity != nil {
		return true
	}
	if !s.names.concerns(t.event) {
		if was := s.names.found[t.event.Devpath]; was != nil { // what leaves is known by its names
			t.event = t.event.With(was.Properties)
		}
		t.identity = &identity.Identity{}
		return true
	}
	if !s.names.NeedsContents(t.event) {
		id := s.names.Identify(t.event)
		s.setIdentityLocked(t, &id)
		return true
	}
	t.isRead = true
	if s.names.watcher != nil && s.dev.Dir != nil && t.event.Devname != "" { // the kernel may have made its node
		s.names.watcher.Watch(t.event, s.dev.Path()+"/"+t.event.Devname)
	}
	e, id := t.event, (*identity.Identity)(nil)
	s.runAsync(func() { id = s.names.probe(e) }, func() {
		if id == nil {
			s.warnSlowLocked(e)
			without := s.names.Identify(e)
			without.Keep = true
			id = &without
		}
		s.setIdentityLocked(t, id)
		s.resumeYield(t)
	})
	return false
}

// resumeYield starts t once more, when what it waited for is done.
func (s *Scheduler) resumeYield(t *task) {
	t.kind = t.kind.stale()
	if s.paused {
		s.deferLocked(t)
	} else if s.startLocked(t) {
		s.releaseYield(t)
	}
}

// probe reads a disk, or returns nil where that takes too long.
func (n *names) probe(e *uevent.Event) *identity.Identity {
	n.probes <- struct{}{}
	defer func() { <-n.probes }()
	found := make(chan *identity.Identity, 1)
	go func() {
		id := n.Probe(e)
		found <- &id
	}()
	select {
	case id := <-found:
		return id
	case <-sys.After(probeLimit):
		return nil
	}
}

func (s *Scheduler) warnSlowLocked(e *uevent.Event) {
	if !s.names.slow[e.Devpath] && len(s.names.slow) < maxErrors {
		s.names.slow[e.Devpath] = true
		s.log.Event(log.Warning, "slow", e, "what the disk holds could not be read in "+probeLimit.String()+
			"; it has no names by its contents")
	}
}

func (s *Scheduler) setIdentityLocked(t *task, id *identity.Identity) {
	if id.Keep {
		s.keepContentsLocked(t.event, id)
	}
	t.identity, t.plan = id, nil
	t.event = t.event.With(id.Properties)
}

// keepContentsLocked adds to id the names that a device has by its contents, which cannot be
// read now.
func (s *Scheduler) keepContentsLocked(e *uevent.Event, id *identity.Identity) {
	if was := s.names.found[e.Devpath]; was != nil {
		for _, kv := range was.Properties {
			key, _, _ := strings.Cut(kv, "=")
			if strings.HasPrefix(key, "ID_FS_") || strings.HasPrefix(key, "ID_PART_") {
				id.Properties = append(id.Properties, kv)
			}
		}
	}
	if s.dev.Dir == nil {
		return
	}
	rec := s.dev.Recorded(e)
	if rec == nil {
		return
	}
	for _, path := range rec.Links {
		if isByContents(path) && !slices.ContainsFunc(id.Links, func(l identity.Link) bool { return l.Path == path }) {
			id.Links = append(id.Links, identity.Link{Path: path, Priority: rec.PriorityOf(path)})
		}
	}
}

// isByContents reports whether a name comes from what a disk holds.
func isByContents(path string) bool {
	for _, dir := range []string{"disk/by-uuid/", "disk/by-label/", "disk/by-partuuid/", "disk/by-partlabel/"} {
		if strings.HasPrefix(path, dir) {
			return true
		}
	}
	return false
}

// rememberLocked keeps what the device of t deserves for its later events.
func (s *Scheduler) rememberLocked(t *task) {
	switch {
	case !s.names.active || t.identity == nil:
	case t.event.Action == uevent.Remove:
		delete(s.names.found, t.event.Devpath)
	case s.names.concerns(t.event) && !t.plan.Late:
		if old, moved := t.event.Get("DEVPATH_OLD"); moved {
			delete(s.names.found, old)
		}
		if len(t.identity.Properties) > 0 || len(t.identity.Links) > 1 {
			s.names.found[t.event.Devpath] = t.identity
		}
	}
}

// addNames adds the names that a device deserves to the Plan of its nodes.
func addNames(p *nodes.Plan, id *identity.Identity) {
	if id == nil || len(p.Nodes) == 0 || p.NoNames {
		return
	}
	target := p.Nodes[0].Path
	for _, l := range id.Links {
		taken := func(path string) bool { return path == l.Path }
		if slices.ContainsFunc(p.Nodes, func(n nodes.Node) bool { return taken(n.Path) }) ||
			slices.ContainsFunc(p.Links, func(x nodes.Link) bool { return taken(x.Path) }) {
			continue
		}
		priority := l.Priority
		if p.HasPriority {
			priority = p.Priority
		}
		p.Links = append(p.Links, nodes.Link{Path: l.Path, Target: target, Priority: priority, Name: true})
	}
}

// planLocked returns what is to be done for an event of a device, given what that deserves.
func (s *Scheduler) planLocked(e *uevent.Event, id *identity.Identity, kind Kind) *nodes.Plan {
	var p *nodes.Plan
	if kind.isScan() && e.Dev.IsZero() {
		p = s.rules.PlanScan(e)
	} else {
		p = s.rules.Plan(e)
	}
	if p.Work == nodes.Create {
		addNames(p, id)
	}
	return p
}

// replanLocked returns the Plan by which a device gets once more what it is to have: one on
// record, of which e is an add that /sys tells of.
func (s *Scheduler) replanLocked(e *uevent.Event) *nodes.Plan {
	id := &identity.Identity{}
	if s.names.active {
		if id = s.names.found[e.Devpath]; id == nil {
			found := s.names.Identify(e)
			id = &found
			s.keepContentsLocked(e, id)
		}
		e = e.With(id.Properties)
	}
	p := s.planLocked(e, id, Reported)
	p.Again = true
	return p
}

// renameLocked gives a device other names where an event other than an add brings them: what
// its disk holds has changed.
func (s *Scheduler) renameLocked(t *task) {
	if !s.names.concerns(t.event) || t.plan.Work != nodes.None || t.event.Dev.IsZero() || t.plan.Late {
		return
	}
	s.dev.lock()
	rec := s.dev.Recorded(t.event)
	if rec == nil || rec.State != nodes.Live {
		return // it was not set up, or has left
	}
	add := *t.event
	add.Action = uevent.Add
	p := s.planLocked(&add, t.identity, Reported)
	p.Again = true
	t.plan.Nodes, t.plan.Links = p.Nodes, p.Links // for clients
	if !slices.Equal(linksOf(p), rec.Links) {
		s.carryOutLocked(t, p)
	}
}

// watchLocked has it noticed from now on that somebody writes to a disk, where that can
// change its names.
func (s *Scheduler) watchLocked(t *task) {
	if s.names.watcher == nil || !t.event.Dev.Block || t.plan.Late {
		return
	}
	switch {
	case !t.isRead:
		s.names.watcher.Drop(t.event.Devpath)
	case len(t.plan.Nodes) > 0:
		s.names.watcher.Watch(t.event, s.dev.Path()+"/"+t.plan.Nodes[0].Path)
	}
}

func linksOf(p *nodes.Plan) (paths []string) {
	for _, l := range p.Links {
		paths = append(paths, l.Path)
	}
	return paths
}

// Complete returns the event with the properties of its device, where these are known.
func (s *Scheduler) Complete(e *uevent.Event) *uevent.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	if was := s.names.found[e.Devpath]; was != nil {
		return e.With(was.Properties)
	}
	return e
}

// Identity returns the properties of the device of e, as its last event had them, and the
// paths of all links that it is to have, of which another device may have some.
func (s *Scheduler) Identity(e *uevent.Event) (properties, links []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if was := s.names.found[e.Devpath]; was != nil {
		properties = was.Properties
	}
	if s.dev.Dir == nil {
		return properties, nil
	}
	s.dev.lock()
	defer s.dev.unlock()
	if rec := s.dev.Recorded(e); rec != nil {
		links = rec.Links
	}
	return properties, links
}
