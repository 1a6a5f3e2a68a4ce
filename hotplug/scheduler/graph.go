package scheduler

import (
	"strings"

	"devspool/hotplug/uevent"
)

// graph says which tasks may run side by side: those that do not conflict. Two
// conflict if they are about the same device or node, or if one's device lies
// below the other's in /sys. Of two that conflict, the later waits.
//
// Each task waits only for the last of each kind before it, since those have
// waited themselves. So a task costs as much as its devpath is deep, however
// many are queued.
type graph struct {
	path        map[string]*task            // the last task at a devpath
	descendants map[string]map[string]*task // the same below a devpath, since the last task at it
	dev         map[uevent.Dev]*task        // the last task of a device
	name        map[string]*task            // the last task of a node's name
	count       int
	peak        int // the most that were in it at once since it was empty
}

func newGraph() *graph {
	return &graph{
		path:        map[string]*task{},
		descendants: map[string]map[string]*task{},
		dev:         map[uevent.Dev]*task{},
		name:        map[string]*task{},
	}
}

// isFree reports whether t conflicts with nothing that is under way.
func (g *graph) isFree(t *task) bool {
	if g.count == 0 {
		return true
	}
	if g.dev[t.event.Dev] != nil || g.name[t.event.Devname] != nil {
		return false // neither holds the zero value
	}
	for _, path := range t.paths() {
		if g.path[path] != nil || len(g.descendants[path]) > 0 {
			return false
		}
		for parent := range parents(path) {
			if g.path[parent] != nil {
				return false
			}
		}
	}
	return true
}

// add queues t. It may be started at once if t.blockers is 0 then.
func (g *graph) add(t *task) {
	g.count++
	g.peak = max(g.peak, g.count)
	if !t.event.Dev.IsZero() {
		t.dependOn(g.dev[t.event.Dev])
		g.dev[t.event.Dev] = t
	}
	if t.event.Devname != "" {
		t.dependOn(g.name[t.event.Devname])
		g.name[t.event.Devname] = t
	}
	for _, path := range t.paths() {
		t.dependOn(g.path[path])
		for _, child := range g.descendants[path] {
			t.dependOn(child)
		}
		delete(g.descendants, path) // a later task waits for t, and so for these
	}
	for _, path := range t.paths() {
		g.path[path] = t
		for parent := range parents(path) {
			t.dependOn(g.path[parent])
			if g.descendants[parent] == nil {
				g.descendants[parent] = map[string]*task{}
			}
			g.descendants[parent][path] = t
		}
	}
}

// remove takes out a task that is done, and returns those that may be started now.
func (g *graph) remove(t *task) (ready []*task) {
	g.count--
	forgetLast(g.dev, t.event.Dev, t)
	forgetLast(g.name, t.event.Devname, t)
	for _, path := range t.paths() {
		forgetLast(g.path, path, t)
		for parent := range parents(path) {
			forgetLast(g.descendants[parent], path, t)
			if len(g.descendants[parent]) == 0 {
				delete(g.descendants, parent)
			}
		}
	}
	for _, n := range t.dependents {
		if n.blockers--; n.blockers == 0 {
			ready = append(ready, n)
		}
	}
	return ready
}

// manyTasks is how many tasks make maps that are worth giving back.
const manyTasks = 1024

// ReleaseMemory frees the memory of a long queue that has come to its end, and
// reports whether there was one. A map keeps its own, whatever is taken out of it.
func (g *graph) releaseMemory() bool {
	if g.count > 0 || g.peak <= manyTasks {
		return false
	}
	*g = *newGraph()
	return true
}

func forgetLast[K comparable](last map[K]*task, key K, t *task) {
	if last[key] == t {
		delete(last, key)
	}
}

// dependOn makes t wait for an earlier task.
func (t *task) dependOn(earlier *task) {
	if earlier == nil || earlier == t {
		return
	}
	if n := len(earlier.dependents); n > 0 && earlier.dependents[n-1] == t {
		return // it waits for it already, for another reason
	}
	earlier.dependents = append(earlier.dependents, t)
	t.blockers++
}

// paths returns the devpaths that t is about: after a move there are two, and so where t
// itself renames an interface.
func (t *task) paths() []string {
	old, moved := t.event.Get("DEVPATH_OLD")
	if t.event.Subsystem == "net" && !moved {
		if old, moved = t.event.Get(uevent.InterfaceOld); moved {
			old = t.event.Devpath[:len(t.event.Devpath)-len(t.event.Sysname())] + old
		}
	}
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
