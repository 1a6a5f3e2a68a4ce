package nodes

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

// TestMake shows what a /dev holds after a Plan, whatever it held before. Each
// case is applied twice: the second time must change nothing.
func TestMake(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(b *board)
		plan   *Plan
		want   []string
		fails  error // in the chain of the error; the second Apply is left out then
	}{
		{
			name: "a node of root",
			plan: makes("c1:3", "null", "null 0666 0:0"),
			want: []string{"null c1:3 0666 0:0"},
		}, {
			name: "a block node of another",
			plan: makes("b8:0", "sda", "sda 0640 7:6"),
			want: []string{"sda b8:0 0640 7:6"},
		}, {
			name: "no bits at all",
			plan: makes("b8:0", "sda", "sda 0000 0:0"),
			want: []string{"sda b8:0 0000 0:0"},
		}, {
			name: "bits that a chown takes away",
			plan: makes("c5:0", "tty", "tty 7666 7:6"),
			want: []string{"tty c5:0 7666 7:6"},
		}, {
			name: "the largest numbers",
			plan: makes("c"+largest(), "x", "x 0600 0:0"),
			want: []string{"x c" + largest() + " 0600 0:0"},
		}, {
			name: "parents",
			plan: makes("c116:33", "snd/timer", "snd/by/path/timer 0660 0:29"),
			want: []string{"snd/ 0755 0:0", "snd/by/ 0755 0:0", "snd/by/path/ 0755 0:0", "snd/by/path/timer c116:33 0660 0:29"},
		}, {
			name:   "parents that are there keep their mode",
			before: func(b *board) { b.mkdir("snd"); b.must(os.Chmod(b.path("snd"), 0o711)) },
			plan:   makes("c116:33", "snd/timer", "snd/timer 0660 0:0"),
			want:   []string{"snd/ 0711 0:0", "snd/timer c116:33 0660 0:0"},
		}, {
			name: "a parent that gives its group to what is made in it",
			before: func(b *board) {
				b.mkdir("snd")
				b.must(os.Chown(b.path("snd"), 0, 50))
				b.must(unix.Chmod(b.path("snd"), 0o2755))
			},
			plan: makes("c116:33", "snd/timer", "snd/timer 0660 0:0", "snd/clock 0660 0:29", "seq 0660 0:29", "snd/new/x 0660 0:0"),
			want: []string{"snd/ 2755 0:50", "snd/timer c116:33 0660 0:0", "snd/clock c116:33 0660 0:29", "seq c116:33 0660 0:29",
				"snd/new/ 2755 0:50", "snd/new/x c116:33 0660 0:0"},
		}, {
			name: "several nodes and links",
			plan: makes("b11:0", "sr0", "sr0 0660 0:24", "scd0 0660 0:24", "cdrom -> sr0", "disk/by-id/x -> sr0"),
			want: []string{"sr0 b11:0 0660 0:24", "scd0 b11:0 0660 0:24", "cdrom -> sr0",
				"disk/ 0755 0:0", "disk/by-id/ 0755 0:0", "disk/by-id/x -> ../../sr0"},
		}, {
			name:   "owner and mode of a node that is there",
			before: func(b *board) { b.mknod("sda", "b8:0", 0o666) },
			plan:   makes("b8:0", "sda", "sda 0640 7:6"),
			want:   []string{"sda b8:0 0640 7:6"},
		}, {
			name:   "a regular file instead",
			before: func(b *board) { b.file("null", "what was thrown away") },
			plan:   makes("c1:3", "null", "null 0666 0:0"),
			want:   []string{"null c1:3 0666 0:0"},
		}, {
			name:   "other numbers",
			before: func(b *board) { b.mknod("null", "c1:5", 0o666) },
			plan:   makes("c1:3", "null", "null 0666 0:0"),
			want:   []string{"null c1:3 0666 0:0"},
		}, {
			name:   "the other type",
			before: func(b *board) { b.mknod("loop0", "c7:0", 0o660) },
			plan:   makes("b7:0", "loop0", "loop0 0660 0:6"),
			want:   []string{"loop0 b7:0 0660 0:6"},
		}, {
			name:   "a fifo",
			before: func(b *board) { b.must(unix.Mkfifo(b.path("null"), 0o666)) },
			plan:   makes("c1:3", "null", "null 0666 0:0"),
			want:   []string{"null c1:3 0666 0:0"},
		}, {
			name:   "a link that leads nowhere",
			before: func(b *board) { b.symlink("nowhere", "null") },
			plan:   makes("c1:3", "null", "null 0666 0:0"),
			want:   []string{"null c1:3 0666 0:0"},
		}, {
			name:   "a directory",
			before: func(b *board) { b.mkdir("null"); b.file("null/precious", "") },
			plan:   makes("c1:3", "null", "null 0666 0:0"),
			want:   []string{"null/ 0755 0:0", "null/precious file 0644 0:0"},
			fails:  unix.EISDIR,
		}, {
			name:   "an empty directory",
			before: func(b *board) { b.mkdir("null") },
			plan:   makes("c1:3", "null", "null 0666 0:0"),
			want:   []string{"null/ 0755 0:0"},
			fails:  unix.EISDIR,
		}, {
			name:   "what follows an error is done all the same",
			before: func(b *board) { b.mkdir("a"); b.mkdir("c") },
			plan:   makes("c1:3", "null", "a 0666 0:0", "b 0666 0:0", "c -> b", "d -> b"),
			want:   []string{"a/ 0755 0:0", "b c1:3 0666 0:0", "c/ 0755 0:0", "d -> b", "null c1:3 0666 0:0"},
			fails:  unix.EISDIR,
		}, {
			name:   "a file where a parent should be",
			before: func(b *board) { b.file("snd", "") },
			plan:   makes("c116:33", "snd/timer", "snd/timer 0660 0:0"),
			want:   []string{"snd file 0644 0:0"},
			fails:  unix.ENOTDIR,
		}, {
			name: "a link of nested names, up and down",
			plan: makes("c116:33", "snd/timer", "audio/timer 0660 0:0", "snd/timer -> audio/timer"),
			want: []string{"audio/ 0755 0:0", "audio/timer c116:33 0660 0:0", "snd/ 0755 0:0", "snd/timer -> ../audio/timer"},
		}, {
			name: "a link beside its target",
			plan: makes("c116:33", "snd/timer", "snd/clock 0660 0:0", "snd/timer -> snd/clock"),
			want: []string{"snd/ 0755 0:0", "snd/clock c116:33 0660 0:0", "snd/timer -> clock"},
		}, {
			name:   "a link takes the place of the kernel's node",
			before: func(b *board) { b.mkdir("snd"); b.mknod("snd/timer", "c116:33", 0o660) },
			plan:   makes("c116:33", "snd/timer", "timer 0600 7:6", "snd/timer -> timer"),
			want:   []string{"snd/ 0755 0:0", "snd/timer -> ../timer", "timer c116:33 0600 7:6"},
		}, {
			name:   "a moved node leaves none behind",
			before: func(b *board) { b.mkdir("snd"); b.mknod("snd/timer", "c116:33", 0o660) },
			plan:   makes("c116:33", "snd/timer", "timer 0660 0:0"),
			want:   []string{"timer c116:33 0660 0:0"},
		}, {
			name:   "where a moved node was, another's stays",
			before: func(b *board) { b.mknod("sda", "b8:16", 0o660) },
			plan:   makes("b8:0", "sda", "first 0660 0:0"),
			want:   []string{"first b8:0 0660 0:0", "sda b8:16 0660 0:0"},
		}, {
			name:   "a plan without nodes leaves the kernel's",
			before: func(b *board) { b.mknod("sda", "b8:0", 0o600) },
			plan:   makes("b8:0", "sda"),
			want:   []string{"sda b8:0 0600 0:0"},
		}, {
			name:   "a link that leads elsewhere",
			before: func(b *board) { b.symlink("hda", "cdrom") },
			plan:   makes("b11:0", "sr0", "sr0 0660 0:0", "cdrom -> sr0"),
			want:   []string{"cdrom -> sr0", "sr0 b11:0 0660 0:0"},
		}, {
			name:   "a file where a link should be",
			before: func(b *board) { b.file("cdrom", "") },
			plan:   makes("b11:0", "sr0", "sr0 0660 0:0", "cdrom -> sr0"),
			want:   []string{"cdrom -> sr0", "sr0 b11:0 0660 0:0"},
		}, {
			name:   "a directory where a link should be",
			before: func(b *board) { b.mkdir("cdrom") },
			plan:   makes("b11:0", "sr0", "sr0 0660 0:0", "cdrom -> sr0"),
			want:   []string{"cdrom/ 0755 0:0", "sr0 b11:0 0660 0:0"},
			fails:  unix.EISDIR,
		}, {
			name:   "below the kernel's own node",
			before: func(b *board) { b.mknod("sda", "b8:0", 0o600) },
			plan:   makes("b8:0", "sda", "sda/whole 0660 0:0"),
			want:   []string{"sda/ 0755 0:0", "sda/whole b8:0 0660 0:0"},
		}, {
			name: "a name with blanks, a newline and a backslash",
			plan: makes("c1:3", `a\ b`, "x 0600 0:0", "l\n m\\n -> x"),
			want: []string{"l\n m\\n -> x", "x c1:3 0600 0:0"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachWay(t, func(b *board) {
				if c.before != nil {
					c.before(b)
				}
				existed, err := b.try(c.plan)
				if existed {
					b.Error("a new device is said to have existed")
				}
				if !errors.Is(err, c.fails) {
					b.Errorf("error %v, want %v", err, c.fails)
				}
				b.check(c.want...)
				if c.fails != nil {
					return
				}
				b.unchanged(func() {
					if !b.apply(c.plan) {
						b.Error("the second time the device is said to be new")
					}
				})
			})
		})
	}
}

