package nodes

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"devspool/hotplug/uevent"
	"devspool/nodes/journal"
)

// onDisk gives the event of a plan the number of a disk.
func onDisk(p *Plan, diskseq string) *Plan {
	p.Event = p.Event.With([]string{"DISKSEQ=" + diskseq})
	return p
}

// TestNames lets disks with few names come, go and change, at random. After each step
// every name that some disk wants leads to the one that this test finds to be the best,
// none other is there, and no conflict is told.
func TestNames(t *testing.T) {
	eachWay(t, func(b *board) {
		for seed := range uint64(30) {
			random := rand.New(rand.NewPCG(seed, 1))
			alive := map[string]*Plan{}
			gone, disks := map[string]bool{}, map[string]string{}
			b.d.Rank = func(r *Record) Rank { return Rank{Gone: gone[r.Devpath]} }
			var steps []string
			for range 20 {
				i := random.IntN(5)
				own := fmt.Sprintf("sd%c", 'a'+i)
				p := makes(fmt.Sprintf("b8:%d", 16*i), own, own+" 0660 0:6")
				for _, name := range []string{"disk/by-uuid/x", "disk/by-label/a b", "disk/by-label/c", "mapper"} {
					if random.IntN(2) == 0 {
						p.Links = append(p.Links, Link{Path: name, Target: own, Name: true, Priority: random.IntN(3) - 1})
					}
				}
				devpath := p.Event.Devpath
				if alive[devpath] == nil {
					if disks[devpath] = ""; random.IntN(4) > 0 {
						disks[devpath] = fmt.Sprint(7 + random.IntN(8)) // 9 is before 10
					}
				}
				if disks[devpath] != "" {
					onDisk(p, disks[devpath])
				}
				if was := alive[devpath]; was != nil && random.IntN(3) == 0 {
					delete(alive, devpath)
					p = clears(p.Event.ID(), own)
					gone[devpath] = random.IntN(2) == 0
				} else {
					alive[devpath] = p
					gone[devpath] = false
				}
				steps = append(steps, strings.TrimSpace(p.String()))
				applyAll(b, p, alive)
				if want, got := bestNames(alive), linksOn(b); !maps.Equal(want, got) {
					b.Fatalf("seed %d: after\n%s\nthe links are %v, want %v", seed, strings.Join(steps, "\n"), got, want)
				}
			}
			for devpath, p := range alive {
				delete(alive, devpath)
				applyAll(b, removal(p), alive)
			}
			b.check()
			b.checkRecord()
			if told := b.d.Conflicts(); len(told) > 0 {
				b.Errorf("told: %v", told)
			}
		}
	})
}

// bestNames returns where each name is to lead: by priority, then by the disk's number, then
// by devpath.
func bestNames(alive map[string]*Plan) map[string]string {
	best := map[string]string{}
	claim := map[string]string{}
	for devpath, p := range alive {
		for _, l := range p.Links {
			seq, _ := p.Event.Get("DISKSEQ")
			c := fmt.Sprintf("%03d %5s %s", l.Priority+100, seq, devpath)
			if c > claim[l.Path] {
				claim[l.Path], best[l.Path] = c, l.Target
			}
		}
	}
	return best
}

// linksOn returns where the links below the directory lead.
func linksOn(b *board) map[string]string {
	links := map[string]string{}
	b.walk("", func(path string) {
		if text, err := os.Readlink(b.path(path)); err == nil {
			links[path] = filepath.Join(filepath.Dir(path), text)
		}
	})
	return links
}

// TestLinksInTheWay has names and links of rules meet what is not ours, and the nodes of
// other devices. All of that stays; a link of a rule is an error then, and a name is not.
func TestLinksInTheWay(t *testing.T) {
	eachWay(t, func(b *board) {
		b.file("file", "text")
		b.mkdir("dir")
		b.symlink("elsewhere", "link")
		b.symlink("dir", "way")
		b.mknod("node", "c1:5", 0o640)
		b.apply(makes("c1:3", "null", "null 0666 0:0"))
		for _, kind := range []string{"~", "="} {
			for _, path := range []string{"file", "dir", "link", "node", "way/x", "file/x"} {
				p := makes("b8:0", "sda", "sda 0660 0:6", path+" "+kind+"9> sda", "good "+kind+"> sda")
				_, err := b.try(p)
				if (err != nil) != (kind == "=") {
					b.Errorf("%s: %v", path, err)
				}
				if !slices.Contains(p.Lost, path) {
					b.Errorf("%s is said to be the device's", path)
				}
				b.check("dir/ 0755 0:0", "file file 0644 0:0", "good -> sda", "link -> elsewhere", "node c1:5 0640 0:0",
					"null c1:3 0666 0:0", "sda b8:0 0660 0:6", "way -> dir")
			}
		}
		p := makes("b8:0", "sda", "sda 0660 0:6", "null ~9> sda", "good ~> sda")
		b.apply(p)
		if want := []string{"null"}; !slices.Equal(p.Lost, want) {
			b.Errorf("lost %q, want %q", p.Lost, want)
		}
		b.apply(clears("b8:0", "sda"))
		b.apply(clears("c1:3", "null"))
		b.check("dir/ 0755 0:0", "file file 0644 0:0", "link -> elsewhere", "node c1:5 0640 0:0", "way -> dir")
		b.checkRecord()
		if told := b.d.Conflicts(); len(told) > 0 {
			b.Errorf("told: %v", told)
		}
	})
}

