package nodes

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"devspool/hotplug/uevent"
)

// rivals are devices with plans that want the same paths, sorted by devpath.
func rivals() []*Plan {
	return []*Plan{
		makes("b8:0", "sda", "disk 0660 0:1", "first 0660 0:1"),
		makes("b8:16", "sdb", "disk 0660 0:2", "by/last 0660 0:2"),
		makes("b8:32", "sdc", "disk 0660 0:3", "first 0660 0:3", "by/last 0660 0:3"),
		makes("b8:48", "sdd", "sdd 0660 0:4", "by/last 0660 0:4"),
	}
}

// maxReapplied is how often applyAll applies the Plan of one device.
const maxReapplied = 8

// applyAll applies a plan, and then those of the devices that it freed a path for.
func applyAll(b *board, p *Plan, byDevpath map[string]*Plan) {
	b.Helper()
	applied := map[string]int{}
	for todo := []*Plan{p}; len(todo) > 0; todo = todo[1:] {
		devpath := todo[0].Event.Devpath
		if applied[devpath]++; applied[devpath] > maxReapplied {
			b.Fatalf("%sis without an end: %s", p, todo[0])
		}
		b.apply(todo[0])
		for _, devpath := range b.d.Released() {
			if heir := byDevpath[devpath.Devpath]; heir != nil {
				todo = append(todo, heir)
			}
		}
	}
}

// TestRivals adds and removes, in any order, devices that want the same paths.
// After each step /dev holds what a coldplug of those that are there would make.
func TestRivals(t *testing.T) {
	eachWay(t, func(b *board) {
		for seed := range uint64(8) {
			random := rand.New(rand.NewPCG(seed, 0))
			alive := map[string]*Plan{}
			var steps []string
			for range 12 {
				p := rivals()[random.IntN(len(rivals()))]
				devpath := p.Event.Devpath
				if alive[devpath] != nil && random.IntN(4) > 0 {
					delete(alive, devpath)
					p = removal(p)
				} else {
					if random.IntN(4) == 0 { // another config, which gives the device its own name
						p = makes(p.Event.ID(), p.Event.Devname, p.Event.Devname+" 0660 0:9")
					}
					alive[devpath] = p
				}
				steps = append(steps, p.Event.Action+" "+p.Event.Devname+" "+fmt.Sprint(len(p.Nodes)))
				applyAll(b, p, alive)
				want := fresh(b.T, nil, alive, slices.Sorted(maps.Keys(alive)))
				if got := b.tree(""); !slices.Equal(got, want) {
					b.Fatalf("seed %d: after %s /dev holds\n\t%s\na coldplug makes\n\t%s", seed, strings.Join(steps, ", "),
						strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
				}
			}
			for _, p := range rivals() {
				delete(alive, p.Event.Devpath)
				applyAll(b, clears(p.Event.ID(), p.Event.Devname), alive)
			}
			b.check()
			b.checkRecord()
		}
	})
}

// fresh returns what a new directory holds after all that lives came in this order.
func fresh(t *testing.T, rank func(*Record) Rank, alive map[string]*Plan, order []string) []string {
	t.Helper()
	b := newBoard(t, t.TempDir())
	defer b.d.Close()
	b.d.Rank = rank
	for _, devpath := range order {
		applyAll(b, alive[devpath], alive)
	}
	return b.tree("")
}

// removal returns the plan of the remove of a device that p set up.
func removal(p *Plan) *Plan {
	e := event(uevent.Remove, p.Event.ID(), p.Event.Devname)
	return &Plan{Event: e, Work: Remove, Nodes: p.Nodes, Links: p.Links}
}

// TestRivalsAtRest shows that a second coldplug of rivals writes nothing.
func TestRivalsAtRest(t *testing.T) {
	eachWay(t, func(b *board) {
		for _, p := range rivals() {
			b.apply(p)
		}
		b.unchanged(func() {
			for _, p := range rivals() {
				if !b.apply(p) {
					b.Errorf("%s is said to be new", p.Event.Devname)
				}
			}
		})
	})
}

// TestRivalOfLongName is about a contested path that is longer than the name of a
// file may be.
func TestRivalOfLongName(t *testing.T) {
	eachWay(t, func(b *board) {
		long := strings.Repeat("a/", 100) + strings.Repeat("ü", 50)
		for i, dev := range []string{"b8:0", "b8:16"} {
			if _, err := b.try(makes(dev, fmt.Sprintf("sd%c", 'a'+i), long+" 0660 0:0")); err != nil {
				b.Errorf("%.60s...", err)
			}
		}
		if got := b.describe(long); !strings.HasSuffix(got, " b8:16 0660 0:0") {
			b.Error(got)
		}
	})
}