// TestMakeOutside shows that nothing in /dev leads Apply out of it. Where the node cannot be
// at its path it is at its own name.
func TestMakeOutside(t *testing.T) {
	for _, c := range []struct {
		name  string
		link  string // in /dev, leading out of it
		plan  *Plan
		want  []string
		fails bool
	}{
		{"the node's place", "null", makes("c1:3", "null", "null 0666 7:6"), []string{"null c1:3 0666 7:6"}, false},
		{"the link's place", "zero", makes("c1:3", "null", "null 0666 7:6", "zero -> null"), []string{"null c1:3 0666 7:6", "zero -> null"}, false},
		{"the node's parent", "snd", makes("c1:3", "null", "snd/null 0666 7:6"), []string{"null c1:3 0666 7:6"}, true},
		{"a parent above", "snd", makes("c1:3", "null", "snd/by/null 0666 7:6"), []string{"null c1:3 0666 7:6"}, true},
		{"the link's parent", "snd", makes("c1:3", "null", "null 0666 0:0", "snd/x -> null"), []string{"null c1:3 0666 0:0"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachWay(t, func(b *board) {
				out := newBoard(b.T, b.TempDir())
				out.mkdir("by")
				out.mknod("null", "c1:3", 0o600)
				out.mknod("by/null", "c1:3", 0o600)
				out.symlink("null", "x")
				b.symlink(out.dir, c.link)
				out.unchanged(func() {
					_, err := b.try(c.plan)
					if (err != nil) != c.fails {
						b.Errorf("error %v, want one: %v", err, c.fails)
					}
					want := slices.Clone(c.want)
					if c.fails {
						want = append(want, c.link+" -> "+out.dir)
					}
					b.check(want...)
					// Neither may a remove find its way out.
					gone := clears("c1:3", "null")
					gone.Nodes, gone.Links = c.plan.Nodes, c.plan.Links
					b.apply(gone)
				})
			})
		})
	}
}

