package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/uevent"
)

// conflict is the rule of the graph in its plainest form: the same device, the same name of
// a node, or one devpath at or below the other, before or after a move.
func conflict(a, b *task) bool {
	if !a.event.Dev.IsZero() && a.event.Dev == b.event.Dev {
		return true
	}
	if a.event.Devname != "" && a.event.Devname == b.event.Devname {
		return true
	}
	for _, p := range a.paths() {
		for _, q := range b.paths() {
			if p == q || strings.HasPrefix(p, q+"/") || strings.HasPrefix(q, p+"/") {
				return true
			}
		}
	}
	return false
}

func newGraph() *graph {
	g := &graph{}
	g.init()
	return g
}

// someTask returns a task for an event with these variables.
func someTask(t testing.TB, env ...string) *task {
	t.Helper()
	return newTask(hotplugtest.NewEvent(t, env...))
}

func newTask(e *uevent.Event) *task { return &task{work: &work{event: e}} }

// randomTask returns a task for one of few devices, so that many conflict.
func randomTask(t testing.TB, random *rand.Rand) *task {
	t.Helper()
	path := func() string {
		p := "/devices"
		for range 1 + random.IntN(4) {
			p += "/" + []string{"a", "b", "ab"}[random.IntN(3)]
		}
		return p
	}
	env := []string{"ACTION=add", "DEVPATH=" + path()}
	if random.IntN(5) == 0 {
		env = append(env, "ACTION=move", "DEVPATH_OLD="+path())
	}
	if random.IntN(2) == 0 {
		env = append(env, "MAJOR=8", fmt.Sprintf("MINOR=%d", random.IntN(6)))
		if random.IntN(2) == 0 {
			env = append(env, "SUBSYSTEM=block")
		}
	}
	if random.IntN(3) == 0 {
		env = append(env, fmt.Sprintf("DEVNAME=n%d", random.IntN(6)))
	}
	return someTask(t, env...)
}

// TestGraph compares the graph with the plain rule. Tasks come and end at random; at every
// moment exactly those may run that conflict with no earlier task which is not done.
func TestGraph(t *testing.T) {
	t.Parallel()
	for seed := range uint64(400) {
		random := rand.New(rand.NewPCG(seed, 1))
		g := newGraph()
		var underWay []*task // in the order in which they came
		running := map[*task]bool{}
		coming := 60 // tasks
		for coming > 0 || len(underWay) > 0 {
			if coming > 0 && (len(running) == 0 || random.IntN(3) > 0) {
				coming--
				n := randomTask(t, random)
				g.add(n)
				underWay = append(underWay, n)
				if n.blockers == 0 {
					running[n] = true
				}
			} else {
				ending := pick(random, underWay, running)
				delete(running, ending)
				underWay = slices.DeleteFunc(underWay, func(x *task) bool { return x == ending })
				for _, ready := range g.remove(ending) {
					if running[ready] {
						t.Fatalf("seed %d: %v is ready twice", seed, ready.event)
					}
					running[ready] = true
				}
			}
			checkRunning(t, seed, underWay, running)
			if len(underWay) > 0 && len(running) == 0 {
				t.Fatalf("seed %d: %d tasks wait for each other", seed, len(underWay))
			}
			if g.count != len(underWay) {
				t.Fatalf("seed %d: the count is %d, want %d", seed, g.count, len(underWay))
			}
		}
		checkEmpty(t, g)
	}
}

// pick returns a random one of the tasks that run.
func pick(random *rand.Rand, underWay []*task, running map[*task]bool) *task {
	var all []*task
	for _, x := range underWay {
		if running[x] {
			all = append(all, x)
		}
	}
	return all[random.IntN(len(all))]
}

// checkRunning fails the test where a task runs that must not, or one waits for nothing.
func checkRunning(t *testing.T, seed uint64, underWay []*task, running map[*task]bool) {
	t.Helper()
	for i, later := range underWay {
		blocked := false
		for _, earlier := range underWay[:i] {
			if conflict(earlier, later) {
				blocked = true
				if running[later] {
					t.Fatalf("seed %d: %v runs beside the earlier %v", seed, later.event, earlier.event)
				}
			}
		}
		if !blocked && !running[later] {
			t.Fatalf("seed %d: %v waits for nothing", seed, later.event)
		}
	}
}

// checkEmpty fails the test where a graph without tasks remembers any.
func checkEmpty(t *testing.T, g *graph) {
	t.Helper()
	if g.count != 0 || len(g.path)+len(g.descendants)+len(g.dev)+len(g.name) > 0 {
		t.Errorf("left: count %d, path %v, descendants %v, dev %v, name %v", g.count, g.path, g.descendants, g.dev, g.name)
	}
}

