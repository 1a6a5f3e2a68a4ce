package systemtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/kerneltest/build"
)

// nasty are values that a device may name itself, and that a shell would act upon.
var nasty = []string{
	"plain", "two words", " leading", "trailing ", "", "*", "?", "[a-z]*", "~", "~root",
	`"`, `'`, `""`, `\`, `\\`, `\n`, "$HOME", "${HOME}", "$(touch hacked)", "`touch hacked`", "; touch hacked", "| touch hacked",
	"& touch hacked", "> hacked", "< /etc/passwd", "# comment", "a=b", "-rf", "--", "%1", "%%", "a\nb", "\n", "a\tb", "\r", "!", "!!",
	"\x01\x7f\xff", "ü", strings.Repeat("x", 1500),
}

// TestValuesNeverChangeWords gives commands such values, quoted as a careful rule
// does: alone, inside a word, and in a line that needs a shell.
func TestValuesNeverChangeWords(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	words, file := b.witness("seen")
	for _, line := range []string{
		words + ` first "$EVIL" "a${EVIL}b" 'lit$EVIL' last`,
		": && " + words + ` first "$EVIL" "a${EVIL}b" 'lit$EVIL' last`,
	} {
		b.configure("$EVIL=.* 0:0 600 *" + line + "\n")
		for _, value := range nasty {
			os.Remove(file)
			e := kerneltest.Event{Action: "change", Devpath: "/devices/evil", Vars: []string{"SUBSYSTEM=evil", "EVIL=" + value}}
			b.tell(e)
			want := []string{"first", value, "a" + value + "b", "lit$EVIL", "last"}
			seen := b.testimonies(file)
			switch {
			case len(seen) != 1:
				t.Errorf("EVIL=%q: the command ran %d times", value, len(seen))
			case !strings.Contains(value, "\xff") && !slices.Equal(seen[0].Args, want):
				t.Errorf("EVIL=%q: words %q, want %q", value, seen[0].Args, want)
			case len(seen[0].Args) != len(want):
				t.Errorf("EVIL=%q: %d words", value, len(seen[0].Args))
			}
		}
	}
	for _, dir := range []string{b.dev, b.dir, "."} {
		if _, err := os.Stat(filepath.Join(dir, "hacked")); err == nil {
			t.Errorf("a value was run as code in %s", dir)
		}
	}
}

// TestCommandsAsTheShellDoes compares the words that a line's command gets with
// those that the shell gives it.
func TestCommandsAsTheShellDoes(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	words, file := b.witness("seen")
	for _, rest := range []string{
		`a b  c`, `"a b" 'c d'`, `a"b c"d`, `''`, `"" x`, `$X`, `"$X"`, `$X$Y`, `${X}y`, `$NONE`, `"$NONE"`, `$NONE x`, `x$NONE`,
		`a\ b`, `"a\"b"`, `'a\b'`, `$X-$Y`, `{a,b}`, `~`, `a~`, `a=b`, `$1`, `$$x`, `a#b`, `# c`, `x #c`, `%1`, `$`, `a$`, `"$"`, `$(echo x)`, "`echo x`",
		`$X; :`, `a > /dev/null`, `!`, `[a]`, `*nosuch*`, `"${X}"'${X}'`, `${X:-y}`, `${NONE:-y}`, `$Xy`, `${Y#t}`, `a	b`, `-n -- x`, `^a`, `a,b:c@d`,
	} {
		os.Remove(file)
		b.configure("$EVIL=.* 0:0 600 *" + words + " " + rest + "\n")
		e := kerneltest.Event{Action: "change", Devpath: "/devices/evil", Vars: []string{"X=one", "Y=two", "EVIL=1"}}
		b.tell(e)
		got := b.testimonies(file)
		os.Remove(file)
		cmd := exec.Command("/bin/sh", "-c", words+" "+rest)
		cmd.Env, cmd.Dir = e.Environ(0), b.dev
		_ = cmd.Run()
		want := b.testimonies(file)
		if rest == `$$x` {
			continue // a process number, which differs
		}
		if len(got) != len(want) || len(got) == 1 && !slices.Equal(got[0].Args, want[0].Args) {
			t.Errorf("%s: got %q, the shell gives %q", rest, args(got), args(want))
		}
	}
}

func args(all []testimony) [][]string {
	var out [][]string
	for _, y := range all {
		out = append(out, y.Args)
	}
	return out
}