// TestChangedPlan applies one Plan after another for the same device: only what
// the last one says remains, as if it had been the first.
func TestChangedPlan(t *testing.T) {
	for _, c := range []struct {
		name        string
		first, then *Plan
		want        []string
		record      string
		existed     bool
	}{
		{
			name:    "moved",
			first:   makes("b11:0", "sr0", "old/sr0 0660 0:0", "cdrom -> old/sr0", "dvd -> old/sr0"),
			then:    makes("b11:0", "sr0", "new/sr0 0660 0:0", "cdrom -> new/sr0"),
			want:    []string{"new/ 0755 0:0", "new/sr0 b11:0 0660 0:0", "cdrom -> new/sr0"},
			record:  "b11:0 devpath=/devices/test/block/sr0 subsystem=test devname=sr0 node=new/sr0 link=cdrom",
			existed: true,
		}, {
			name:    "a link where a node was, and the other way round",
			first:   makes("b11:0", "sr0", "sr0 0660 0:0", "cdrom -> sr0"),
			then:    makes("b11:0", "sr0", "cdrom 0660 0:0", "sr0 -> cdrom"),
			want:    []string{"cdrom b11:0 0660 0:0", "sr0 -> cdrom"},
			record:  "b11:0 devpath=/devices/test/block/sr0 subsystem=test devname=sr0 node=cdrom link=sr0",
			existed: true,
		}, {
			name:    "nothing any more",
			first:   makes("b11:0", "sr0", "sr0 0660 0:0", "cdrom -> sr0"),
			then:    makes("b11:0", "sr0"),
			record:  "b11:0 devpath=/devices/test/block/sr0 subsystem=test devname=sr0",
			existed: true,
		}, {
			name:   "another device with the same numbers",
			first:  makes("b8:0", "sda", "sda 0660 0:0", "usb/stick -> sda"),
			then:   makes("b8:0", "sdb", "sdb 0660 0:0"),
			want:   []string{"sdb b8:0 0660 0:0"},
			record: "b8:0 devpath=/devices/test/block/sdb subsystem=test devname=sdb node=sdb",
		}, {
			name:    "a directory where the node was",
			first:   makes("b8:0", "sda", "disk 0660 0:0"),
			then:    makes("b8:0", "sda", "disk/sda 0660 0:0"),
			want:    []string{"disk/ 0755 0:0", "disk/sda b8:0 0660 0:0"},
			record:  "b8:0 devpath=/devices/test/block/sda subsystem=test devname=sda node=disk/sda",
			existed: true,
		}, {
			name:    "a node where its directory was",
			first:   makes("b8:0", "sda", "disk/sda 0660 0:0"),
			then:    makes("b8:0", "sda", "disk 0660 0:0"),
			want:    []string{"disk b8:0 0660 0:0"},
			record:  "b8:0 devpath=/devices/test/block/sda subsystem=test devname=sda node=disk",
			existed: true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachWay(t, func(b *board) {
				b.apply(c.first)
				if existed := b.apply(c.then); existed != c.existed {
					b.Errorf("existed is %v, want %v", existed, c.existed)
				}
				b.check(c.want...)
				b.checkRecord(c.record)
				b.apply(clears(c.then.Event.ID(), c.then.Event.Devname))
				b.check()
				b.checkRecord()
			})
		})
	}
}

