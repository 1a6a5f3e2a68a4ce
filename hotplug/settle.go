package hotplug

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// settled waits until nothing is under way and nothing came for quiet. It
// reports false where that took until timeout, or stop was closed.
func (c *control) settled(quiet time.Duration, timeout, stop <-chan struct{}) bool {
	for {
		// What leaves the one is in the other before, so this order misses nothing.
		if !c.source.pending() && c.road.idle() && c.road.silence() >= quiet {
			return true
		}
		select {
		case <-sys.After(sys.PollInterval):
		case <-timeout:
			return false
		case <-stop:
			return false
		}
	}
}

// wait waits for devices: TIMEOUT REF...
func (c *control) wait(q *request) error {
	w := c.road.watch(false)
	defer c.road.unwatch(w)
	return c.road.await(w, c.source.pending, c.road.taskOf(q.pid), q.args, q.say, q.gone)
}

// await waits for what args say. Events come by w. While events are pending that are
// older than what is there, nobody knows whether they are about it: the kernel's
// devtmpfs has a node before its event comes. Own is the task that waits itself, or nil.
func (r *Road) await(w *watch, pending func() bool, own *task, args []string, say func(line string), stop <-chan struct{}) error {
	refs, timeout, err := r.parseRefs(args)
	if err != nil {
		return err
	}
	over := sys.After(timeout)
	var mark uint64 // the last event's number when all was there first
	var seen []string
	r.survey(refs)
	for {
		for _, e := range r.take(w) {
			for _, f := range refs {
				f.learn(e)
			}
			seen = append(seen[max(0, len(seen)-maxSeen):], strings.TrimSpace(e.Action+" "+e.Devpath+" "+e.Devname))
		}
		unsure := pending() // first: what leaves the socket is on the road before
		missing := r.missing(refs, own, true)
		if missing == "" && (!unsure || mark > 0 && r.reached(mark)) {
			return nil
		}
		if missing == "" && mark == 0 {
			mark = r.Sys.Seqnum()
		}
		select {
		case <-w.poke:
			continue
		case <-sys.After(10 * sys.PollInterval): // others make nodes too
			continue
		case <-over:
			if missing == "" {
				return nil
			}
		case <-stop:
		}
		for _, line := range seen {
			say("seen meanwhile: " + line)
		}
		return errors.New("timed out: not there:" + missing)
	}
}

// maxSeen is how many events are told of to who waited in vain: the last ones.
const maxSeen = 100

func (r *Road) parseRefs(args []string) (refs []*ref, timeout time.Duration, err error) {
	if len(args) == 0 {
		return nil, 0, errors.New("nothing to wait for")
	}
	if timeout, err = ParseSeconds(args[0]); err != nil {
		return nil, 0, err
	}
	for _, text := range args[1:] {
		f, err := r.parseRef(text)
		if err != nil {
			return nil, 0, err
		}
		refs = append(refs, f)
	}
	return refs, timeout, nil
}

// missing names those of refs that are not there.
func (r *Road) missing(refs []*ref, own *task, told bool) (names string) {
	for _, f := range refs {
		if !r.present(f, own, told) {
			names += " " + f.text
		}
	}
	return names
}

// ref says what is waited for: a path below /dev, a device's place in /sys, or a
// property of an event.
type ref struct {
	text string

	node       string // a path, or ""
	devpath    string // or a devpath
	key, value string // or a property
	has        map[string]bool
}

func (r *Road) parseRef(text string) (*ref, error) {
	f := &ref{text: text}
	key, value, property := strings.Cut(text, "=")
	below := func(dir string) (string, bool) { return strings.CutPrefix(text, strings.TrimSuffix(dir, "/")+"/") }
	if name, is := below(r.Dev.Path()); is {
		f.node = r.Dev.Path() + "/" + name
	} else if name, is := below("/dev"); is {
		f.node = r.Dev.Path() + "/" + name
	} else if path, is := below(string(r.Sys)); is {
		f.devpath = "/" + path
	} else if strings.HasPrefix(text, "/") {
		f.devpath = text
	} else if property && key != "" {
		f.key, f.value = key, value
		if key == "DEVNAME" {
			f.value = strings.TrimPrefix(value, "/dev/")
		}
	} else {
		return nil, errors.New("cannot wait for " + strconv.Quote(text) +
			"; name a path below /dev, a devpath, or KEY=VALUE of an event")
	}
	return f, nil
}

