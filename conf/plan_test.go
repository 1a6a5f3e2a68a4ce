package conf

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// checkPlan holds for every Plan: nothing in it leads out of /dev, no path is
// used twice, and every link has its node.
func checkPlan(t *testing.T, p *nodes.Plan) {
	seen := map[string]bool{}
	claim := func(at string) {
		if !isClean(at) || at == nodes.Private || strings.HasPrefix(at, nodes.Private+"/") {
			t.Errorf("path %q in\n%s", at, p)
		}
		if seen[at] {
			t.Errorf("%q is used twice in\n%s", at, p)
		}
		seen[at] = true
	}
	nodePaths := map[string]bool{}
	for _, n := range p.Nodes {
		claim(n.Path)
		nodePaths[n.Path] = true
		if n.Mode > 0o7777 {
			t.Errorf("mode in\n%s", p)
		}
	}
	for _, l := range p.Links {
		claim(l.Path)
		if !nodePaths[l.Target] {
			t.Errorf("link to %q in\n%s", l.Target, p)
		}
	}
	for _, c := range p.Commands {
		if c.Socket != "" && (c.Socket[0] != '/' && c.Socket[0] != '@' || len(c.Socket) < 2 || len(c.Socket) > maxAddress || c.Text != socketPrefix+c.Socket) {
			t.Errorf("socket %q of %q in\n%s", c.Socket, c.Text, p)
		}
		for _, said := range strings.SplitAfter(c.Matched, "\x00") {
			env := slices.Collect(p.Event.Env())
			if kv, ended := strings.CutSuffix(said, "\x00"); said != "" && (!ended || !slices.Contains(env, kv)) {
				t.Errorf("the command is for %q, which the event does not say, in\n%s", said, p)
			}
		}
		if c.Text == "" || !isClean(c.Node) {
			t.Errorf("command %+v in\n%s", c, p)
		}
	}
	for _, tag := range p.Tags {
		if tag.Name == "" || strings.ContainsAny(tag.Name, ":/ =\n") {
			t.Errorf("tag %q in\n%s", tag.Name, p)
		}
	}
	for _, kv := range p.Properties {
		key, value, _ := strings.Cut(kv, "=")
		if key == "" || variable(key) != key || strings.ContainsAny(value, "\x00\n \x1b;$") {
			t.Errorf("property %q in\n%s", kv, p)
		}
	}
	if p.Rename != nil && !isInterface(p.Rename.Name) {
		t.Errorf("name %q in\n%s", p.Rename.Name, p)
	}
	if p.Firmware != "" && !isClean(p.Firmware) {
		t.Errorf("firmware in\n%s", p)
	}
	if (p.Work == nodes.None || p.Event.Dev.IsZero()) && len(p.Nodes)+len(p.Links) > 0 {
		t.Errorf("nodes in\n%s", p)
	}
	for _, f := range p.Faults {
		if f == "" {
			t.Errorf("empty fault in\n%s", p)
		}
	}
}

func isClean(p string) bool {
	return p != "" && p != "." && p[0] != '/' && path.Clean(p) == p && p != ".." && !strings.HasPrefix(p, "../")
}

func FuzzPlan(f *testing.F) {
	f.Add("-s(.*) 1:2 600 >%1/x%2 @c\n.* 0:0 660 =x/ *d", "sda", "DEVMODE=0666", uint8(0))
	f.Add("$X=(.*) 1:2 600 =%1 @c\n-a!(.*) 0:0 660 >%1/.devspool", "a!b!../c", "X=..", uint8(1))
	f.Add("-.* 0:0 600\n-.* 0:0 600 >a\na 0:0 600 ! $c", "a", "FIRMWARE=../x", uint8(2))
	f.Add("-.* 0:0 600 @socket:/a\n-.* 0:0 600 *socket:@a b\na 0:0 600 ! - socket:@", "a", "X=", uint8(0))
	f.Add("-tag=a;tag=b:;a 0:0 660\n-tag=a;tag=\n;.* 0:0 660\na 0:0 660", "a", "TAGS=:x:", uint8(0))
	f.Add("-$X=(.*)a 0:0 660 >%1 @x\n-X=a;Y=.;$X=.* 0:0 660 *y\nX=a;X=b;a 0:0 660 &z", "a", "X=ba\nX=a\nY=1\nX=ba\nY=2", uint8(0))
	f.Add("-link=$X/a;link=a/${X};link=$Y;X=.;.* 0:0 660\n-link=%1/x;property=A:%1$X;$X=(.*) 0:0 660 >%1", "a", "X=../..\nY=..", uint8(0))
	f.Add("-property=X:%0;property=Y:$X;prio=-1;names=no;a 0:0 660\nY=a;link=a/b;link=b;link=$Y;name=$Y;.* 0:0 660 =b/c", "a", "SUBSYSTEM=net\nX=", uint8(1))
	f.Add("-link=$X;name=%1;(.*) 0:0 660\n-link=disk/$X;a 0:0 660 =disk\nif_attr=../a:.*;a 0:0 660", "a", "X=  \\x2f\x1b\xff/é\t", uint8(0))
	f.Fuzz(func(t *testing.T, text, devname, variable string, action uint8) {
		actions := []string{uevent.Add, uevent.Remove, uevent.Change, uevent.Move}
		e, err := uevent.FromEnviron(append(strings.Split(variable, "\n"),
			"ACTION="+actions[action%4], "DEVPATH=/block/x", "DEVNAME="+devname, "SUBSYSTEM=block", "MAJOR=8", "MINOR=1"))
		if err != nil {
			return
		}
		c := Parse("f", text, IDs{})
		c.Root = e.Dev
		c.Attr = func(devpath, path string) (string, bool) {
			if !strings.HasPrefix(devpath, "/") || !isClean(path) || path == ".." {
				t.Errorf("%q of %q is asked for", path, devpath)
			}
			return variable, true
		}
		checkPlan(t, c.Plan(e))
		e.Dev = uevent.Dev{}
		checkPlan(t, c.Plan(e))
	})
}

// field90 is a config of 90 rules such as those of boards.
func field90() string {
	var b strings.Builder
	for i := range 30 {
		n := strconv.Itoa(i)
		b.WriteString("board" + n + " 0:0 660\n")
		b.WriteString("chip" + n + "[a-z]([0-9]+) 0:6 660 >chips/%1\n")
		b.WriteString("SUBSYSTEM=bus" + n + ";.* 0:0 660 @echo $MDEV\n")
	}
	return b.String()
}

func BenchmarkPlan(b *testing.B) {
	for _, bb := range []struct{ name, text, event string }{
		{"90 rules/none matches", field90(), "SEQNUM=1 DEVNAME=sda DEVTYPE=disk "},
		{"90 rules/the last matches", field90() + "sda 0:0 660", "SEQNUM=1 DEVNAME=sda DEVTYPE=disk "},
		{"90 rules/the last matches with groups", field90() + "sd([a-z])([0-9]*) 0:0 660 >disk/%1", "SEQNUM=1 DEVNAME=sda DEVTYPE=disk "},
		{"no rules", "", ""},
	} {
		b.Run(bb.name, func(b *testing.B) {
			c := Parse("f", bb.text, IDs{})
			e := event(b, bb.event+sda)
			b.ReportAllocs()
			for b.Loop() {
				c.Plan(e)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	text := field90()
	b.ReportAllocs()
	for b.Loop() {
		Parse("f", text, IDs{})
	}
}