// TestLateRemove is about numbers that another device has got by the time the
// remove of the first one comes: the node is the new one's, and stays.
func TestLateRemove(t *testing.T) {
	at := func(host, action string) *Plan {
		e := event(action, "b8:0", "sda")
		e.Devpath = "/devices/" + host + "/block/sda"
		p := &Plan{Event: e, Work: Remove}
		if action == uevent.Add {
			p.Work = Create
		}
		return planned(p, []string{"disk/sda 0660 0:0", "sda -> disk/sda"})
	}
	eachWay(t, func(b *board) {
		b.apply(at("host0", uevent.Add))
		if b.apply(at("host1", uevent.Add)) {
			b.Error("another device is said to have existed")
		}
		b.unchanged(func() {
			if b.apply(at("host0", uevent.Remove)) {
				b.Error("the device that left is said to be on record")
			}
		})
		b.check("disk/ 0755 0:0", "disk/sda b8:0 0660 0:0", "sda -> disk/sda")
		b.checkRecord("b8:0 devpath=/devices/host1/block/sda subsystem=test devname=sda node=disk/sda link=sda")
		b.apply(at("host1", uevent.Remove))
		b.check()
		b.checkRecord()
	})
}

// TestParentVanishes makes nested nodes while somebody, as devtmpfs does, removes
// their directory whenever it is empty: now and then, not without end.
func TestParentVanishes(t *testing.T) {
	eachWay(t, func(b *board) {
		var rival sync.WaitGroup
		stop := make(chan struct{})
		var removals atomic.Int32 // how many it may still do
		removed := 0
		rival.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if removals.Load() > 0 && unix.Rmdir(b.path("bus/usb")) == nil {
					removals.Add(-1)
					removed++
				}
			}
		})
		for i := range 150 {
			n := makes("c189:0", "usb", "bus/usb/001 0664 0:0", "bus/usb/link -> bus/usb/001")
			if i%2 == 1 {
				n.Nodes[0].UID = 7 // made elsewhere and linked into place
			}
			removals.Store(tries/2 - 2) // one more may be under way, and each may cost two tries
			b.apply(n)
			removals.Store(0)
			want := map[uint32]string{0: "bus/usb/001 c189:0 0664 0:0", 7: "bus/usb/001 c189:0 0664 7:0"}[n.Nodes[0].UID]
			if got := b.describe("bus/usb/001"); got != want {
				b.Fatalf("it is %q", got)
			}
			b.apply(clears("c189:0", "usb"))
		}
		close(stop)
		rival.Wait()
		b.Logf("the directory was removed %d times", removed)
	})
}

