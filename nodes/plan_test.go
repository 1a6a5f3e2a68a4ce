package nodes

import (
	"path"
	"slices"
	"strings"
	"testing"

	"devspool/hotplug/uevent"
)

func TestRelative(t *testing.T) {
	for _, c := range []struct{ link, target, want string }{
		{"cdrom", "sr0", "sr0"},
		{"cdrom", "disk/sr0", "disk/sr0"},
		{"disk/cdrom", "sr0", "../sr0"},
		{"disk/by-id/x", "sda", "../../sda"},
		{"disk/by-id/x", "disk/sda", "../sda"},
		{"disk/by-id/x", "disk/by-id/y", "y"},
		{"disk/by-id/x", "disk/by/y", "../by/y"},
		{"a/b", "a", "../a"},
		{"a", "a/b", "a/b"},
		{"a/b/c", "a/b", "../b"},
		{"a/b", "a/b/c", "b/c"},
		{"snd/x", "sndx", "../sndx"},
		{"a/a/a", "a/a", "../a"},
	} {
		if got := Relative(c.link, c.target); got != c.want {
			t.Errorf("Relative(%q, %q) is %q, want %q", c.link, c.target, got, c.want)
		}
	}
}

// TestRelativeAll tries all pairs of short paths of few names, where parts of
// them are equal as often as not.
func TestRelativeAll(t *testing.T) {
	var paths []string
	for _, depth := range []int{1, 2, 3, 4} {
		for n := range 1 << depth {
			var parts []string
			for i := range depth {
				parts = append(parts, string('a'+rune(n>>i&1)))
			}
			paths = append(paths, strings.Join(parts, "/"), strings.Join(parts, "/")+"b")
		}
	}
	for _, link := range paths {
		for _, target := range paths {
			checkRelative(t, link, target)
		}
	}
}

// checkRelative shows that a link's text leads to its target, by the shortest way.
func checkRelative(t *testing.T, link, target string) {
	t.Helper()
	text := Relative(link, target)
	if got := path.Join(path.Dir(link), text); got != target {
		t.Errorf("a link %q with the text %q leads to %q, not to %q", link, text, got, target)
	}
	if path.IsAbs(text) || text == "" {
		t.Errorf("Relative(%q, %q) is %q", link, target, text)
	}
	up := strings.Count(text, "../")
	if !strings.HasPrefix(text, strings.Repeat("../", up)) || up > strings.Count(link, "/") {
		t.Errorf("Relative(%q, %q) is %q", link, target, text)
	}
}

func FuzzRelative(f *testing.F) {
	f.Add("disk/by-id/x", "disk/sda")
	f.Add("a/b/c", "a/b")
	f.Fuzz(func(t *testing.T, link, target string) {
		if CleanPath(link) && CleanPath(target) && link != target {
			checkRelative(t, link, target)
		}
	})
}