// survey looks which of the devices that are there have the properties of refs.
func (r *Road) survey(refs []*ref) {
	if !slices.ContainsFunc(refs, func(f *ref) bool { return f.key != "" }) {
		return
	}
	events, _ := r.Sys.Events(uevent.Add, "", r.Dev.Path())
	for _, f := range refs {
		f.has = map[string]bool{}
	}
	for _, e := range events {
		for _, f := range refs {
			f.learn(e)
		}
	}
}

// learn notes whether the device of e has the property.
func (f *ref) learn(e *uevent.Event) {
	if f.key == "" {
		return
	}
	delete(f.has, e.Devpath)
	if _, late := e.Get(uevent.LateKey); late || e.Action == uevent.Remove {
		return
	}
	values := e.Values(f.key)
	for value, said := values.Next(); said; value, said = values.Next() {
		if f.key == "DEVNAME" {
			value = strings.TrimPrefix(value, "/dev/")
		}
		if value == f.value {
			f.has[e.Devpath] = true
		}
	}
}

// present reports whether what f says is there, and no event about it is under way.
// Told says that events tell of every device: one is there once it was set up.
func (r *Road) present(f *ref, own *task, told bool) bool {
	if f.key != "" {
		r.mu.Lock()
		defer r.mu.Unlock()
		for devpath := range f.has {
			if r.order.path[devpath] == nil {
				return true
			}
		}
		return false
	}
	var st unix.Stat_t
	if f.node != "" && unix.Stat(f.node, &st) != nil {
		return false
	}
	free := func(under *task) bool { return under == nil || under == own }
	devpath, err := r.Sys.Find(f.node+f.devpath, r.Dev.Path())
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		return f.node != "" && free(r.order.dev[sysfs.NodeDev(&st)]) // no node of a device
	}
	e, err := r.Sys.Event(uevent.Add, devpath)
	if err != nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !free(r.order.path[devpath]) || !free(r.order.dev[e.Dev]) {
		return false
	}
	if !told || r.Rules.Plan(e).Work != nodes.Make {
		return true
	}
	r.lock()
	defer r.unlock()
	return r.lockless || r.Dev.IsSetUp(e)
}

// watch collects the events that come to their end while somebody waits for one.
type watch struct {
	early bool          // tell of events when they come, not at their end
	poke  chan struct{} // holds a token when there is something new
	seen  []*uevent.Event
}

// tell keeps an event for those who watch. The Road's mutex is locked.
func (r *Road) tell(e *uevent.Event, early bool) {
	for w := range r.watches {
		if w.early != early {
			continue
		}
		w.seen = append(w.seen, e)
		select {
		case w.poke <- struct{}{}:
		default:
		}
	}
}

// watch begins to collect the events that come to their end, or early, when they
// take the road.
func (r *Road) watch(early bool) *watch {
	w := &watch{early: early, poke: make(chan struct{}, 1)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watches[w] = true
	return w
}

// take returns what was collected since the last call.
func (r *Road) take(w *watch) []*uevent.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := w.seen
	w.seen = nil
	return seen
}

func (r *Road) unwatch(w *watch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.watches, w)
}

// idle reports whether no event is under way, and no command.
func (r *Road) idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.order.count == 0 && r.coming == 0
}

// reached reports whether the event of that number, or a later one, took the road.
func (r *Road) reached(seqnum uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ledger.seqnum >= seqnum
}

// silence returns how long no event has come.
func (r *Road) silence() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ledger.last.Age()
}
