package scheduler

import (
	"slices"
	"strings"

	"devspool/conf"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// Identity is what a device deserves.
type Identity struct {
	Properties []string     // KEY=VALUE, each key once
	Links      []nodes.Link // names; each has a Path and a Priority

	// Keep says that what the disk holds cannot be read now: the names that it has by that
	// stay.
	Keep bool

	// Unwiped says that the disk is to be read once somebody has written to it.
	Unwiped bool
}

// Identifier says which names and properties a device deserves.
type Identifier interface {
	// Lasting returns the properties that the device of e has by earlier events, and that its
	// identity does not say again. Before returns those that it had.
	Lasting(e *uevent.Event, before func(*uevent.Event) []string) []string

	// Identify answers by the event and sysfs alone. It may return one and the same Identity
	// for several events of a device that is no disk.
	Identify(*uevent.Event) *Identity

	// NeedsContents reports whether Probe would find more, or Identify might have to wait for the
	// device.
	NeedsContents(*uevent.Event) bool

	// Probe reads the contents of the disk too. It may take as long as the disk does.
	Probe(*uevent.Event) *Identity

	// Unread is Identify for a device that does not answer.
	Unread(*uevent.Event) *Identity
}

// Watcher has the kernel send a change event for a disk that was written to; see package
// contents. Neither method may block.
type Watcher interface {
	// Watch begins to watch the disk of e at the path of its node.
	Watch(e *uevent.Event, node string)

	// Drop ends the watch of the disk at a devpath.
	Drop(devpath string)
}

// names are the links and properties that devices deserve. Scheduler.mu guards it.
type names struct {
	Identifier                              // nil where devices get no names
	sys        sysfs.FS                     // names come from it where it is the kernel's own
	wanted     bool                         // by the config
	active     bool                         // wanted, and sys is the kernel's own, as it was seen last
	early      bool                         // sys was not mounted then
	watcher    Watcher                      // or nil
	stored     func(*uevent.Event) []string // see Options.Stored
	before     func(*uevent.Event) []string // the method earlier, made once
	found      map[string]*Identity         // by devpath, of devices that were set up
}

// init sets up names. Wanted is what the config says.
func (n *names) init(o *Options, wanted bool) {
	n.Identifier, n.watcher, n.sys, n.wanted, n.stored = o.Names, o.Watcher, o.Sys, wanted, o.Stored
	if o.Names != nil {
		n.found, n.before = map[string]*Identity{}, n.earlier
		n.refresh()
	}
}

// refresh looks whether /sys is the kernel's own.
func (n *names) refresh() {
	n.active = n.wanted && n.Identifier != nil && n.sys.IsKernels()
	n.early = !n.active && n.Identifier != nil && !n.sys.Mounted()
}

// start looks whether /sys is mounted by now, where it was not: the first helper of a boot
// may be older.
func (n *names) start() {
	if n.early {
		n.refresh()
	}
}

// concerns reports whether the device of e may have other names than before.
// An unbind or an offline leaves the device where it is, with the names that it has.
func (n *names) concerns(e *uevent.Event) bool {
	return n.active && e.Action != uevent.Remove && e.Action != "unbind" && e.Action != "offline"
}

// remember keeps what the device of a task deserves for its later events.
func (n *names) remember(t *task) {
	switch {
	case !n.active || t.identity == nil:
	case t.event.Action == uevent.Remove:
		delete(n.found, t.event.Devpath)
	case n.concerns(t.event) && !t.plan.Late:
		if t.event.Action == uevent.Move {
			// The kernel adds this to a move (kobject_rename and kobject_move in lib/kobject.c).
			old, _ := t.event.Get("DEVPATH_OLD")
			delete(n.found, old)
		}
		// The one link that each device has, by its numbers, can be found out again at any time.
		if len(t.identity.Properties) > 0 || len(t.identity.Links) > 1 {
			n.found[t.event.Devpath] = t.identity
		}
	}
}

// identify finds out what the device of t deserves, and completes its event by that. It
// returns false where the contents of a disk are to be read first.
func (a *applier) identify(t *task) (isKnown bool) {
	n := &a.names
	if t.identity != nil || !n.active {
		return true
	}
	t.lasting = n.Lasting(t.event, n.before)
	t.event = t.event.With(t.lasting)
	switch {
	case !n.concerns(t.event):
		if was := n.found[t.event.Devpath]; was != nil { // what leaves is known by its names
			t.event = t.event.With(was.Properties)
		}
		t.identity = &Identity{}
	case t.isRead || n.NeedsContents(t.event):
		t.isRead = true
		return false
	default:
		a.setIdentity(t, n.Identify(t.event))
	}
	return true
}

// earlier returns the properties that the device of e has, or had before this process began.
func (n *names) earlier(e *uevent.Event) []string {
	if was := n.found[e.Devpath]; was != nil {
		return was.Properties
	}
	if n.stored != nil {
		return n.stored(e)
	}
	return nil
}

// identifyUnread is identify for a disk that did not answer in time.
func (a *applier) identifyUnread(t *task) {
	// Keep has the names by contents stay: the disk may be the same one, and only slow.
	id := a.names.Unread(t.event)
	id.Keep = true
	a.setIdentity(t, id)
}

// setIdentity gives t what its device deserves, once that is known, and completes its event by it.
func (a *applier) setIdentity(t *task, id *Identity) {
	if id.Keep {
		a.keepContents(t.event, id)
	}
	for _, kv := range t.lasting { // for later events
		if !slices.Contains(id.Properties, kv) {
			id.Properties = append(id.Properties, kv)
		}
	}
	// A plan that was made without these properties is out of date.
	t.identity, t.plan = id, nil
	t.event = t.event.With(id.Properties)
}

// keepContents adds to id the names that a device has by its contents, which cannot be read
// now.
func (a *applier) keepContents(e *uevent.Event, id *Identity) {
	if was := a.names.found[e.Devpath]; was != nil {
		for _, kv := range was.Properties {
			if strings.HasPrefix(kv, "ID_FS_") || strings.HasPrefix(kv, "ID_PART_") {
				id.Properties = append(id.Properties, kv)
			}
		}
	}
	if a.isDryRun() {
		return
	}
	rec := a.dev.Recorded(e)
	if rec == nil {
		return
	}
	for _, path := range rec.Names {
		if isByContents(path) && !slices.ContainsFunc(id.Links, func(l nodes.Link) bool { return l.Path == path }) {
			id.Links = append(id.Links, nodes.Link{Path: path, Priority: rec.PriorityOf(path)})
		}
	}
}

// isByContents reports whether a name comes from what a disk holds.
func isByContents(path string) bool {
	for _, dir := range [...]string{"disk/by-uuid/", "disk/by-label/", "disk/by-partuuid/", "disk/by-partlabel/"} {
		if strings.HasPrefix(path, dir) {
			return true
		}
	}
	return false
}

// planOf returns what is to be done for an event of a device, given what that deserves. The
// event of the Plan has the properties that rules give it.
func (a *applier) planOf(e *uevent.Event, id *Identity, kind Kind) (p *nodes.Plan) {
	if kind.isScan() && e.Dev.IsZero() {
		p = a.rules.PlanScan(e)
	} else {
		p = a.rules.Plan(e)
	}
	if !conf.HasNames {
		return p
	}
	p.Event = e.With(p.Properties)
	if id != nil && !p.NoNames {
		p.Properties = append(slices.Clone(id.Properties), p.Properties...)
		if p.Work == nodes.Create {
			addNames(p, id)
		}
	}
	return p
}

// addNames adds the names that a device deserves to the Plan of its nodes.
func addNames(p *nodes.Plan, id *Identity) {
	if len(p.Nodes) == 0 {
		return
	}
	target := p.Nodes[0].Path
	if shareNames(p, id, target) {
		return
	}
	p.Links = slices.Grow(p.Links, len(id.Links))
	for i := range id.Links {
		l := &id.Links[i]
		// A rule's own link of that path prevails.
		if p.Claims(l.Path) {
			continue
		}
		priority := l.Priority
		if p.HasPriority {
			priority = p.Priority
		}
		p.Links = append(p.Links, nodes.Link{Path: l.Path, Target: target, Priority: priority, Name: true})
	}
}

// shareNames has p share the links of id, which saves a copy for most devices, unless p or an earlier
// Plan of them says otherwise.
func shareNames(p *nodes.Plan, id *Identity, target string) (done bool) {
	if len(p.Links) > 0 || p.HasPriority {
		return false
	}
	for i := range id.Links {
		l := &id.Links[i]
		if l.Target == "" {
			l.Target, l.Name = target, true
		}
		if l.Target != target || p.Claims(l.Path) {
			return false
		}
	}
	// The capacity is cut so that an append makes a copy, and id keeps its own.
	p.Links = id.Links[:len(id.Links):len(id.Links)]
	return true
}

// planAgain returns the Plan by which a device gets once more what it is to have. E is an add
// event of it that was made from /sys.
func (a *applier) planAgain(e *uevent.Event) *nodes.Plan {
	var id *Identity
	if n := &a.names; conf.HasNames && n.active {
		// Contents are not read here, with mu held: what the record has of them stays.
		if id = n.found[e.Devpath]; id == nil {
			id = n.Identify(e)
			a.keepContents(e, id)
		}
		e = e.With(id.Properties)
	}
	p := a.planOf(e, id, Reported)
	p.Again = true
	return p
}

// renew gives a device other names where an event other than an add brings them: what a disk
// holds has changed, or a driver has learned late what a port is called.
func (a *applier) renew(t *task) {
	p := t.plan
	if !a.names.concerns(t.event) || p.Work != nodes.None || p.Late || !a.mayBeRenamed(t) {
		return
	}
	a.dev.lock()
	if rec := a.dev.Recorded(t.event); rec == nil || rec.State != nodes.Live {
		return // it was not set up, or has left
	}
	// Rules give nodes and links to add events.
	// A copy: other goroutines, those of observers say, may have the event.
	add := *t.event
	add.Action = uevent.Add
	again := a.planOf(&add, t.identity, Reported)
	again.Again = true
	// Most change events bring no other names: then /dev stays untouched.
	if !a.dev.HasAll(again) {
		a.carryOut(t, again)
		again = again.Actual()
	}
	p.Nodes, p.Links, p.Claimed = again.Nodes, again.Links, again.Claimed // for clients
}

// mayBeRenamed spares most events of devices that have no names but that by their numbers.
func (a *applier) mayBeRenamed(t *task) bool {
	return t.event.Dev.Block || !t.event.Dev.IsZero() && (len(t.identity.Links) > 1 || a.names.found[t.event.Devpath] != nil)
}

// watch watches the disk of t from now on, where what is written to it can change its names.
func (a *applier) watch(t *task) {
	if a.names.watcher == nil || !t.event.Dev.Block || t.plan.Late {
		return
	}
	switch {
	// Its names do not depend on what it holds, or it has gone. A volume that is not wiped yet is
	// read after that, which is a write like any other.
	case !t.isRead && (t.identity == nil || !t.identity.Unwiped):
		a.names.watcher.Drop(t.event.Devpath)
	case len(t.plan.Nodes) > 0:
		a.names.watcher.Watch(t.event, a.dev.Path()+"/"+t.plan.Nodes[0].Path)
	}
}

// watchUnset is watch for a disk that is about to be read, by the node that the kernel may have
// made: what is written meanwhile is not missed.
func (a *applier) watchUnset(t *task) {
	if a.names.watcher != nil && !a.isDryRun() && t.event.Dev.Block && t.event.Devname != "" {
		a.names.watcher.Watch(t.event, a.dev.Path()+"/"+t.event.Devname)
	}
}

// GivesNames reports whether the device of e gets names and properties by what it is.
func (s *Scheduler) GivesNames(e *uevent.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.applier.names.active && !s.applier.rules.Plan(e).NoNames
}

// Complete returns the event with the properties of its device, where these are known.
func (s *Scheduler) Complete(e *uevent.Event) *uevent.Event {
	if !conf.HasNames {
		return e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if was := s.applier.names.found[e.Devpath]; was != nil {
		return e.With(was.Properties)
	}
	return e
}

// Identity returns the properties of the device of e, as its last event had them, and the
// paths of all links that it is to have, of which another device may have some.
func (s *Scheduler) Identity(e *uevent.Event) (properties, links []string) {
	if !conf.HasNames {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := &s.applier
	if was := a.names.found[e.Devpath]; was != nil {
		properties = was.Properties
	}
	if a.isDryRun() {
		return properties, nil
	}
	a.dev.lock()
	defer a.dev.unlock()
	if rec := a.dev.Recorded(e); rec != nil {
		links = rec.Links
	}
	return properties, links
}