// TestPlanString compares what a dry run prints with what it should.
func TestPlanString(t *testing.T) {
	rule := Origin{"mdev.conf", 12}
	for _, c := range []struct {
		name string
		plan *Plan
		want string
	}{
		{
			name: "make",
			plan: &Plan{
				Event: event(uevent.Add, "b11:0", "sr0"), Work: Create,
				Nodes: []Node{{Path: "disk/sr0", Mode: 0o660, GID: 24, Rule: rule}},
				Links: []Link{{Path: "disk/by-id/x", Target: "disk/sr0", Rule: Origin{"mdev.conf", 7}}, {Path: "root", Target: "disk/sr0"}},
				Commands: []Command{
					{Text: "logger $MDEV", Rule: rule},
					{Text: "mount", Exists: ExistsMask, Rule: rule},
				},
				Firmware: "a/b.bin",
				Faults:   []string{"mdev.conf:9: no"},
			},
			want: `add /devices/test/block/sr0 b11:0
  make node disk/sr0 0660 0:24                  mdev.conf:12
  make link disk/by-id/x -> ../sr0              mdev.conf:7
  make link root -> disk/sr0                    built in
  run logger $MDEV                              mdev.conf:12
  run mount (if_exists=mask)                    mdev.conf:12
  load firmware a/b.bin                         built in
  refused: mdev.conf:9: no
`,
		}, {
			name: "clear",
			plan: &Plan{
				Event: event(uevent.Remove, "b11:0", "sr0"), Work: Remove,
				Nodes:    []Node{{Path: "sr0", Mode: 0o660, Rule: rule}},
				Links:    []Link{{Path: "cdrom", Target: "sr0", Rule: rule}},
				Commands: []Command{{Text: "umount /cdrom", Rule: rule}},
			},
			want: `remove /devices/test/block/sr0 b11:0
  run umount /cdrom                             mdev.conf:12
  clear node sr0                                mdev.conf:12
  clear link cdrom -> sr0                       mdev.conf:12
`,
		}, {
			name: "names",
			plan: &Plan{
				Event: event(uevent.Add, "b11:0", "sr0"), Work: Create, Priority: -7, HasPriority: true,
				Nodes:      []Node{{Path: "sr0", Mode: 0o660, Rule: rule}},
				Links:      []Link{{Path: "cdrom", Target: "sr0", Rule: rule, Priority: -7}, {Path: "disk/by-id/x", Target: "sr0", Name: true}},
				Properties: []string{"ID_CDROM=1", "A=\x1b"},
			},
			want: `add /devices/test/block/sr0 b11:0
  make node sr0 0660 0:0                        mdev.conf:12
  make link cdrom -> sr0 (prio=-7)              mdev.conf:12
  make link disk/by-id/x -> ../../sr0           built in
  property ID_CDROM=1
  property A=\x1b
`,
		}, {
			name: "an interface",
			plan: &Plan{Event: event(uevent.Add, "", "eth0"), Rename: &Rename{"lan0", rule}, NoNames: true, HasPriority: true},
			want: `add /devices/test/eth0
  no names
  rename to lan0                                mdev.conf:12
`,
		}, {
			name: "leave",
			plan: &Plan{Event: event(uevent.Change, "", "eth0"), Commands: []Command{{Text: "true", Rule: rule}}},
			want: `change /devices/test/eth0
  run true                                      mdev.conf:12
`,
		}, {
			name: "longer than its column",
			plan: &Plan{Event: event(uevent.Add, "", "eth0"), Commands: []Command{{Text: strings.Repeat("x", 60), Rule: rule}}},
			want: "add /devices/test/eth0\n  run " + strings.Repeat("x", 60) + " mdev.conf:12\n",
		}, {
			name: "names that would forge lines",
			plan: &Plan{
				Event: event("add\n", "c1:3", "a\nb"), Work: Create,
				Nodes: []Node{{Path: "a\n  make node null", Mode: 0o4666, Rule: rule}}, Faults: []string{"x\ny"},
			},
			want: `add\x0a /devices/test/a\x0ab c1:3
  make node a\x0a  make node null 4666 0:0      mdev.conf:12
  refused: x\x0ay
`,
		},
	} {
		if got := c.plan.String(); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{"plain / text \\ ü", "plain / text \\ ü"},
		{"a\nb\x00\x1b[31m\x7f", `a\x0ab\x00\x1b[31m\x7f`},
		{"\t\r", `\x09\x0d`},
		{"\u009b31mx\u0100\u201b é\u00a0 \x9b\xff", "\xc2\\x9b31mx\u0100\u201b é\u00a0 \\x9b\xff"},
	} {
		if got := uevent.Printable(c.text); got != c.want {
			t.Errorf("Printable(%q) is %q, want %q", c.text, got, c.want)
		}
	}
}

func TestOctal(t *testing.T) {
	for _, c := range []struct {
		mode uint32
		want string
	}{{0, "0000"}, {0o7, "0007"}, {0o660, "0660"}, {0o4755, "4755"}, {0o7777, "7777"}} {
		if got := Octal(c.mode); got != c.want {
			t.Errorf("Octal(%o) is %s", c.mode, got)
		}
	}
}

func TestWords(t *testing.T) {
	for x, want := range map[Exists]string{ExistsRun: "run", ExistsMask: "mask", ExistsError: "error", ExistsReport: "report"} {
		if x.String() != want {
			t.Errorf("%d is %q, want %q", x, x, want)
		}
	}
	for o, want := range map[Origin]string{{}: "built in", {"a.conf", 3}: "a.conf:3"} {
		if o.String() != want {
			t.Errorf("%#v is %q, want %q", o, o, want)
		}
	}
}

// TestActualTwice shows that what a device claims is still known after it lost more.
func TestActualTwice(t *testing.T) {
	p := &Plan{Event: event(uevent.Add, "", "sda1"), Nodes: []Node{{Path: "sda1"}},
		Links: []Link{{Path: "a", Target: "sda1"}, {Path: "b", Target: "sda1"}, {Path: "c", Target: "sda1"}}, Lost: []string{"a"}}
	once := p.Actual()
	once.Lost = []string{"a", "b"} // the first one is found lost again
	twice := once.Actual()
	if len(twice.Links) != 1 || !slices.Equal(twice.Claimed, []string{"a", "b"}) || !slices.Equal(once.Claimed, []string{"a"}) {
		t.Errorf("it has %v and claims %q, and before %q", twice.Links, twice.Claimed, once.Claimed)
	}
}