// TestGraphPairs shows which pairs of events conflict.
func TestGraphPairs(t *testing.T) {
	t.Parallel()
	disk := []string{"ACTION=add", "DEVPATH=/devices/pci/block/sda", "MAJOR=8", "MINOR=0", "SUBSYSTEM=block", "DEVNAME=sda"}
	for _, c := range []struct {
		name          string
		first, second []string
		waits         bool
	}{
		{"the same", disk, disk, true},
		{"a child", disk, []string{"ACTION=add", "DEVPATH=/devices/pci/block/sda/sda1"}, true},
		{"a grandchild", disk, []string{"ACTION=add", "DEVPATH=/devices/pci/block/sda/x/y"}, true},
		{"a parent", disk, []string{"ACTION=add", "DEVPATH=/devices/pci"}, true},
		{"a sibling", disk, []string{"ACTION=add", "DEVPATH=/devices/pci/block/sdb"}, false},
		{"a name that begins the same", disk, []string{"ACTION=add", "DEVPATH=/devices/pci/block/sda1"}, false},
		{"the same numbers", disk, []string{"ACTION=add", "DEVPATH=/devices/x/block/y", "MAJOR=8", "MINOR=0"}, true},
		{"the other type", disk, []string{"ACTION=add", "DEVPATH=/devices/x", "MAJOR=8", "MINOR=0"}, false},
		{"the same node", disk, []string{"ACTION=add", "DEVPATH=/devices/x", "DEVNAME=sda"}, true},
		{"moved from there", disk, []string{"ACTION=move", "DEVPATH=/devices/x", "DEVPATH_OLD=/devices/pci/block/sda"}, true},
		{"moved from above", disk, []string{"ACTION=move", "DEVPATH=/devices/x", "DEVPATH_OLD=/devices/pci"}, true},
		{"moved to below", disk, []string{"ACTION=move", "DEVPATH=/devices/pci/block/sda/x", "DEVPATH_OLD=/devices/y"}, true},
		{"what was moved", []string{"ACTION=move", "DEVPATH=/devices/x", "DEVPATH_OLD=/devices/y"}, []string{"ACTION=add", "DEVPATH=/devices/y/z"}, true},
		{"a move into itself", []string{"ACTION=move", "DEVPATH=/devices/x/y", "DEVPATH_OLD=/devices/x"}, []string{"ACTION=add", "DEVPATH=/devices/x"}, true},
		{"without numbers both", []string{"ACTION=add", "DEVPATH=/devices/x"}, []string{"ACTION=add", "DEVPATH=/devices/y"}, false},
	} {
		first, second := someTask(t, c.first...), someTask(t, c.second...)
		if conflict(first, second) != c.waits {
			t.Errorf("%s: the rule of this test says otherwise", c.name)
		}
		g := newGraph()
		g.add(first)
		g.add(second)
		if got := second.blockers > 0; got != c.waits {
			t.Errorf("%s: waits is %v, want %v", c.name, got, c.waits)
		}
		if first.blockers != 0 {
			t.Errorf("%s: the first one waits", c.name)
		}
		ready := g.remove(first)
		if c.waits && !slices.Equal(ready, []*task{second}) {
			t.Errorf("%s: after the first, ready are %v", c.name, ready)
		}
		g.remove(second)
		checkEmpty(t, g)
	}
}

// TestGraphCost counts edges and map entries for many tasks of one device, of its children,
// and of both in turn: they grow as the tasks do, not as their square.
func TestGraphCost(t *testing.T) {
	t.Parallel()
	const many = 10_000
	const disk = "/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda"
	depth := strings.Count(disk, "/")
	for _, c := range []struct {
		name string
		path func(i int) string
	}{
		{"one device", func(int) string { return disk }},
		{"children of one", func(i int) string { return fmt.Sprintf("%s/sda%d", disk, i) }},
		{"a device and its child in turn", func(i int) string { return disk + strings.Repeat("/sda1", i%2) }},
		{"a parent after many children", func(i int) string {
			if i%100 == 99 {
				return disk
			}
			return fmt.Sprintf("%s/sda%d", disk, i)
		}},
	} {
		g := newGraph()
		var tasks []*task
		for i := range many {
			n := someTask(t, "ACTION=change", "DEVPATH="+c.path(i), "MAJOR=8", "MINOR="+fmt.Sprint(i%2), "SUBSYSTEM=block")
			g.add(n)
			tasks = append(tasks, n)
		}
		edges, entries := 0, len(g.path)+len(g.dev)+len(g.name)
		for _, n := range tasks {
			edges += len(n.dependents)
		}
		for _, below := range g.descendants {
			entries += len(below)
		}
		if limit := many * (depth + 3); edges > limit || entries > limit {
			t.Errorf("%s: %d edges and %d entries for %d tasks", c.name, edges, entries, many)
		}
		for _, n := range tasks {
			if n.blockers != 0 {
				t.Fatalf("%s: a task waits for one that came later", c.name)
			}
			g.remove(n)
		}
		checkEmpty(t, g)
	}
}

func TestParents(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		path string
		want []string
	}{
		{"/devices/a/b/c", []string{"/devices/a/b", "/devices/a"}},
		{"/devices/a", nil},
		{"/devices", nil},
	} {
		var got []string
		for p := range parents(c.path) {
			got = append(got, p)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("parents(%q) are %q, want %q", c.path, got, c.want)
		}
		for range parents(c.path) {
			break // the iterator must stop then
		}
	}
}

// TestGraphFreesMemory shows that a graph which held many tasks frees its maps when they are
// done, and that one which held few does not make them anew each time.
func TestGraphFreesMemory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		tasks int
		anew  bool
	}{{manyTasks, false}, {manyTasks + 1, true}} {
		g := newGraph()
		g.path["/devices/mark"] = nil // of the maps as they are now
		var tasks []*task
		for i := range c.tasks {
			n := someTask(t, "ACTION=add", fmt.Sprint("DEVPATH=/devices/d", i))
			g.add(n)
			tasks = append(tasks, n)
		}
		for _, n := range tasks {
			g.remove(n)
		}
		if g.releaseMemory() != c.anew {
			t.Errorf("after %d tasks: releaseMemory returns %v", c.tasks, !c.anew)
		}
		if _, marked := g.path["/devices/mark"]; marked == c.anew || c.anew && g.peak != 0 {
			t.Errorf("after %d tasks: anew %v, peak %d", c.tasks, !marked, g.peak)
		}
	}
}
