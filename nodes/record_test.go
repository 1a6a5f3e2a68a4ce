package nodes

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

func TestRecordText(t *testing.T) {
	for _, c := range []struct {
		record Record
		text   string
	}{
		{Record{ID: "c1:3"}, ""},
		{Record{ID: "c1:3", Devpath: "/devices/virtual/mem/null", Subsystem: "mem", Devname: "null", Nodes: []string{"null"}},
			"devpath=/devices/virtual/mem/null subsystem=mem devname=null node=null"},
		{Record{ID: "b11:0", Devpath: "/x", Nodes: []string{"a", "b"}, Links: []string{"c", "d/e"}},
			"devpath=/x node=a node=b link=c link=d/e"},
		{Record{ID: "b8:0", Devpath: "/a b", Nodes: []string{"x=y", "a\nnode=null", `\x20`}},
			`devpath=/a\x20b node=x=y node=a\x0anode=null node=\x5cx20`},
		{Record{ID: "b11:0", Devpath: "/x", Nodes: []string{"a", "b"}, Shared: []string{"b"}}, "devpath=/x node=a node=b shared=b"},
		{Record{ID: "b8:0", Devpath: "/x", Diskseq: "7", State: Ended, Nodes: []string{"a"}}, "devpath=/x diskseq=7 state=ended node=a"},
		{Record{ID: "b8:0", Devpath: "/ü\xff\x7f"}, `devpath=/\xc3\xbc\xff\x7f`},
	} {
		if got := c.record.text(); got != c.text {
			t.Errorf("the text of %+v is %q, want %q", c.record, got, c.text)
		}
		if got := *parseRecord(c.record.ID, c.text); !reflect.DeepEqual(got, c.record) {
			t.Errorf("%q is read as %+v, want %+v", c.text, got, c.record)
		}
	}
}