// TestClear shows that a remove takes away what is the device's own, and no more.
func TestClear(t *testing.T) {
	disk := makes("b8:0", "sda", "disk/sda 0660 0:0", "disk/by-id/x -> disk/sda", "sda -> disk/sda")
	made := func(b *board) { b.apply(disk) }
	for _, c := range []struct {
		name    string
		before  func(b *board)
		plan    *Plan
		want    []string
		existed bool
	}{
		{"all of it", made, clears("b8:0", "sda"), nil, true},
		{"by its devpath alone", made, numberless(clears("b8:0", "sda")), nil, true},
		{"one that was never made", nil, clears("b8:0", "sda", "sda 0660 0:0"), nil, false},
		{"nothing known, nothing said", func(b *board) { b.mknod("sda", "b8:0", 0o600) },
			numberless(clears("b8:0", "sda")), []string{"sda b8:0 0600 0:0"}, false},
		{"by the rules, where no record is", func(b *board) { b.mknod("sda", "b8:0", 0o600); b.symlink("sda", "root") },
			clears("b8:0", "sda", "sda 0660 0:0", "root -> sda"), nil, false},
		{"not another device's node", func(b *board) { b.mknod("null", "c1:3", 0o666) },
			clears("c1:5", "null", "null 0666 0:0"), []string{"null c1:3 0666 0:0"}, false},
		{"not a node of the other type", func(b *board) { b.mknod("null", "b1:3", 0o666) },
			clears("c1:3", "null", "null 0666 0:0"), []string{"null b1:3 0666 0:0"}, false},
		{"not a file", func(b *board) { b.file("null", "") },
			clears("c1:3", "null", "null 0666 0:0"), []string{"null file 0644 0:0"}, false},
		{"not a directory", func(b *board) { b.mkdir("null") },
			clears("c1:3", "null", "null 0666 0:0"), []string{"null/ 0755 0:0"}, false},
		{"not a link of someone else's", func(b *board) {
			made(b)
			b.must(os.Remove(b.path("sda")))
			b.symlink("sdb", "sda")
		}, clears("b8:0", "sda"), []string{"sda -> sdb"}, true},
		{"not what took the node's place", func(b *board) {
			made(b)
			b.must(os.Remove(b.path("disk/sda")))
			b.mknod("disk/sda", "b8:16", 0o600)
		}, clears("b8:0", "sda"), []string{"disk/ 0755 0:0", "disk/sda b8:16 0600 0:0"}, true},
		{"not a directory that others use", func(b *board) { made(b); b.file("disk/by-id/note", "") },
			clears("b8:0", "sda"), []string{"disk/ 0755 0:0", "disk/by-id/ 0755 0:0", "disk/by-id/note file 0644 0:0"}, true},
		{"what others took away before", func(b *board) { made(b); b.must(os.RemoveAll(b.path("disk"))) },
			clears("b8:0", "sda"), nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachWay(t, func(b *board) {
				if c.before != nil {
					c.before(b)
				}
				if existed := b.apply(c.plan); existed != c.existed {
					b.Errorf("existed is %v, want %v", existed, c.existed)
				}
				b.check(c.want...)
				b.checkRecord()
				b.unchanged(func() { b.apply(c.plan) })
			})
		})
	}
}