func TestCommandsEnvironment(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	words, file := b.witness("seen")
	b.configure("sda 0:0 660 =disk/%0 *" + words + "\n")
	check := func(how, action string) {
		t.Helper()
		kerneltest.Until(t, patience, how, func() bool { return len(b.testimonies(file)) > 0 })
		y := b.testimonies(file)[0]
		os.Remove(file)
		for key, want := range map[string]string{
			"ACTION": action, "DEVPATH": disk(0).Devpath, "SUBSYSTEM": "block", "DEVNAME": "sda", "DEVTYPE": "disk",
			"MAJOR": "8", "MINOR": "0", "DISKSEQ": "1", "MDEV": "disk/sda",
		} {
			if got := y.get(key); got != want {
				t.Errorf("%s: %s=%s, want %s", how, key, got, want)
			}
		}
		if y.Dir != b.dev || y.Umask != 0 {
			t.Errorf("%s: in %s with umask %o", how, y.Dir, y.Umask)
		}
		for i, kv := range y.Env {
			key, _, _ := strings.Cut(kv, "=")
			for _, other := range y.Env[i+1:] {
				if strings.HasPrefix(other, key+"=") {
					t.Errorf("%s: %s is there twice", how, key)
				}
			}
		}
	}
	e := b.plug(disk(0))
	b.tell(e)
	check("helper", "add")
	b.tell(disk(0).Event("change"))
	check("helper", "change")
	b.scan()
	check("scan", "add")
	b.tell(b.unplug(disk(0)))
	check("helper", "remove")
	l := b.startLoop()
	l.send(b.plug(disk(0)))
	check("loop", "add")
	l.send(disk(0).Event("online"))
	check("loop", "online")
}

// TestMDEVWithoutNode gives commands of a device without numbers the name that its
// node would have, as BusyBox does: scripts for network interfaces use it.
func TestMDEVWithoutNode(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "eth([0-9]) 0:0 660 =net/%1 *echo $MDEV >>../log\n")
	b.tell(kerneltest.Event{Action: "add", Devpath: "/devices/virtual/net/eth7", Vars: []string{"SUBSYSTEM=net"}})
	if got := b.read(b.dir + "/log"); got != "net/7\n" {
		t.Errorf("MDEV was %q", got)
	}
}

// TestNodeDuringCommand looks whether the node is there while the commands run:
// on add it is, and on remove it still is.
func TestNodeDuringCommand(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sda 0:0 600 >disk/%0 *test -b sda && test -b \"$MDEV\" && echo $ACTION >>../seen\n")
	b.tell(b.plug(disk(0)))
	b.tell(b.unplug(disk(0)))
	if got := b.read(b.dir + "/seen"); got != "add\nremove\n" {
		t.Errorf("the node was there on %q", got)
	}
	b.has()
}

func TestManyVariables(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	words, file := b.witness("seen")
	b.configure("$LAST=1 0:0 600 *" + words + "\n")
	e := kerneltest.Event{Action: "change", Devpath: "/devices/x", Vars: []string{"SUBSYSTEM=x"}}
	for n := range 60 {
		e.Vars = append(e.Vars, "V"+strconv.Itoa(n)+"="+strings.Repeat("v", 20))
	}
	e.Vars = append(e.Vars, "EMPTY=", "EQUALS=a=b=c", "LAST=1")
	l := b.startLoop()
	l.send(e)
	kerneltest.Until(t, patience, "the command", func() bool { return len(b.testimonies(file)) == 1 })
	for _, kv := range e.Vars {
		if !slices.Contains(b.testimonies(file)[0].Env, kv) {
			t.Errorf("the command has no %s", kv)
		}
	}
}