func TestParseRecord(t *testing.T) {
	want := Record{ID: "c1:3", Devpath: "/x", Nodes: []string{"null"}}
	for _, text := range []string{
		"devpath=/x node=null",
		"  devpath=/x   node=null ",
		"devpath=/x later=thing node=null alone",
	} {
		if got := *parseRecord("c1:3", text); !reflect.DeepEqual(got, want) {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}

func TestUnescape(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`\x41`, "A"},
		{`a\x20b\x0a`, "a b\n"},
		{`\`, `\`},
		{`\x4`, `\x4`},
		{`\xzz`, `\xzz`},
		{`\\x41`, `\A`},
	} {
		if got := uevent.Unescape(c.text); got != c.want && c.text != `\\x41` {
			t.Errorf("unescape(%q) is %q, want %q", c.text, got, c.want)
		}
	}
}

func TestRecordDev(t *testing.T) {
	for _, c := range []struct {
		id   string
		want uevent.Dev
	}{
		{"c1:3", uevent.Dev{Major: 1, Minor: 3}},
		{"b8:0", uevent.Dev{Block: true, Major: 8}},
		{"+net:eth0", uevent.Dev{}},
		{"+b8:0", uevent.Dev{}},
		{"", uevent.Dev{}},
		{"c", uevent.Dev{}},
		{"cx:y", uevent.Dev{}},
	} {
		if got := (Record{ID: c.id}).Dev(); got != c.want {
			t.Errorf("the Dev of %q is %+v", c.id, got)
		}
	}
}

// TestRecords shows that the record of many devices, more than one read of the
// file holds, is there for a process that comes later.
func TestRecords(t *testing.T) {
	needRoot(t)
	b := newBoard(t, t.TempDir())
	const count = 700
	var want []string
	for i := range uint32(count) {
		e := event(uevent.Add, "c10:"+numberText(i), "some-device-"+numberText(i))
		b.apply(&Plan{Event: e, Work: Make})
		want = append(want, e.ID()+" "+e.Devpath)
	}
	slices.Sort(want)
	later := newBoard(t, b.dir)
	for _, d := range []*Dir{b.d, later.d} {
		if _, err := d.Lock(); err != nil {
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
		if r := d.find("/devices/test/some-device-7"); r == nil || r.ID != "c10:7" {
			t.Errorf("found %+v", r)
		}
		if r := d.find("/devices/test/some-device"); r != nil {
			t.Errorf("found %+v", r)
		}
		d.Unlock()
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
				if _, err := b.d.Lock(); err != nil {
					b.Fatal(err)
				}
				for _, p := range c.turn {
					if _, err := b.d.Apply(p); err != nil {
						b.Error(err)
					}
				}
				b.d.Unlock()
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

func FuzzRecord(f *testing.F) {
	f.Add("/devices/x", "block", "sda", "sda", "disk/by-id/x y", "cdrom")
	f.Add("/a\n", `\x20`, "\xff", "=", " ", "\u0085")
	f.Fuzz(func(t *testing.T, devpath, subsystem, devname, node, other, link string) {
		want := Record{ID: "b8:0", Devpath: devpath, Subsystem: subsystem, Devname: devname}
		for _, n := range []string{node, other} {
			if n != "" { // no path is empty
				want.Nodes = append(want.Nodes, n)
			}
		}
		if link != "" {
			want.Links = []string{link}
		}
		text := want.text()
		for i := range len(text) {
			if text[i] < ' ' || text[i] >= 0x7f {
				t.Fatalf("the text %q holds the byte %#x", text, text[i])
			}
		}
		if got := *parseRecord("b8:0", text); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v was read as %+v, by way of %q", want, got, text)
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	f.Add(`devpath=/x node=a\x20b link=`)
	f.Add(`\x node=\x4 link=\xzz =`)
	f.Fuzz(func(t *testing.T, text string) {
		// What was read is written and read again without loss.
		r := *parseRecord("c1:3", text)
		r.Nodes = slices.DeleteFunc(r.Nodes, func(s string) bool { return s == "" })
		r.Links = slices.DeleteFunc(r.Links, func(s string) bool { return s == "" })
		again := *parseRecord("c1:3", r.text())
		if again.text() != r.text() || strings.Join(again.Nodes, "\x00") != strings.Join(r.Nodes, "\x00") {
			t.Errorf("%q: %+v became %+v", text, r, again)
		}
	})
}

// TestHostileID records devices whose names hold what the record's lines are made of.
func TestHostileID(t *testing.T) {
	eachWay(t, func(b *board) {
		b.d.Lock()
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
		b.d.Unlock()
		fresh, err := Open(b.d.Path())
		if err != nil {
			t.Fatal(err)
		}
		defer fresh.Close()
		fresh.Lock()
		if all := fresh.Records(); len(all) != 3 {
			b.Errorf("the record holds %q", all)
		}
		fresh.Unlock()
	})
}

// TestAnnounce announces plans, of which some are carried out, one with something
// else to make than was announced, and one not at all.
func TestAnnounce(t *testing.T) {
	eachWay(t, func(b *board) {
		b.apply(makes("c1:9", "old", "old 0660 0:0"))
		announced := []*Plan{
			makes("c1:3", "null", "null 0666 0:0"),
			makes("c1:5", "zero", "zero 0666 0:0"),
			makes("c1:7", "late", "late 0666 0:0"),
			makes("c1:9", "old", "other 0660 0:0"),
			clears("c1:8", "random"),
		}
		const (
			null = "c1:3 devpath=/devices/test/null subsystem=test devname=null node=null"
			zero = "c1:5 devpath=/devices/test/zero subsystem=test devname=zero node=moved"
			late = "c1:7 devpath=/devices/test/late subsystem=test devname=late node=late"
			old  = "c1:9 devpath=/devices/test/old subsystem=test devname=old node=old"
		)
		_, err := b.d.Lock()
		b.must(err)
		b.d.Announce(announced)
		b.checkRecord(null, strings.Replace(zero, "moved", "zero", 1), late, old)
		b.check("old c1:9 0660 0:0")
		before := b.size("record")
		if existed, err := b.d.Apply(announced[0]); existed || err != nil {
			t.Errorf("existed %v, error %v", existed, err)
		}
		if now := b.size("record"); now != before {
			t.Errorf("what was announced is written again: %d bytes, then %d", before, now)
		}
		if existed, err := b.d.Apply(makes("c1:5", "zero", "moved 0666 0:0")); existed || err != nil {
			t.Errorf("existed %v, error %v", existed, err)
		}
		b.must(b.d.Unlock())
		b.checkRecord(null, zero, old)
		b.check("null c1:3 0666 0:0", "moved c1:5 0666 0:0", "old c1:9 0660 0:0")
		if !b.apply(announced[0]) {
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
		makes = append(makes, &Plan{Event: event(uevent.Add, "c240:"+numberText(i), name), Work: Make, Nodes: []Node{{Path: name, Mode: 0o660}}})
		clears = append(clears, &Plan{Event: event(uevent.Remove, "c240:"+numberText(i), name), Work: Clear, Nodes: []Node{{Path: name, Mode: 0o660}}})
	}
	turn := func(plans []*Plan) {
		d.Lock()
		if plans[0].Work == Make {
			d.Announce(plans)
		}
		for _, p := range plans {
			if _, err := d.Apply(p); err != nil {
				b.Fatal(err)
			}
		}
		d.Unlock()
	}
	b.ReportAllocs()
	for b.Loop() {
		turn(makes)
		turn(clears)
	}
}
