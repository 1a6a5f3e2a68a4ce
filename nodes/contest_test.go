package nodes

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// contestants are devices whose plans a random choice makes: each may want its own
// name, that of another one, or a path that no device is named by.
type contestants struct {
	*rand.Rand
	names []string
	ranks map[string]Rank
	below bool // they want paths below each other's names, and not the names
}

func newContestants(seed uint64, below bool) *contestants {
	c := &contestants{below: below, Rand: rand.New(rand.NewPCG(seed, 0)), names: []string{"a", "b", "c", "d", "e", "n/f"}, ranks: map[string]Rank{}}
	for i := range c.names {
		c.ranks[c.id(i)] = Rank{Removable: c.IntN(2) == 0, Diskseq: uint64(c.IntN(3))}
	}
	return c
}

func (c *contestants) id(i int) string { return fmt.Sprintf("b8:%d", 16*i) }

func (c *contestants) rank(r *Record) Rank { return c.ranks[r.ID] }

// path returns one of few paths for a device.
func (c *contestants) path(own string) string {
	if c.below {
		// Two devices below each other's names may be in each other's way for good: so what is
		// below these three names are paths of the others.
		all := []string{"p", "q", "a/p", "a/q/p", "b/p", "n/f/p"}
		if own == "a" || own == "b" || own == "n/f" {
			all = all[:2]
		}
		return all[c.IntN(len(all))]
	}
	if c.IntN(2) == 0 {
		return c.names[c.IntN(len(c.names))]
	}
	return []string{"p", "q", "n/p"}[c.IntN(3)]
}

// plan returns a random plan of the i-th device, as rules can make it.
func (c *contestants) plan(i int) *Plan {
	own := c.names[i]
	rights := fmt.Sprintf(" 0660 0:%d", i+1)
	var words []string
	add := func(path, word string) {
		gives := func(w string) bool { return strings.HasPrefix(w, path+" ") }
		words = append(slices.DeleteFunc(words, gives), word)
	}
	for range 1 + c.IntN(4)/3 {
		switch c.IntN(4) {
		case 0:
			add(own, own+rights)
		case 1: // =path
			path := c.path(own)
			add(path, path+rights)
		default: // >path
			path := c.path(own)
			add(path, path+rights)
			if path != own {
				add(own, own+" -> "+path)
			}
		}
	}
	p := makes(c.id(i), own, words...)
	if c.IntN(4) == 0 && len(p.Nodes) > 0 {
		if path := c.path(own); path != own && !p.hasNode(path) { // such as root
			p.Links = append(p.Links, Link{Path: path, Target: p.Nodes[0].Path, Forced: true})
		}
	}
	for range c.IntN(4) {
		path := c.path(own)
		taken := func(l Link) bool { return l.Path == path }
		if len(p.Nodes) > 0 && !p.hasNode(path) && !slices.ContainsFunc(p.Links, taken) {
			p.Links = append(p.Links, Link{Path: path, Target: p.Nodes[0].Path, Name: c.IntN(2) == 0, Priority: c.IntN(3) - 1})
		}
	}
	return p
}

// contestSeeds returns the seeds of TestContests: the same each time, some of which once
// failed, unless DEVSPOOL_CASES asks for so many others, or DEVSPOOL_SEED for one.
func contestSeeds(t *testing.T) []uint64 {
	number := func(variable string) (n uint64) {
		if text := os.Getenv(variable); text != "" {
			var err error
			if n, err = strconv.ParseUint(text, 10, 64); err != nil {
				t.Fatal(variable, err)
			}
		}
		return n
	}
	if seed := number("DEVSPOOL_SEED"); seed > 0 {
		return []uint64{seed}
	}
	var seeds []uint64
	for range number("DEVSPOOL_CASES") {
		seeds = append(seeds, rand.Uint64())
	}
	if len(seeds) == 0 {
		seeds = []uint64{5106977030417293695, 2393332143368765197, 14650436573262270451, 15201745640096076063}
		more := 26
		if testing.Short() {
			more = 2
		}
		for i := range uint64(more) {
			seeds = append(seeds, 1000+i)
		}
	}
	return seeds
}

// TestContests lets devices come, go and change what they want, at random. After each
// step /dev holds what it would if they had come in any other order, a second round
// changes nothing, and when all have gone nothing is left.
func TestContests(t *testing.T) { testContests(t, false) }

// TestContestsBelow is TestContests for paths below the names of devices, for which these
// would have to be directories.
func TestContestsBelow(t *testing.T) { testContests(t, true) }

func testContests(t *testing.T, below bool) {
	seeds := contestSeeds(t)
	if below {
		seeds = seeds[len(seeds)/2:] // half of the time will do
	}
	eachWay(t, func(b *board) {
		for _, seed := range seeds {
			c := newContestants(seed, below)
			b.d.Rank = c.rank
			alive := map[string]*Plan{}
			var steps []string
			for range 12 {
				i := c.IntN(len(c.names))
				p := c.plan(i)
				devpath := p.Event.Devpath
				if was := alive[devpath]; was != nil && c.IntN(3) > 0 {
					delete(alive, devpath)
					p = removal(was)
				} else {
					alive[devpath] = p
				}
				steps = append(steps, strings.TrimSpace(p.String()))
				applyAll(b, p, alive)
				order := slices.Sorted(maps.Keys(alive))
				got := b.tree("")
				for range 2 {
					if want := fresh(b.T, c.rank, alive, order); !slices.Equal(got, want) {
						b.Fatalf("seed %d: after\n%s\n/dev holds\n\t%s\nin the order %s it would hold\n\t%s", seed, strings.Join(steps, "\n"),
							strings.Join(got, "\n\t"), order, strings.Join(want, "\n\t"))
					}
					c.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
				}
			}
			again := func() {
				for _, p := range alive {
					applyAll(b, p, alive)
				}
			}
			again() // what is shared no longer is forgotten
			b.unchanged(again)
			for i, name := range c.names {
				p := clears(c.id(i), name)
				delete(alive, p.Event.Devpath)
				applyAll(b, p, alive)
			}
			b.check()
			b.checkRecord()
			b.d.Conflicts()
			if b.Failed() {
				b.Fatalf("seed %d: after\n%s", seed, strings.Join(steps, "\n"))
			}
		}
	})
}