// numberless takes the numbers from a plan's event, as old kernels do on remove.
func numberless(p *Plan) *Plan {
	p.Event.Dev = uevent.Dev{}
	return p
}

// TestSharedLink shows that a link belongs to the device that claimed it last.
func TestSharedLink(t *testing.T) {
	eachWay(t, func(b *board) {
		b.apply(makes("b11:0", "sr0", "sr0 0660 0:0", "cdrom -> sr0"))
		b.apply(makes("b11:1", "sr1", "sr1 0660 0:0", "cdrom -> sr1"))
		b.apply(clears("b11:0", "sr0"))
		b.check("cdrom -> sr1", "sr1 b11:1 0660 0:0")
		b.apply(clears("b11:1", "sr1"))
		b.check()
	})
}

// TestGuarded shows what the record says of devices without a node: only those
// with a command that asks are on it.
func TestGuarded(t *testing.T) {
	guarded := []Command{{Text: "x", Exists: ExistsMask}}
	eachWay(t, func(b *board) {
		add := &Plan{Event: event(uevent.Add, "", "eth0"), Work: None}
		for range 2 {
			if b.apply(add) {
				b.Error("a device without a guarded command is on record")
			}
		}
		b.checkRecord()
		add.Commands = guarded
		if b.apply(add) {
			b.Error("a new device is said to have existed")
		}
		b.unchanged(func() {
			if !b.apply(add) {
				b.Error("the second time the device is said to be new")
			}
		})
		b.checkRecord("+test:eth0 devpath=/devices/test/eth0 subsystem=test devname=eth0")
		b.unchanged(func() { b.apply(&Plan{Event: event(uevent.Change, "", "eth0"), Work: None, Commands: guarded}) })
		b.apply(&Plan{Event: event(uevent.Remove, "", "eth0"), Work: None})
		b.checkRecord()
	})
}

// TestClearGuarded is about a device that has a DEVNAME but no numbers: its
// remove takes it off the record too.
func TestClearGuarded(t *testing.T) {
	eachWay(t, func(b *board) {
		add := &Plan{Event: event(uevent.Add, "", "port"), Work: None, Commands: []Command{{Text: "x", Exists: ExistsMask}}}
		b.apply(add)
		if existed := b.apply(clears("", "port")); !existed {
			b.Error("the device was not on record")
		}
		b.checkRecord()
		if b.apply(add) {
			b.Error("after its remove the device is said to exist")
		}
	})
}

