package conf

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// event makes an Event of variables, parted by blanks.
func event(t testing.TB, variables string) *uevent.Event {
	t.Helper()
	e, err := uevent.FromEnviron(strings.Fields(variables))
	if err != nil {
		t.Fatalf("%v: %s", err, variables)
	}
	return e
}

// paths returns where the rules of a config want a device's nodes.
func paths(t *testing.T, text, variables string) string {
	t.Helper()
	var all []string
	for _, n := range Parse("mdev.conf", text, IDs{}).Plan(event(t, variables)).Nodes {
		all = append(all, n.Path+" "+n.Rule.String())
	}
	return strings.Join(all, ", ")
}

const sda = "ACTION=add DEVPATH=/block/sda SUBSYSTEM=block MAJOR=8 MINOR=0"

// Lines that BusyBox reads in ways of its own; each is to make the node x.
func TestLines(t *testing.T) {
	for _, tt := range []struct{ what, text, want string }{
		{"no newline at the end", "sda 0:0 600 =x", "x mdev.conf:1"},
		{"blanks around", " \t sda\t \t0:0  600\t=x \t \n", "x mdev.conf:1"},
		{"empty lines and comments", "\n  \n#\n  # sda 0:0 600 =y\nsda 0:0 600 =x\n", "x mdev.conf:5"},
		{"ends of lines as in DOS", "# c\r\n\r\nsda 0:0 600 =x\r\n", "x mdev.conf:3"},
		{"mode at the end of a DOS line", "-sda 0:0 600\r\nsda 0:0 600 =x\r\n", "sda mdev.conf:1, x mdev.conf:2"},
		{"a byte order mark", "\ufeffsda 0:0 600 =x\n", "x mdev.conf:1"},
		{"joined lines", "sd\\\na 0:0 \\\n 600 =\\\nx\n", "x mdev.conf:1"},
		{"joined DOS lines", "sd\\\r\na 0:0 600 =x\r\n", "x mdev.conf:1"},
		{"a line after joined ones", "-sd\\\nb 0:0 600 =y\nsda 0:0 600 =x\n", "x mdev.conf:3"},
		{"a backslash at the end", "sda 0:0 600 =x\\", "x mdev.conf:1"},
		{"a backslash and a newline at the end", "sda 0:0 600 =x\\\n", "x mdev.conf:1"},
		{"a comment that swallows a rule", "# c\\\nsda 0:0 600 =y\nsda 0:0 600 =x\n", "x mdev.conf:3"},
		{"# in a field", "sda# 0:0 600 =y\nsda 0:0 600 =x#\n", "x# mdev.conf:2"},
		{"a comment for the fourth field", "sda 0:0 600 # =y\n", "sda mdev.conf:1"},
		{"a comment after a target", "sda 0:0 600 =x # y\n", "x mdev.conf:1"},
		{"an unopened parenthesis", "-sda) 0:0 600\nsda 0:0 600 =x", "x mdev.conf:2"},
	} {
		if got := paths(t, tt.text, sda); got != tt.want {
			t.Errorf("%s: %q; want %q", tt.what, got, tt.want)
		}
	}
}

func TestCommands(t *testing.T) {
	for _, tt := range []struct {
		field, event string
		want         nodes.Command
	}{
		{"@ echo  $MDEV # x", sda, nodes.Command{Text: "echo  $MDEV # x", Node: "sda"}},
		{"=x\t  @@echo", sda, nodes.Command{Text: "@echo", Node: "x"}},
		{">x *echo", sda, nodes.Command{Text: "echo", Node: "x"}},
		{"=x/ *$x", sda, nodes.Command{Text: "$x", Node: "x/sda"}},
		{"! *echo", sda, nodes.Command{Text: "echo", Node: "sda"}},
		{"+echo a b", sda, nodes.Command{Text: "echo a b", Node: "sda", Execline: true}},
		{">x +echo a", sda, nodes.Command{Text: "echo a", Node: "x", Execline: true}},
		{"! &foreground { a } b", "ACTION=bind DEVPATH=/block/sda SUBSYSTEM=block MAJOR=8 MINOR=0", nodes.Command{Text: "foreground { a } b", Node: "sda", Execline: true}},
		{"=x -echo -b", "ACTION=remove DEVPATH=/block/sda SUBSYSTEM=block MAJOR=8 MINOR=0", nodes.Command{Text: "echo -b", Node: "x", Execline: true}},
		{"*echo", "ACTION=change DEVPATH=/block/a!b SUBSYSTEM=block MAJOR=8 MINOR=0", nodes.Command{Text: "echo", Node: "a/b"}},
		{"=x/%0 *echo", "ACTION=change DEVPATH=/block/a!b SUBSYSTEM=block MAJOR=8 MINOR=0", nodes.Command{Text: "echo", Node: "x/a/b"}},
		{"! *echo", "ACTION=change DEVPATH=/block/a!b SUBSYSTEM=block MAJOR=8 MINOR=0", nodes.Command{Text: "echo", Node: "a/b"}},
		{"*echo", "ACTION=add DEVPATH=/x/a!b", nodes.Command{Text: "echo", Node: "a!b"}},
		{"=x *echo", "ACTION=add DEVPATH=/x/eth0", nodes.Command{Text: "echo", Node: "x"}},
		{"*echo", "ACTION=add DEVPATH=/x/y DEVNAME=../../etc/passwd MAJOR=1 MINOR=1", nodes.Command{Text: "echo", Node: "y"}},
	} {
		c := Parse("f", ".* 0:0 600 "+tt.field, IDs{})
		commands := c.Plan(event(t, tt.event)).Commands
		tt.want.Timeout, tt.want.Rule = 0, nodes.Origin{File: "f", Line: 1}
		if len(commands) != 1 || commands[0] != tt.want {
			t.Errorf("%q on %s: %+v; want %+v", tt.field, tt.event, commands, tt.want)
		}
	}
}