// TestWithoutShell has a board that has no shell, and no other program than the
// rule's own.
func TestWithoutShell(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	root := t.TempDir()
	for _, dir := range []string{"bin", "dev", "sys/devices", "etc", "out"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	copyFile(t, kerneltest.Build(t), filepath.Join(root, "bin/devspool"))
	copyFile(t, kerneltest.BuildPackage(t, "hotplug/systemtest/testdata/witness", build.Options{Plain: true}), filepath.Join(root, "bin/witness"))
	b := &board{T: t, dir: root}
	b.write(filepath.Join(root, "etc/mdev.conf"), "-$X=.* 0:0 600 *witness /out/seen \"$X\" $X-y\n$X=.* 0:0 600 *witness /out/seen shell | witness /out/seen\n")
	cmd := exec.Command("/bin/devspool", "--events", "none") // whose mount would outlast the test
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	cmd.Dir = "/"
	cmd.Env = kerneltest.Event{Action: "change", Devpath: "/devices/x", Vars: []string{"SUBSYSTEM=x", "X=two words"}}.Environ(1)
	r := b.finish(cmd)
	if got := args(b.testimonies(root + "/out/seen")); len(got) != 1 || !slices.Equal(got[0], []string{"two words", "two words-y"}) {
		t.Errorf("commands ran with %q", got)
	}
	if r.code != exitEvent || !strings.Contains(r.stderr, "mdev.conf:2") {
		t.Errorf("a command that needs a shell: exit code %d\n%s", r.code, r.stderr)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// alive reports whether the process with the number in the file lives.
func alive(t *testing.T, file string) bool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil || len(text) == 0 { // it is still to be written
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	state, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(state), ") Z ")
}

func TestTimeoutKillsAll(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "-timeout=1;sda 0:0 600 @sleep 600 & echo $! >../child; echo $$ >../shell; wait\nsda 0:0 600 @echo >../after\n")
	start := time.Now()
	r := b.finish(b.helper(b.plug(disk(0))))
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("took %v", took)
	}
	for _, file := range []string{"child", "shell"} {
		kerneltest.Until(t, patience, "the end of the "+file, func() bool { return !alive(t, filepath.Join(b.dir, file)) })
	}
	if _, err := os.Stat(b.dir + "/after"); err != nil {
		t.Errorf("the next command did not run: %v", err)
	}
	if !strings.Contains(r.stderr, "mdev.conf:1") {
		t.Errorf("the log does not name the rule:\n%s", r.stderr)
	}
}

// TestHungCommandStallsNobody has one device's command hang, in a loop that runs
// more than one at once.
func TestHungCommandStallsNobody(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sda.* 0:0 600 *echo $ACTION >>../$MDEV; sleep 600\nsd.* 0:0 600 *echo $MDEV >>../seen\n")
	l := b.startLoop("-j", "2")
	l.send(b.plug(disk(0)))
	l.send(b.plug(partition(disk(0), 1)))
	l.send(disk(0).Event("change"))
	for n := 1; n <= 20; n++ {
		l.send(b.plug(disk(n)))
	}
	kerneltest.Until(t, patience, "the others' commands", func() bool {
		text, _ := os.ReadFile(b.dir + "/seen")
		return strings.Count(string(text), "\n") == 20
	})
	if got := b.read(b.dir + "/sda"); got != "add\n" {
		t.Errorf("commands of sda: %q", got)
	}
	if _, err := os.Stat(b.dir + "/sda1"); err == nil {
		t.Error("the partition's command did not wait for the disk's")
	}
	// Not the partition's: as its event, its node waits for the disk's command.
	b.likeNodes(21)
}

// likeNodes fails unless /dev holds so many entries.
func (b *board) likeNodes(n int) {
	b.Helper()
	if got := b.snapshot(); len(got) != n {
		b.Errorf("%d entries in /dev, want %d:\n%s", len(got), n, strings.Join(got, "\n"))
	}
}

func TestJobsAtOnce(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sd.* 0:0 600 @echo b >>../log; sleep 0.05; echo e >>../log\n")
	for n := range 20 {
		b.add(disk(n))
	}
	for _, jobs := range []int{1, 3} {
		os.Remove(b.dir + "/log")
		b.must(b.run("-s", "-j", strconv.Itoa(jobs)))
		running, most := 0, 0
		for line := range strings.Lines(b.read(b.dir + "/log")) {
			if line == "b\n" {
				running++
			} else {
				running--
			}
			most = max(most, running)
		}
		if most > jobs || jobs > 1 && most == 1 {
			t.Errorf("-j %d: %d commands at once", jobs, most)
		}
	}
}

func TestIfExists(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "if_exists=mask;sd.* 0:0 600 @echo $MDEV >>../log\n")
	b.add(disk(0))
	b.scan()
	b.scan()
	b.tell(disk(0).Event("add"))
	b.tell(b.plug(disk(1)))
	b.tell(b.unplug(disk(0)))
	b.tell(b.plug(disk(0)))
	if got := b.read(b.dir + "/log"); got != "sda\nsdb\nsda\n" {
		t.Errorf("commands ran for %q", got)
	}
}

// TestCommandCallsProgram has a command run the program again, with its own
// event's variables in the environment: a trap for a helper that hands over.
func TestCommandCallsProgram(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "")
	b.configure("sda 0:0 600 @test -e /etc/began || { >/etc/began; " + b.program + " -s; echo $? >>/etc/code; }\n")
	e := b.plug(disk(0))
	b.add(disk(1))
	b.tell(e)
	kerneltest.Until(t, patience, "the command", func() bool {
		text, _ := os.ReadFile(filepath.Dir(b.conf) + "/code")
		return strings.HasPrefix(string(text), "0\n")
	})
	b.has("sda block 0600 0:0 8:0", "sdb block 0660 0:0 8:16")
}