// TestNameGivesWay has a node come to the place of a name, and go again.
func TestNameGivesWay(t *testing.T) {
	eachWay(t, func(b *board) {
		named := makes("b8:0", "sda", "sda 0660 0:6", "rtc ~100> sda", "x =100> sda")
		alive := map[string]*Plan{named.Event.Devpath: named}
		applyAll(b, named, alive)
		b.check("rtc -> sda", "sda b8:0 0660 0:6", "x -> sda")
		applyAll(b, makes("c10:135", "rtc", "rtc 0660 0:0"), alive)
		applyAll(b, makes("c10:1", "y", "x 0660 0:0"), alive)
		b.check("rtc c10:135 0660 0:0", "sda b8:0 0660 0:6", "x c10:1 0660 0:0")
		if told := b.d.Conflicts(); len(told) != 1 || told[0].Path != "x" {
			b.Errorf("told: %v", told)
		}
		applyAll(b, clears("c10:135", "rtc"), alive)
		applyAll(b, clears("c10:1", "y"), alive)
		b.check("rtc -> sda", "sda b8:0 0660 0:6", "x -> sda")
	})
}

// TestConflictOfLinks tells of two rules that give one link, unless they have priorities or
// one of the links is a name.
func TestConflictOfLinks(t *testing.T) {
	eachWay(t, func(b *board) {
		for _, tt := range []struct {
			one, other, holder string
			told               int
		}{
			{"x => sda", "x => sdb", "sdb", 1},
			{"x =1> sda", "x => sdb", "sda", 0},
			{"x ~> sda", "x ~> sdb", "sdb", 0},
			{"x => sda", "x ~> sdb", "sda", 0},
			{"x => sda", "x ~1> sdb", "sdb", 0},
			{"x ~-1> sda", "x ~-2> sdb", "sda", 0},
		} {
			alive := map[string]*Plan{}
			for i, word := range []string{tt.one, tt.other} {
				own := fmt.Sprintf("sd%c", 'a'+i)
				p := makes(fmt.Sprintf("b8:%d", 16*i), own, own+" 0660 0:6", word)
				alive[p.Event.Devpath] = p
				applyAll(b, p, alive)
			}
			if told := b.d.Conflicts(); len(told) != tt.told {
				b.Errorf("%s, %s: told %v", tt.one, tt.other, told)
			}
			if got := linksOn(b)["x"]; got != tt.holder {
				b.Errorf("%s, %s: leads to %s", tt.one, tt.other, got)
			}
			b.unchanged(func() {
				for _, p := range alive {
					applyAll(b, p, alive)
				}
			})
			for devpath, p := range alive {
				delete(alive, devpath)
				applyAll(b, removal(p), alive)
			}
			b.check()
		}
	})
}

// TestLinksOfOneText has two devices want one path for the node and one link to it, so that
// both links have one text. A second remove, of which the record knows nothing, takes away
// nothing of the other's.
func TestLinksOfOneText(t *testing.T) {
	eachWay(t, func(b *board) {
		gone := map[string]bool{}
		b.d.Rank = func(r *Record) Rank { return Rank{Gone: gone[r.Devpath]} }
		one, two := makes("b8:0", "sda", "x 0660 0:6", "by/x =2> x"), makes("b8:16", "sdb", "x 0660 0:6", "by/x =2> x")
		alive := map[string]*Plan{one.Event.Devpath: one, two.Event.Devpath: two}
		want := []string{"by/ 0755 0:0", "by/x -> ../x", "x b8:0 0660 0:6"}
		applyAll(b, one, alive)
		applyAll(b, removal(two), alive)
		b.check(want...)
		applyAll(b, two, alive)
		gone[two.Event.Devpath] = true
		applyAll(b, one, alive)
		delete(alive, two.Event.Devpath)
		for range 2 {
			applyAll(b, removal(two), alive)
			b.check(want...)
		}
	})
}

