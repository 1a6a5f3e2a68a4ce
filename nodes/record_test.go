package nodes

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

// TestRecords shows that the record of many devices, more than one read of the
// file holds, is there for a process that comes later.
func TestRecords(t *testing.T) {
	needRoot(t)
	b := newBoard(t, t.TempDir())
	const count = 700
	var want []string
	for i := range uint32(count) {
		e := event(uevent.Add, "c10:"+numberText(i), "some-device-"+numberText(i))
		b.apply(&Plan{Event: e, Work: Create})
		want = append(want, e.ID()+" "+e.Devpath)
	}
	slices.Sort(want)
	later := newBoard(t, b.dir)
	for _, d := range []*Dir{b.d, later.d} {
		if _, err := d.LockDev(); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range d.Records() {
			got = append(got, r.ID+" "+r.Devpath)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%d records, want %d", len(got), len(want))
		}
		if r := d.journal.At("/devices/test/some-device-7"); r == nil || r.ID != "c10:7" {
			t.Errorf("found %+v", r)
		}
		if r := d.journal.At("/devices/test/some-device"); r != nil {
			t.Errorf("found %+v", r)
		}
		d.UnlockDev()
	}
}

// TestTurn does several things with one device in one turn, and looks at what
// another process finds on record: how it ended.
func TestTurn(t *testing.T) {
	made, moved, gone := makes("c1:3", "null", "null 0666 0:0"), makes("c1:3", "null", "x/null 0666 0:0"), clears("c1:3", "null")
	const words = "c1:3 devpath=/devices/test/null subsystem=test devname=null node="
	for _, c := range []struct {
		name   string
		turn   []*Plan
		record []string
	}{
		{"made", []*Plan{made}, []string{words + "null"}},
		{"gone", []*Plan{made, gone}, nil},
		{"moved", []*Plan{made, moved}, []string{words + "x/null"}},
		{"back", []*Plan{made, gone, made}, []string{words + "null"}},
		{"back elsewhere", []*Plan{made, gone, moved}, []string{words + "x/null"}},
		{"gone in the end", []*Plan{made, gone, moved, gone}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachWay(t, func(b *board) {
				if _, err := b.d.LockDev(); err != nil {
					b.Fatal(err)
				}
				for _, p := range c.turn {
					if _, err := b.d.Apply(p); err != nil {
						b.Error(err)
					}
				}
				b.d.UnlockDev()
				b.checkRecord(c.record...)
				later := newBoard(b.T, b.dir)
				later.apply(gone)
				later.check()
			})
		})
	}
}

// TestTornRecord is about a record whose last line was cut off by a crash.
func TestTornRecord(t *testing.T) {
	eachWay(t, func(b *board) {
		b.apply(makes("c1:3", "null", "null 0666 0:0"))
		file := b.path(Private + "/record")
		text, err := os.ReadFile(file)
		b.must(err)
		b.must(os.WriteFile(file, append(text, "c1:5 devpath=/devices/test/zero no"...), 0o600))
		later := newBoard(b.T, b.dir)
		later.apply(makes("c1:7", "full", "full 0666 0:0"))
		b.apply(makes("c1:8", "random", "random 0666 0:0"))
		const words = " devpath=/devices/test/%s subsystem=test devname=%[1]s node=%[1]s"
		b.checkRecord("c1:3"+fmt.Sprintf(words, "null"), "c1:7"+fmt.Sprintf(words, "full"), "c1:8"+fmt.Sprintf(words, "random"))
	})
}

// TestRecordSize shows that the record of a device that comes and goes does not
// grow for ever, whichever of two processes sees it come and go.
func TestRecordSize(t *testing.T) {
	eachWay(t, func(b *board) {
		other := newBoard(b.T, b.dir)
		b.apply(makes("c1:5", "zero", "zero 0666 0:0"))
		for i := range 2000 {
			turn := []*board{b, other}[i%2]
			turn.apply(makes("c1:3", "null", "null 0666 0:0"))
			turn.apply(clears("c1:3", "null"))
		}
		var st unix.Stat_t
		b.must(unix.Stat(b.path(Private+"/record"), &st))
		if st.Size > 100<<10 {
			b.Errorf("it has %d bytes", st.Size)
		}
		b.checkRecord("c1:5 devpath=/devices/test/zero subsystem=test devname=zero node=zero")
		b.check("zero c1:5 0666 0:0")
	})
}

func numberText(n uint32) string { return uevent.Dev{Minor: n}.Numbers()[len("0:"):] }

func TestUnion(t *testing.T) {
	a := append(make([]string, 0, 10), "x", "y")
	got := union(a, []string{"y", "z", "x"})
	if !slices.Equal(got, []string{"x", "y", "z"}) {
		t.Errorf("%q", got)
	}
	if a[:3][2] == "z" {
		t.Error("union writes into its argument")
	}
}