func TestDirectives(t *testing.T) {
	for _, tt := range []struct {
		match   string
		exists  nodes.Exists
		timeout nodes.Seconds
	}{
		{"sda", nodes.ExistsRun, 0},
		{"if_exists=run;sda", nodes.ExistsRun, 0},
		{"if_exists=mask;SUBSYSTEM=block;timeout=0;sda", nodes.ExistsMask, nodes.Unlimited},
		{"SUBSYSTEM=block;if_exists=error;timeout=30;@8,0", nodes.ExistsError, 30},
		{"-if_exists=report;$SUBSYSTEM=block", nodes.ExistsReport, 0},
		{"timeout=1;timeout=2;sda", nodes.ExistsRun, 2},
	} {
		c := Parse("f", tt.match+" 0:0 600 @echo", IDs{})
		p := c.Plan(event(t, sda))
		if len(p.Commands) != 1 || len(c.Problems) != 0 {
			t.Errorf("%s: %v %v", tt.match, p.Commands, c.Problems)
			continue
		}
		if got := p.Commands[0]; got.Exists != tt.exists || got.Timeout != tt.timeout {
			t.Errorf("%s: %v, %d", tt.match, got.Exists, got.Timeout)
		}
	}
}

// TestDefaults reads what holds for a whole config.
func TestDefaults(t *testing.T) {
	for text, want := range map[string]int{"": 0, "jobs=8;": 8, "jobs=8;timeout=1; 0:0 660\njobs=9;": 9, "jobs=8;\njobs=x;": 8} {
		if got := Parse("f", text, IDs{}).Jobs(); got != want {
			t.Errorf("%q: %d jobs, want %d", text, got, want)
		}
	}
}

func TestWantsUnnumbered(t *testing.T) {
	for _, tt := range []struct {
		rule     string
		any      bool   // for whatever device
		yes, not string // devices that it is wanted for, and not; "" for no such device
	}{
		{"eth0 0:0 600", false, "", "eth0"},
		{"eth0 0:0 600 @x", false, "", "eth0"},
		{"A=b;eth0 0:0 600 @x", true, "eth0", "eth01"},
		{"eth0 0:0 600 *x", false, "", "eth0"},
		{"A=b;eth0 0:0 600 *x", true, "eth0", "eth"},
		{"eth0 0:0 600 +x", false, "", "eth0"},
		{"A=b;eth0 0:0 600 +x", true, "eth0", "lo"},
		{"eth0 0:0 600 -x", false, "", "eth0"},
		{"A=b;eth0 0:0 600 -x", false, "", "eth0"},
		{"eth0 0:0 600 $x", false, "", "eth0"},
		{"eth0 0:0 600 &x", false, "", "eth0"},
		{"A=b;eth0 0:0 600 &x", true, "eth0", "lo"},
		{"A=b;eth[0-9] 0:0 600\nA=b;wlan.* 0:0 600 @x", true, "wlan7", "eth0"},
		{"$MODALIAS=.* 0:0 600 @x", true, "1-1:1.0", ""},
		{"SUBSYSTEM=net;eth0 0:0 600 @x", true, "eth0", "lo"},
		{"SUBSYSTEM=net;@8,0 0:0 600 @x", false, "", "eth0"},
		{"tag=a;SUBSYSTEM=net;eth0 0:0 600", true, "eth0", "lo"},
		{"property=A:b;SUBSYSTEM=net;eth0 0:0 600", true, "eth0", "lo"},
	} {
		c := Parse("f", tt.rule, IDs{})
		if got := c.WantsUnnumbered(""); got != tt.any {
			t.Errorf("%s: for any device: %v", tt.rule, got)
		}
		if tt.yes != "" && !c.WantsUnnumbered(tt.yes) {
			t.Errorf("%s: not for %s", tt.rule, tt.yes)
		}
		if tt.not != "" && c.WantsUnnumbered(tt.not) {
			t.Errorf("%s: for %s", tt.rule, tt.not)
		}
	}
}

