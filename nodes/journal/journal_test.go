package journal

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"devspool/hotplug/uevent"
)

// words returns the words of the record's line.
func words(r *Record) string { return string(r.appendWords(nil)) }

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
		if got := words(&c.record); got != c.text {
			t.Errorf("the text of %+v is %q, want %q", c.record, got, c.text)
		}
		if got := *parse(c.record.ID, c.text); !reflect.DeepEqual(got, c.record) {
			t.Errorf("%q is read as %+v, want %+v", c.text, got, c.record)
		}
	}
}

func TestParse(t *testing.T) {
	want := Record{ID: "c1:3", Devpath: "/x", Nodes: []string{"null"}}
	for _, text := range []string{
		"devpath=/x node=null",
		"  devpath=/x   node=null ",
		"devpath=/x later=thing node=null alone",
	} {
		if got := *parse("c1:3", text); !reflect.DeepEqual(got, want) {
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
		if got := (&Record{ID: c.id}).Dev(); got != c.want {
			t.Errorf("the Dev of %q is %+v", c.id, got)
		}
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
		line := words(&want)
		for i := range len(line) {
			if line[i] < ' ' || line[i] >= 0x7f {
				t.Fatalf("the text %q holds the byte %#x", line, line[i])
			}
		}
		if got := *parse("b8:0", line); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v was read as %+v, by way of %q", want, got, line)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(`devpath=/x node=a\x20b link=`)
	f.Add(`\x node=\x4 link=\xzz =`)
	f.Fuzz(func(t *testing.T, line string) {
		// What was read is written and read again without loss.
		r := *parse("c1:3", line)
		r.Nodes = slices.DeleteFunc(r.Nodes, func(s string) bool { return s == "" })
		r.Links = slices.DeleteFunc(r.Links, func(s string) bool { return s == "" })
		again := *parse("c1:3", words(&r))
		if words(&again) != words(&r) || strings.Join(again.Nodes, "\x00") != strings.Join(r.Nodes, "\x00") {
			t.Errorf("%q: %+v became %+v", line, r, again)
		}
	})
}