// TestSwitchIsAtomic looks at a link all the time while the claims to it change. It is
// always there, and leads to a node.
func TestSwitchIsAtomic(t *testing.T) {
	eachWay(t, func(b *board) {
		alive := map[string]*Plan{}
		for i, own := range []string{"sda", "sdb"} {
			p := makes(fmt.Sprintf("b8:%d", 16*i), own, own+" 0660 0:6", "by/uuid/x ~> "+own)
			alive[p.Event.Devpath] = p
			applyAll(b, p, alive)
		}
		stop, missing := make(chan bool), make(chan int)
		go func() {
			n := 0
			for {
				before, err := os.Readlink(b.path("by/uuid/x"))
				if err != nil {
					n++
				}
				// A link that was switched meanwhile may have led to what went after that.
				if _, err := os.Stat(b.path("by/uuid/x")); err != nil {
					if after, err := os.Readlink(b.path("by/uuid/x")); err != nil || before == after {
						n++
					}
				}
				select {
				case <-stop:
					missing <- n
					return
				default:
				}
			}
		}()
		for i := range 300 {
			own := fmt.Sprintf("sd%c", 'c'+i%2)
			p := makes(fmt.Sprintf("b8:%d", 32+16*(i%2)), own, own+" 0660 0:6", fmt.Sprintf("by/uuid/x ~%d> %s", i%5-2, own))
			if was := alive[p.Event.Devpath]; was != nil && i%3 > 0 {
				delete(alive, p.Event.Devpath)
				p = clears(p.Event.ID(), own)
			} else {
				alive[p.Event.Devpath] = p
			}
			applyAll(b, p, alive)
		}
		close(stop)
		if n := <-missing; n > 0 {
			b.Errorf("the link was missing or dangling %d times", n)
		}
	})
}

// TestRecordOfNames writes links with priorities and names, and reads what came before.
func TestRecordOfNames(t *testing.T) {
	eachWay(t, func(b *board) {
		b.apply(makes("b8:0", "sda", "sda 0660 0:6", "root -> sda", "disk/by-uuid/X ~> sda", "cdrom =-7> sda", "by label/a ~50> sda"))
		b.checkRecord(`b8:0 devpath=/devices/test/block/sda subsystem=test devname=sda node=sda link=root link=cdrom` +
			` name=disk/by-uuid/X name=by\x20label/a prio=-7:cdrom prio=50:by\x20label/a`)
		other, err := Open(b.dir)
		b.must(err)
		defer other.Close()
		_, err = other.LockDev()
		b.must(err)
		defer other.UnlockDev()
		r := other.Records()[0]
		if want := []string{"root", "cdrom", "disk/by-uuid/X", "by label/a"}; !slices.Equal(r.Links, want) {
			b.Errorf("links %q, want %q", r.Links, want)
		}
		for path, priority := range map[string]int{"root": 0, "cdrom": -7, "disk/by-uuid/X": 0, "by label/a": 50} {
			if r.PriorityOf(path) != priority || r.IsName(path) != strings.Contains(path, "/") {
				b.Errorf("%s: %d, %t", path, r.PriorityOf(path), r.IsName(path))
			}
		}
	})
}

// TestOldRecord removes what a record tells of that knew no names.
func TestOldRecord(t *testing.T) {
	eachWay(t, func(b *board) {
		b.must(os.Mkdir(b.path(Private), 0o700))
		b.file(Private+"/record", "b8:0 devpath=/devices/test/block/sda devname=sda node=sda link=disk/x\n")
		b.mknod("sda", "b8:0", 0o660)
		b.mkdir("disk")
		b.symlink("../sda", "disk/x")
		b.apply(makes("b8:0", "sda", "sda 0660 0:6", "disk/x ~> sda", "disk/y ~3> sda"))
		b.check("disk/ 0755 0:0", "disk/x -> ../sda", "disk/y -> ../sda", "sda b8:0 0660 0:6")
		b.apply(clears("b8:0", "sda"))
		b.check()
	})
}

// TestDiskOfName has another medium come into a drive, which then has the name.
func TestDiskOfName(t *testing.T) {
	eachWay(t, func(b *board) {
		alive := map[string]*Plan{}
		for i, own := range []string{"sr0", "sr1"} {
			p := onDisk(makes(fmt.Sprintf("b11:%d", i), own, own+" 0660 0:6", "disk ~> "+own), fmt.Sprint(5+i))
			alive[p.Event.Devpath] = p
			applyAll(b, p, alive)
		}
		if got := linksOn(b)["disk"]; got != "sr1" {
			b.Errorf("leads to %s", got)
		}
		change := onDisk(&Plan{Event: event(uevent.Change, "b11:0", "sr0")}, "10")
		alive[change.Event.Devpath] = onDisk(makes("b11:0", "sr0", "sr0 0660 0:6", "disk ~> sr0"), "10")
		applyAll(b, change, alive)
		if got := linksOn(b)["disk"]; got != "sr0" {
			b.Errorf("after the change it leads to %s", got)
		}
	})
}

func TestPriorityOf(t *testing.T) {
	r := &journal.Record{Priorities: []string{"x:a", "5", "-3:b", "99999999999999999999:c", "2:d:e"}}
	for path, want := range map[string]int{"a": 0, "b": -3, "c": 0, "d:e": 2, "": 0} {
		if got := r.PriorityOf(path); got != want {
			t.Errorf("%q: %d, want %d", path, got, want)
		}
	}
}
