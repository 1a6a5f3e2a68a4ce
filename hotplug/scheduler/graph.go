package scheduler

import (
	"strings"

	"devspool/hotplug/uevent"
)

// graph is the conflict graph of the tasks under way: its edges say which task waits for
// which. Two tasks conflict if they have the same device or the same node name, or if the
// device of one is, or was before a move, at or below that of the other in /sys. Of two
// that conflict, the later one waits.
//
// A task waits only for the last earlier one of each kind, since that has waited for those
// before it. So the cost of a task grows with the depth of its devpath, not with the number
// of tasks.
type graph struct {
	path        map[string]*task            // the last task at a devpath
	descendants map[string]map[string]*task // by devpath: path, of the devpaths below it that came after the last task at it
	dev         map[uevent.Dev]*task        // the last task of a device with numbers
	name        map[string]*task            // the last task with a DEVNAME
	count       int                         // tasks in the graph
	peak        int                         // the largest count since init
}

// init makes the maps of a graph without tasks.
func (g *graph) init() {
	g.path = map[string]*task{}
	g.descendants = map[string]map[string]*task{}
	g.dev = map[uevent.Dev]*task{}
	g.name = map[string]*task{}
	g.peak = 0
}

// isFree reports whether t conflicts with no task in the graph. Most events find it empty.
func (g *graph) isFree(t *task) bool { return g.count == 0 || !g.conflicts(t) }

// conflicts reports whether t conflicts with a task in the graph.
func (g *graph) conflicts(t *task) bool {
	if g.dev[t.event.Dev] != nil || g.name[t.event.Devname] != nil {
		return true // no task has a zero key
	}
	for _, path := range t.paths() {
		if g.path[path] != nil || len(g.descendants[path]) > 0 {
			return true
		}
		for parent := range parents(path) {
			if g.path[parent] != nil {
				return true
			}
		}
	}
	return false
}

// add adds t as the last task. It waits for none if t.blockers is 0 then.
func (g *graph) add(t *task) {
	g.count++
	g.peak = max(g.peak, g.count)
	if !t.event.Dev.IsZero() {
		t.dependOn(g.dev[t.event.Dev])
		g.dev[t.event.Dev] = t
	}
	// Two devices of one name, such as one that comes while the other one leaves, want the same node.
	if t.event.Devname != "" {
		t.dependOn(g.name[t.event.Devname])
		g.name[t.event.Devname] = t
	}
	for _, path := range t.paths() {
		t.dependOn(g.path[path])
		// A disk's remove waits for those of its partitions, say; below, a partition's add for the disk's.
		for _, child := range g.descendants[path] {
			t.dependOn(child)
		}
		delete(g.descendants, path) // a later task that waits for t waits for these by that
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

// remove removes a task that is done, and returns those that have no blocker left.
func (g *graph) remove(t *task) (ready []*task) {
	g.count--
	forgetLast(g.dev, t.event.Dev, t)
	forgetLast(g.name, t.event.Devname, t)
	for _, path := range t.paths() {
		forgetLast(g.path, path, t)
		for parent := range parents(path) {
			forgetLast(g.descendants[parent], path, t)
			if len(g.descendants[parent]) == 0 {
				// An empty map for each parent would stay for ever.
				delete(g.descendants, parent)
			}
		}
	}
	for _, later := range t.dependents {
		if later.blockers--; later.blockers == 0 {
			ready = append(ready, later)
		}
	}
	return ready
}

// manyTasks is from which peak on the memory of the maps is worth freeing.
const manyTasks = 1024

// releaseMemory frees the memory that a long queue has left, and reports whether there was
// one. A Go map does not shrink when keys are deleted, so the maps are made anew.
func (g *graph) releaseMemory() bool {
	if g.count > 0 || g.peak <= manyTasks {
		return false
	}
	g.init()
	return true
}

// forgetLast deletes key, unless a later task than t has it.
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
	// A task may be found by its numbers, its name and its path. While t is added no other task gets
	// an edge, so only the last one has to be compared.
	if n := len(earlier.dependents); n > 0 && earlier.dependents[n-1] == t {
		return // the edge is there already
	}
	earlier.dependents = append(earlier.dependents, t)
	t.blockers++
}

// paths returns the devpaths of t: for a move, and where t itself renames an interface, the new
// one and the old one.
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

// parents yields the devpaths above path, the nearest first, but not /devices itself, which
// is no device.
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