func TestIDs(t *testing.T) {
	ids := ParseIDs("root:x:0:0:r:/:/bin/sh\nshort:x:1:1\nbad:x:-1:1:b:/:/bin/sh\nlp:x:7:9:p:/:\nbad:x:2:3:later:/:", "disk:x:6:\nlp:x:9:a,b")
	for _, tt := range []struct {
		owner    string
		uid, gid uint32
		problems int
	}{
		{"root:disk", 0, 6, 0},
		{"lp", 7, 9, 0},
		{"7", 7, 9, 0},
		{"8", 8, 8, 0},
		{"7:7", 7, 7, 0},
		{"bad", 2, 3, 0},
		{"short:lp", 0, 9, 1},
		{"lp:", 7, 0, 1},
		{":lp", 0, 9, 1},
		{"lp:lp:lp", 7, 0, 1},
		{"4294967294:4294967294", 4294967294, 4294967294, 0},
		{"4294967295:4294967296", 0, 0, 2},
		{"-1:+1", 0, 0, 2},
	} {
		c := Parse("f", "sda "+tt.owner+" 600", ids)
		n := c.Plan(event(t, sda)).Nodes[0]
		if n.UID != tt.uid || n.GID != tt.gid || len(c.Problems) != tt.problems {
			t.Errorf("%s: %d:%d %v", tt.owner, n.UID, n.GID, c.Problems)
		}
	}
}

// The default config has no fault, and agrees with the kernel where that speaks.
func TestDefault(t *testing.T) {
	c := Parse("default.conf", Default, IDs{})
	if len(c.Problems) > 0 || len(c.rules) == 0 {
		t.Fatalf("%d rules, %v", len(c.rules), c.Problems)
	}
	if c.WantsUnnumbered("") {
		t.Error("it has a command")
	}
	for name, mode := range map[string]uint32{
		"null": 0o666, "zero": 0o666, "full": 0o666, "random": 0o666, "urandom": 0o666,
		"tty": 0o666, "ptmx": 0o666, "console": 0o600, "tty1": 0o660, "sda": 0o660, "kmsg": 0o660,
	} {
		n := c.Plan(event(t, "ACTION=add DEVPATH=/x/"+name+" MAJOR=1 MINOR=1")).Nodes
		if len(n) != 1 || n[0].Path != name || n[0].Mode != mode || n[0].UID != 0 || n[0].GID != 0 {
			t.Errorf("%s: %+v", name, n)
		}
	}
	// What it offers in comments are rules.
	offered := strings.NewReplacer("\n#$", "\n$", "\n#SUB", "\nSUB", "\n#f", "\nf", "\n#net", "\nnet", "\n#ttyUSB", "\nttyUSB").Replace(Default)
	more := Parse("default.conf", offered, ParseIDs("", "disk:x:1:\naudio:x:2:\ninput:x:3:\ndialout:x:4:\n"))
	if len(more.Problems) > 0 || len(more.rules) != len(c.rules)+8 {
		t.Errorf("%d rules, %v", len(more.rules), more.Problems)
	}
}