// TestContestsAreSaidOnce has two devices want one path, whatever comes first: the
// conflict is told once, and again when one of them comes anew.
func TestContestsAreSaidOnce(t *testing.T) {
	eachWay(t, func(b *board) {
		one, two := makes("b8:0", "sda", "x 0660 0:1", "sda -> x"), makes("b8:16", "sdb", "x 0660 0:2")
		alive := map[string]*Plan{}
		told := func(p *Plan, want ...string) {
			b.Helper()
			alive[p.Event.Devpath] = p
			applyAll(b, p, alive)
			var got []string
			for _, c := range b.d.Conflicts() {
				got = append(got, c.Path+": "+c.Holder.Devname+" before "+c.Loser.Devname)
			}
			if !slices.Equal(got, want) {
				b.Errorf("after %stold: %q, want %q", p, got, want)
			}
		}
		told(one)
		told(two, "x: sdb before sda")
		b.check("sda b8:0 0660 0:1", "x b8:16 0660 0:2")
		told(one)
		told(two)
		delete(alive, two.Event.Devpath)
		applyAll(b, clears("b8:16", "sdb"), alive)
		b.check("sda -> x", "x b8:0 0660 0:1")
		told(one)
		told(two, "x: sdb before sda")
		b.check("sda b8:0 0660 0:1", "x b8:16 0660 0:2")
	})
}

// TestDisplacedNodeIsTheSame brings a node away with all that it has, and a link that
// led to it.
func TestDisplacedNodeIsTheSame(t *testing.T) {
	eachWay(t, func(b *board) {
		sda := makes("b8:0", "sda", "x 0660 0:1", "root -> x")
		b.apply(sda)
		var before, after unix.Stat_t
		b.must(unix.Lstat(b.path("x"), &before))
		applyAll(b, makes("b8:16", "sdb", "x 0660 0:2"), map[string]*Plan{sda.Event.Devpath: sda})
		b.must(unix.Lstat(b.path("sda"), &after))
		if before.Ino != after.Ino {
			b.Error("the node is another one")
		}
		b.check("sda b8:0 0660 0:1", "root -> sda", "x b8:16 0660 0:2")
		b.apply(clears("b8:0", "sda"))
		b.check("x b8:16 0660 0:2")
	})
}

// TestMountedOver leaves alone what something is mounted on: a node, and a directory.
// The device has its node at its own name meanwhile.
func TestMountedOver(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	eachWay(t, func(b *board) {
		b.must(unix.Mount("tmpfs", b.dir, "tmpfs", 0, "mode=0755"))
		defer unix.Unmount(b.dir, unix.MNT_DETACH)
		host := filepath.Join(b.TempDir(), "null")
		b.must(unix.Mknod(host, unix.S_IFCHR|0o600, rdev(device("c1:3"))))
		same := makes("c1:3", "null", "null 0666 0:0")
		other := makes("c5:0", "tty", "console 0620 0:5", "tty -> console")
		b.mknod("null", "c1:3", 0o640)
		b.mknod("console", "c5:0", 0o640)
		for _, name := range []string{"null", "console"} {
			b.must(unix.Mount(host, b.path(name), "", unix.MS_BIND, ""))
			defer unix.Unmount(b.path(name), unix.MNT_DETACH)
		}
		b.mkdir("shm")
		b.must(unix.Mount("tmpfs", b.path("shm"), "tmpfs", 0, "mode=0755"))
		defer unix.Unmount(b.path("shm"), unix.MNT_DETACH)
		below := makes("c1:5", "zero", "shm/zero 0666 0:0")
		want := []string{"console c1:3 0600 0:0", "null c1:3 0600 0:0", "shm/ 0755 0:0", "tty c5:0 0620 0:5", "zero c1:5 0666 0:0"}
		for range 2 {
			for _, p := range []*Plan{same, other, below} {
				b.apply(p)
			}
			b.check(want...)
		}
		var told []string
		for _, c := range b.d.Conflicts() {
			if c.Holder != nil {
				b.Errorf("%+v", c)
			}
			told = append(told, c.Path+" "+c.Loser.Devname)
		}
		if want := []string{"null null", "console tty", "shm/zero zero"}; !slices.Equal(told, want) {
			b.Errorf("told: %q, want %q", told, want)
		}
		for _, name := range []string{"console", "shm"} {
			b.must(unix.Unmount(b.path(name), 0))
		}
		b.apply(other)
		b.apply(below)
		b.check("console c5:0 0620 0:5", "null c1:3 0600 0:0", "shm/ 0755 0:0", "shm/zero c1:5 0666 0:0", "tty -> console")
	})
}
