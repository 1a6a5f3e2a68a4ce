package hotplug

import (
	"strings"

	"devspool/hotplug/uevent"
)

// task is an event on its way, from its arrival until its commands are done.
// Very many may have to wait, so this is small.
type task struct {
	*step      // nil while it waits
	rest  slot // then the event's text
	batch *Batch

	next  []*task // later tasks that wait for this one
	waits int32   // earlier tasks that it conflicts with and that are not done
	fresh bool    // the device lives: /sys was read under this lock, or it has just come
	made  bool    // no source told of the event: a comparison with /sys misses it
	muted bool    // nobody is to hear of it: it came by itself meanwhile
	scan  bool    // a scan of /sys made the event

	outlasted bool // the event is at its end, and its commands go on
}

func newTask(e *uevent.Event, b *Batch) *task { return &task{step: &step{event: e}, batch: b} }

// drop forgets all of a task that is at its end: others of its turn, which lie beside
// it in memory, may stay for long.
func (t *task) drop() {
	*t.step = step{}
	*t = task{}
}

// order says which tasks may run side by side: those that do not conflict. Two
// conflict if they are about the same device or node, or if one's device lies
// below the other's in /sys. Of two that conflict, the later waits.
//
// Each task waits only for the last of each kind before it, since those have
// waited themselves. So a task costs as much as its devpath is deep, however
// many are queued.
type order struct {
	path  map[string]*task            // the last task at a devpath
	below map[string]map[string]*task // the same below a devpath, since the last task at it
	dev   map[uevent.Dev]*task        // the last task of a device
	name  map[string]*task            // the last task of a node's name
	count int
	peak  int // the most that were in it at once since it was empty
}

func newOrder() *order {
	return &order{
		path:  map[string]*task{},
		below: map[string]map[string]*task{},
		dev:   map[uevent.Dev]*task{},
		name:  map[string]*task{},
	}
}

// free reports whether t conflicts with nothing that is under way.
func (o *order) free(t *task) bool {
	if o.count == 0 {
		return true
	}
	if o.dev[t.event.Dev] != nil || o.name[t.event.Devname] != nil {
		return false // neither holds the zero value
	}
	for _, path := range t.paths() {
		if o.path[path] != nil || len(o.below[path]) > 0 {
			return false
		}
		for parent := range parents(path) {
			if o.path[parent] != nil {
				return false
			}
		}
	}
	return true
}

// enter queues t. It may run at once if t.waits is 0 then.
func (o *order) enter(t *task) {
	o.count++
	o.peak = max(o.peak, o.count)
	if !t.event.Dev.IsZero() {
		t.after(o.dev[t.event.Dev])
		o.dev[t.event.Dev] = t
	}
	if t.event.Devname != "" {
		t.after(o.name[t.event.Devname])
		o.name[t.event.Devname] = t
	}
	for _, path := range t.paths() {
		t.after(o.path[path])
		for _, child := range o.below[path] {
			t.after(child)
		}
		delete(o.below, path) // whoever comes next waits for t, and so for these
	}
	for _, path := range t.paths() {
		o.path[path] = t
		for parent := range parents(path) {
			t.after(o.path[parent])
			if o.below[parent] == nil {
				o.below[parent] = map[string]*task{}
			}
			o.below[parent][path] = t
		}
	}
}

// leave takes out a task that is done, and returns those that may run now.
func (o *order) leave(t *task) (ready []*task) {
	o.count--
	forget(o.dev, t.event.Dev, t)
	forget(o.name, t.event.Devname, t)
	for _, path := range t.paths() {
		forget(o.path, path, t)
		for parent := range parents(path) {
			forget(o.below[parent], path, t)
			if len(o.below[parent]) == 0 {
				delete(o.below, parent)
			}
		}
	}
	for _, n := range t.next {
		if n.waits--; n.waits == 0 {
			ready = append(ready, n)
		}
	}
	return ready
}

// manyTasks is how many tasks make maps that are worth giving back.
const manyTasks = 1024

// shed gives back the memory of a long queue that has come to its end, and
// reports whether there was one. A map keeps its own, whatever is taken out of it.
func (o *order) shed() bool {
	if o.count > 0 || o.peak <= manyTasks {
		return false
	}
	*o = *newOrder()
	return true
}

func forget[K comparable](last map[K]*task, key K, t *task) {
	if last[key] == t {
		delete(last, key)
	}
}

// after makes t wait for an earlier task.
func (t *task) after(earlier *task) {
	if earlier == nil || earlier == t {
		return
	}
	if n := len(earlier.next); n > 0 && earlier.next[n-1] == t {
		return // it waits for it already, for another reason
	}
	earlier.next = append(earlier.next, t)
	t.waits++
}

// paths returns the devpaths that t is about: after a move there are two.
func (t *task) paths() []string {
	old, moved := t.event.Get("DEVPATH_OLD")
	if !moved || old == t.event.Devpath {
		return []string{t.event.Devpath}
	}
	return []string{t.event.Devpath, old}
}

// parents yields the devpaths above path, but for /devices itself, which no event
// is about.
func parents(path string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for {
			slash := strings.LastIndexByte(path, '/')
			if slash <= 0 {
				return
			}
			if path = path[:slash]; path == "/devices" || !yield(path) {
				return
			}
		}
	}
}