// checkParse holds for every text: each line is a rule or a problem, and is read
// as if it stood alone.
func checkParse(t *testing.T, text string) {
	whole := Parse("f", text, IDs{})
	thorough := Check([]File{{Name: "f", Text: text}}, IDs{})
	if !slices.EqualFunc(whole.rules, thorough.rules, func(a, b *rule) bool {
		return a.node.Rule == b.node.Rule && a.target == b.target && a.command == b.command
	}) ||
		slices.ContainsFunc(whole.Problems, func(p Problem) bool { return !slices.Contains(thorough.Problems, p) }) {
		t.Errorf("%q: Check makes the rules\n%v of it, Parse\n%v; the problems are\n%q, and\n%q", text, thorough.rules, whole.rules, thorough.Problems, whole.Problems)
	}
	for _, problem := range thorough.Problems {
		if lines := strings.Count(text, "\n") + 1; problem.Line < 1 || problem.Line > lines || problem.Column < 1 || problem.What == "" || problem.Remedy == "" {
			t.Errorf("%q has the problem %+v", text, problem)
		}
	}
	what, _ := foreign(strings.TrimPrefix(text, "\ufeff"))
	if what != "" || len(whole.Problems) == 1 && strings.Contains(whole.Problems[0].What, "file of udev's rules") {
		if len(whole.rules) > 0 || len(thorough.Problems) != 1 {
			t.Errorf("%q: %d rules, problems %q", text, len(whole.rules), thorough.Problems)
		}
		return
	}
	var alone []*rule
	rest := strings.TrimPrefix(text, "\ufeff")
	for number := 1; rest != ""; {
		p := parser{file: "f", config: &Config{}}
		p.line, rest = cutLine(rest, number)
		last := number + len(p.line.joints)
		number = last + 1
		p.readLine()
		alone = append(alone, p.config.rules...)

		trimmed := strings.TrimLeft(p.line.text, blanks)
		if trimmed == "" || trimmed[0] == '#' {
			continue
		}
		if len(p.config.rules)+len(p.config.Problems) == 0 {
			t.Errorf("line %d, %q, is lost", p.line.number, p.line.text)
		}
		for _, problem := range p.config.Problems {
			if problem.Line < p.line.number || problem.Line > last || problem.Column < 1 || problem.What == "" || problem.Remedy == "" {
				t.Errorf("%q has the problem %+v", p.line.text, problem)
			}
		}
	}
	if !slices.EqualFunc(whole.rules, alone, func(a, b *rule) bool { return reflect.DeepEqual(a, b) }) {
		t.Errorf("%q: the rules are not those of the lines", text)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Default)
	f.Add("“sd*|sd?|[]*]*(a*)*1” 0:0 600 @foreground { echo – ’ } \"“”\" +$X\nS==\"x\",\nTimeout=5;$A==*b 0 0 +\"a\\\"\"$B\r|\n\x00")
	f.Add("A=b;sd.* 0:0 600\nA=b;sda|sdb.*|sd[c] 0:0 600 =x # –\n-@8,1-3 1 1\n@8,1-3 1 1\n@8,2 1 1\n$X=a* 1 1\n$X=aa 1 1\n")
	f.Add("\xff\xfes\x00d\x00")
	f.Add("a 0 0\rb 0 0")
	f.Add("KERNEL==\"sda\", MODE=\"0660\"\nENV{X}!=\"\"\n")
	f.Add("sda 0:0 600\\\r\n =../x @c\n#\\\n\n-$A=b;c(d)*{2} x:y u+s >%1/ *z # q")
	f.Add("if_exists=mask;timeout=5;@8,0-3 7 a=rw ! &c d\n@1 1 1\n$ 1 1\nx= 1 1 =.devspool")
	f.Fuzz(checkParse)
}

// TestFiles reads a config of several files: rules follow each other, a problem names its file, a
// file that is none costs no other, and a line does not go on in the next file.
func TestFiles(t *testing.T) {
	c := Check([]File{
		{Name: "1.conf", Text: "-sda 1:1 600 @one\njobs=3; 0:0 660\nbad\nsdc 0:0 600 \\"},
		{Name: "2.conf", Text: "SUBSYSTEM==\"block\", MODE=\"0660\"\nKERNEL==\"sd*\", MODE=\"0660\"\n.* 0:0 600\n"},
		{Name: "3.conf", Text: "\xff\xfes"},
		{Name: "main", Text: "sda 2:2 640 @two\nsdc 0:0 600\njobs=5; 0:0 660\n"},
	}, IDs{})
	if c.Err != nil || c.Name() != "main, after 3 of its pieces" || c.Jobs() != 5 {
		t.Errorf("%v, %s, jobs %d", c.Err, c.Name(), c.Jobs())
	}
	want := []string{"1.conf:3:1: a rule has", "2.conf:1:1: this is a file of udev's rules", "3.conf:1:1: this is UTF-16", "main:2:1: no event reaches this rule: 1.conf:4 matches"}
	for i, p := range c.Problems {
		if i >= len(want) || !strings.HasPrefix(p.String(), want[i]) {
			t.Errorf("problem %d: %s", i, p)
		}
	}
	if len(c.Problems) != len(want) {
		t.Errorf("%d problems, want %d", len(c.Problems), len(want))
	}
	plan := c.Plan(&uevent.Event{Action: "add", Devpath: "/block/sda", Devname: "sda", Subsystem: "block", Dev: uevent.Dev{Block: true, Major: 8}})
	if got := plan.String(); !strings.Contains(got, "make node sda 0640 2:2") || !strings.Contains(got, "run one") || strings.Index(got, "run one") > strings.Index(got, "run two") {
		t.Errorf("%s", got)
	}
	if c := ParseFiles([]File{{Name: "1.conf", Text: strings.Repeat("a 0:0 660\n", MaxRules)}, {Name: "main", Text: "b 0:0 660\n"}}, IDs{}); c.Err == nil || !strings.HasPrefix(c.Err.Error(), "main:1: more than 10000 rules") {
		t.Errorf("too many rules: %v", c.Err)
	}
}