// TestMoved shows that the record of a device without numbers follows it to its
// new name, and that no other event renames anything.
func TestMoved(t *testing.T) {
	move := func(dev, name, old string) *Plan {
		e := event(uevent.Move, dev, name)
		e.SetDefault("DEVPATH_OLD", "/devices/test/"+old)
		return &Plan{Event: e, Work: None}
	}
	eachWay(t, func(b *board) {
		guarded := []Command{{Text: "x", Exists: ExistsMask}}
		b.apply(&Plan{Event: event(uevent.Add, "", "eth0"), Work: None, Commands: guarded})
		b.apply(makes("c4:0", "tty0", "tty0 0660 0:0"))
		const tty = "c4:0 devpath=/devices/test/tty0 subsystem=test devname=tty0 node=tty0"
		b.unchanged(func() {
			b.apply(move("", "lan1", "eth1"))
			b.apply(move("", "tty1", "tty0"))
			b.apply(&Plan{Event: event(uevent.Move, "", "lan0"), Work: None})
		})
		b.apply(move("", "lan0", "eth0"))
		b.checkRecord("+test:lan0 devpath=/devices/test/lan0 subsystem=test devname=eth0", tty)
		if !b.apply(&Plan{Event: event(uevent.Add, "", "lan0"), Work: None, Commands: guarded}) {
			b.Error("under its new name it is said to be new")
		}
		if b.apply(&Plan{Event: event(uevent.Add, "", "eth0"), Work: None, Commands: guarded}) {
			b.Error("another device of the old name is said to have existed")
		}
	})
}

// TestErrors shows what a person reads of an error: the operation, the path, and
// a remedy; a line each, whatever the name holds.
func TestErrors(t *testing.T) {
	needRoot(t)
	b := newBoard(t, t.TempDir())
	b.mkdir("a\nb")
	b.mkdir("c")
	_, err := b.try(makes("c1:3", "null", "a\nb 0666 0:0"))
	if err == nil {
		t.Fatal("no error")
	}
	const want = `replace a\x0ab: is a directory (a directory stands there; remove it)`
	if err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	var e *Error
	if !errors.As(err, &e) || e.Path != "a\nb" || e.Op != "replace" {
		t.Errorf("not the *Error that was due: %#v", err)
	}
	_, err = b.try(makes("c1:3", "null", "c 0666 0:0", "a\nb 0666 0:0"))
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("two errors are not two lines: %v", err)
	}
}

// TestReadOnly is about a /dev that cannot be written: there is neither lock nor
// record, and where all is right already there is nothing to complain of.
func TestReadOnly(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	for _, n := range []string{"null 0666 0:0", "null 0660 7:6"} {
		plan := makes("c1:3", "null", n, "zero -> null")
		dir := filepath.Join(t.TempDir(), "dev")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
		b := newBoard(t, dir)
		if _, err := b.d.Apply(plan); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("none", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := b.d.LockDev(); !errors.Is(err, unix.EROFS) {
			t.Errorf("Lock says %v, want EROFS", err)
		}
		if _, err := b.d.Apply(plan); err != nil {
			t.Errorf("%s: Apply on a right /dev says: %v", n, err)
		}
		if _, err := b.d.Apply(makes("c1:5", "zero", "new 0666 0:0")); !errors.Is(err, unix.EROFS) {
			t.Errorf("a new node: Apply says %v, want EROFS", err)
		}
		if _, err := b.d.Apply(makes("c1:3", "null", "null 0600 0:0", "zero -> null")); !errors.Is(err, unix.EROFS) {
			t.Errorf("another mode: Apply says %v, want EROFS", err)
		}
	}
}

// largest returns the largest numbers of a device. The C library of an emulator
// takes those with the highest bit set for negative, where a machine has 32 bits.
func largest() string {
	if os.Getenv(emulator) != "" {
		return "4095:524287"
	}
	return "4095:1048575"
}