// TestHostileID records devices whose names hold what the record's lines are made of.
func TestHostileID(t *testing.T) {
	eachWay(t, func(b *board) {
		b.d.LockDev()
		for _, name := range []string{"Fixed MDIO bus.0", "hid-X\nc1:3 devpath=/devices/x node=null", `a\x20b`} {
			e, err := uevent.FromEnviron([]string{"ACTION=add", "SUBSYSTEM=platform", "DEVPATH=/devices/platform/" + name})
			if err != nil {
				t.Fatal(err)
			}
			p := &Plan{Event: e, Commands: []Command{{Text: "true", Exists: ExistsMask}}}
			for _, want := range []bool{false, true} {
				if existed, err := b.d.Apply(p); existed != want || err != nil {
					b.Errorf("%q: existed %v, error %v, want %v", name, existed, err, want)
				}
			}
		}
		b.d.UnlockDev()
		fresh, err := Open(b.d.Path())
		if err != nil {
			t.Fatal(err)
		}
		defer fresh.Close()
		fresh.LockDev()
		if all := fresh.Records(); len(all) != 3 {
			b.Errorf("the record holds %d devices", len(all))
		}
		fresh.UnlockDev()
	})
}

// TestPrepare prepares plans, of which some are carried out, one with something
// else to make than was prepared, and one not at all.
func TestPrepare(t *testing.T) {
	eachWay(t, func(b *board) {
		b.apply(makes("c1:9", "old", "old 0660 0:0"))
		prepared := []*Plan{
			makes("c1:3", "null", "null 0666 0:0"),
			makes("c1:5", "zero", "zero 0666 0:0"),
			makes("c1:4", "port", "port 0666 0:0"),
			makes("c1:7", "late", "late 0666 0:0"),
			makes("c1:9", "old", "other 0660 0:0"),
			clears("c1:8", "random"),
		}
		const (
			null = "c1:3 devpath=/devices/test/null subsystem=test devname=null node=null"
			zero = "c1:5 devpath=/devices/test/zero subsystem=test devname=zero node=moved"
			port = "c1:4 devpath=/devices/test/port subsystem=test devname=port node=port"
			late = "c1:7 devpath=/devices/test/late subsystem=test devname=late node=late"
			old  = "c1:9 devpath=/devices/test/old subsystem=test devname=old node=old"
		)
		_, err := b.d.LockDev()
		b.must(err)
		b.d.Prepare(prepared)
		apply := func(p *Plan) {
			b.Helper()
			if existed, err := b.d.Apply(p); existed || err != nil {
				b.Errorf("existed %v, error %v", existed, err)
			}
		}
		apply(prepared[0])
		b.checkRecord(null, strings.Replace(zero, "moved", "zero", 1), port, late, old)
		b.check("null c1:3 0666 0:0", "old c1:9 0660 0:0")
		before := b.size("record")
		apply(prepared[2])
		if now := b.size("record"); now != before {
			t.Errorf("what was prepared is written again: %d bytes, then %d", before, now)
		}
		apply(makes("c1:5", "zero", "moved 0666 0:0"))
		b.must(b.d.UnlockDev())
		b.checkRecord(null, zero, port, old)
		b.check("null c1:3 0666 0:0", "moved c1:5 0666 0:0", "port c1:4 0666 0:0", "old c1:9 0660 0:0")
		if !b.apply(prepared[0]) {
			t.Error("the device was not set up before")
		}
	})
}

// size returns the size of a file in the private directory.
func (b *board) size(name string) int64 {
	b.Helper()
	info, err := os.Stat(b.path(Private + "/" + name))
	b.must(err)
	return info.Size()
}

// BenchmarkTurn makes the nodes of many devices in a turn, as the loop does, and
// removes them in another.
func BenchmarkTurn(b *testing.B) {
	const devices = 32
	d, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	var makes, clears []*Plan
	for i := range uint32(devices) {
		name := "some-device-" + numberText(i)
		makes = append(makes, &Plan{Event: event(uevent.Add, "c240:"+numberText(i), name), Work: Create, Nodes: []Node{{Path: name, Mode: 0o660}}})
		clears = append(clears, &Plan{Event: event(uevent.Remove, "c240:"+numberText(i), name), Work: Remove, Nodes: []Node{{Path: name, Mode: 0o660}}})
	}
	turn := func(plans []*Plan) {
		d.LockDev()
		if plans[0].Work == Create {
			d.Prepare(plans)
		}
		for _, p := range plans {
			if _, err := d.Apply(p); err != nil {
				b.Fatal(err)
			}
		}
		d.UnlockDev()
	}
	b.ReportAllocs()
	for b.Loop() {
		turn(makes)
		turn(clears)
	}
}
