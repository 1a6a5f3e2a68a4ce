package command

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/sys"
	"devspool/nodes"
)

func TestWords(t *testing.T) {
	env := []string{"MDEV=sda", "EMPTY=", "BLANKS=a b  c", "STAR=*", "DOLLAR=$MDEV `x` $(y)", "A=first", "A=second", "QUOTE='\"", "_x9=under"}
	for _, c := range []struct {
		line string
		want []string // nil for what is left to the shell
	}{
		{"", []string{}},
		{" \t ", []string{}},
		{"a", []string{"a"}},
		{"  a \t b  ", []string{"a", "b"}},
		{"logger -t mdev $MDEV", []string{"logger", "-t", "mdev", "sda"}},
		{"x /dev/${MDEV}1 a$MDEV.b", []string{"x", "/dev/sda1", "asda.b"}},
		{"x $MDEV$MDEV", []string{"x", "sdasda"}},
		{"x $MDEVX", []string{"x"}},
		{"x $A $_x9", []string{"x", "first", "under"}},
		{"x $EMPTY y", []string{"x", "y"}},
		{"x $EMPTY$MISSING y", []string{"x", "y"}},
		{`x "$EMPTY" '' y`, []string{"x", "", "", "y"}},
		{`x $EMPTY"" y`, []string{"x", "", "y"}},
		{`x "a b" 'c  d'e"f"`, []string{"x", "a b", "c  def"}},
		{`x '$MDEV' "$MDEV" "it's" '"'`, []string{"x", "$MDEV", "sda", "it's", `"`}},
		{`x '*?[~#;|&\' "*?[~#;|&"`, []string{"x", `*?[~#;|&\`, "*?[~#;|&"}},
		// What a device says stays in its word, whatever it is.
		{"x $BLANKS $STAR $DOLLAR $QUOTE", []string{"x", "a b  c", "*", "$MDEV `x` $(y)", `'"`}},
		{`x "$BLANKS"`, []string{"x", "a b  c"}},
		{"x a#b a~ a=b c!d % ^ @ + , : - ] x.", []string{"x", "a#b", "a~", "a=b", "c!d", "%", "^", "@", "+", ",", ":", "-", "]", "x."}},
		{"x \r\v\f", []string{"x", "\r\v\f"}},
		{"x ü\xff", []string{"x", "ü\xff"}},
		{"'a\nb'", []string{"a\nb"}},

		{"a=b x", nil},
		{`"a"=b x`, nil},
		{"=x", nil},
		{"a | b", nil}, {"a & b", nil}, {"a&&b", nil}, {"a;b", nil}, {"a < b", nil}, {"a > b", nil}, {"a 2>b", nil},
		{"(a)", nil}, {"a `b`", nil}, {"a $(b)", nil}, {"a $((1))", nil}, {`a \b`, nil}, {`a "\b"`, nil}, {"a \"`b`\"", nil},
		{"a *", nil}, {"a ?", nil}, {"a [b]", nil}, {"a {b,c}", nil}, {"{ a; }", nil},
		{"~/a", nil}, {"a ~b", nil}, {"# a", nil}, {"a # b", nil}, {"a\nb", nil},
		{"a 'b", nil}, {`a "b`, nil}, {`a "${MDEV`, nil},
		{"a $1", nil}, {"a $$", nil}, {"a $?", nil}, {"a $#", nil}, {"a $@", nil}, {"a $*", nil}, {"a $!", nil}, {"a $-", nil}, {"a $", nil}, {"a $ b", nil},
		{"a ${}", nil}, {"a ${MDEV", nil}, {"a ${MDEV:-b}", nil}, {"a ${MDEV%a}", nil}, {"a ${#MDEV}", nil}, {"a ${1}", nil}, {`a "$(b)"`, nil},
		{"a $'b'", nil}, {`a $"b"`, nil},
		// A shell has its own values of these, whatever the environment says.
		{"a $PWD", nil}, {"a ${OLDPWD}", nil}, {`a "$PPID"`, nil}, {"a $_", nil}, {"a $IFS", nil}, {"$PWD/a", nil},
		{"a '$PWD'", []string{"a", "$PWD"}},
	} {
		got, plain := words(c.line, env)
		if plain != (c.want != nil) {
			t.Errorf("words(%q): plain is %v: %q", c.line, plain, got)
			continue
		}
		if plain && !slices.Equal(got, c.want) {
			t.Errorf("words(%q) are %q, want %q", c.line, got, c.want)
		}
	}
}

// tame are values that a shell neither splits nor expands.
var tame = []string{"MDEV=sda", "EMPTY=", "X=a-b_c.d:e", "SLASH=bus/usb/001", "HASH=a#b", "EQUALS=a=b", "QUOTED='\"", "DOLLAR=$MDEV", "TILDE=~", "UTF=ü"}

// TestWordsAsShell compares words with a shell, for lines that it takes upon itself.
func TestWordsAsShell(t *testing.T) {
	lines := []string{
		"$MDEV", "${MDEV}1", "a${MDEV}b$X", `"$MDEV $X"`, `'$MDEV'"$MDEV"$MDEV`, "$EMPTY", `"$EMPTY"`, `$EMPTY""`, `''$EMPTY`,
		"a  $EMPTY  b", "$SLASH/$HASH", "a=$EQUALS", "$QUOTED", "$DOLLAR", "$TILDE", "a~b", "a:~", "x=~", "a#b", "!", "a!b", "]", "%1", "^", "-n", "--",
		"$UTF ü", "$MISSING", "x$MISSING", `"$MISSING"`, "\r", "a\rb", "\v", "$UNSET_VARIABLE$MDEV",
		// Variables that a shell has whatever the environment says.
		"$PWD", "$OLDPWD", "$PPID", `"$IFS"`, "$OPTIND", "$PS1", "$PS2", "$PS4", "$LINENO", "$_",
	}
	for _, line := range lines {
		compareWithShell(t, line)
	}
}

// FuzzWords does the same for lines that nobody thought of.
func FuzzWords(f *testing.F) {
	for _, line := range []string{"a $MDEV", `"a b" 'c'`, "a=b", "$X ${SLASH}", "x #y", `\`, "{a,b}", "${MDEV:-x}", "$", "!", "a\tb"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if strings.IndexByte(line, 0) >= 0 || len(line) > 1000 {
			t.Skip("no line of a config")
		}
		compareWithShell(t, line)
	})
}

// compareWithShell gives the words of a line to a shell as arguments, and compares
// what arrives. A word in front keeps the shell from taking one for a command.
func compareWithShell(t *testing.T, line string) {
	t.Helper()
	argv, plain := words("printf "+line, tame)
	if !plain {
		return
	}
	cmd := exec.Command(Shell, "-c", `show() { for word; do printf '%s\0' "$word"; done; }; show `+line)
	cmd.Env = tame
	cmd.Dir = "/"
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("words(%q) are %q; the shell says: %v", line, argv[1:], err)
		return
	}
	var want []string
	for word := range bytes.SplitSeq(bytes.TrimSuffix(out, []byte{0}), []byte{0}) {
		if len(out) > 0 {
			want = append(want, string(word))
		}
	}
	if !slices.Equal(argv[1:], want) {
		t.Errorf("words(%q) are %q, the shell's are %q", line, argv[1:], want)
	}
}

func TestCommandEnviron(t *testing.T) {
	e := hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/x", "SUBSYSTEM=block", "HOME=/event", "MDEV=outer", "DEVSPOOL_COMMAND=0")
	inherited := []string{"PATH=/bin", "HOME=/root", "ACTION=remove", "DEVSPOOL_COMMAND=0", "odd", "MDEV=inherited", "HOM=x"}
	got := commandEnviron(inherited, &nodes.Plan{Event: e}, nodes.Command{Node: "disk/sda"})
	for _, c := range []struct{ key, want string }{
		{"ACTION", "add"},
		{"DEVPATH", "/devices/x"},
		{"HOME", "/event"},
		{"PATH", "/bin"},
		{"HOM", "x"},
		{"MDEV", "disk/sda"},
		{"DEVSPOOL_COMMAND", "1"},
	} {
		var values []string
		for _, kv := range got {
			if value, is := strings.CutPrefix(kv, c.key+"="); is {
				values = append(values, value)
			}
		}
		if !slices.Equal(values, []string{c.want}) {
			t.Errorf("%s is said as %q, want once: %q", c.key, values, c.want)
		}
	}
	if want := "SUBSYSTEM=block"; !slices.Contains(slices.Collect(e.Env()), want) || slices.Contains(slices.Collect(e.Env()), marker) {
		t.Errorf("the event was changed: %q", slices.Collect(e.Env()))
	}
	e = hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/x", "TAGS=:forged:")
	p := &nodes.Plan{Event: e, Tags: []nodes.Tag{{Name: "seat"}, {Name: "a.b"}, {Name: "seat"}, {Name: "eat"}}}
	if env := commandEnviron([]string{"TAGS=inherited"}, p, nodes.Command{}); sys.Getenv(env, "TAGS") != ":seat:a.b:eat:" ||
		slices.Contains(env, "TAGS=:forged:") || slices.Contains(env, "TAGS=inherited") {
		t.Errorf("tags: %q", env)
	}
}

func TestResolve(t *testing.T) {
	bin := t.TempDir()
	prog := hotplugtest.Script(t, filepath.Join(bin, "prog"), "#!/bin/sh\n")
	hotplugtest.Script(t, filepath.Join(bin, "echo"), "#!/bin/sh\n")
	hotplugtest.Script(t, filepath.Join(bin, "test"), "#!/bin/sh\n")
	hotplugtest.WriteFile(t, filepath.Join(bin, "plain"), "")
	hotplugtest.Must(t, os.Mkdir(filepath.Join(bin, "dir"), 0o755))
	env := []string{"PATH=/nowhere::" + bin, "MDEV=sda", "CMD=prog", "EMPTY="}
	execlineb := hotplugtest.Script(t, filepath.Join(bin, "execlineb"), "#!/bin/sh\n")
	block := func(line string) []string { return []string{execlineb, "execlineb", "-Pc", line} }
	asked := func(line string) []string { return []string{Shell, "sh", "-c", line} }
	for _, c := range []struct {
		line string
		argv bool
		want []string // the program and its argv; nil for an error
	}{
		{"prog a $MDEV", false, []string{prog, "prog", "a", "sda"}},
		{"$CMD a", false, []string{prog, "prog", "a"}},
		{prog + " a", false, []string{prog, prog, "a"}},
		{"/nowhere/prog", false, []string{"/nowhere/prog", "/nowhere/prog"}},
		{"prog a | prog", false, asked("prog a | prog")},
		{"echo a", false, asked("echo a")},
		{"test a", false, asked("test a")},
		{"if", false, asked("if")},
		{". file", false, asked(". file")},
		{"missing a", false, asked("missing a")},
		{"plain", false, asked("plain")},
		{"dir", false, asked("dir")},
		{"'' a", false, asked("'' a")},
		{"$EMPTY", false, nil},
		{"", false, nil},

		{"prog a $MDEV | 'b'", true, []string{prog, "prog", "a", "$MDEV", "|", "'b'"}},
		{"  prog \t a  ", true, []string{prog, "prog", "a"}},
		{"echo a", true, []string{filepath.Join(bin, "echo"), "echo", "a"}},
		{"missing a", true, nil},
		{"plain", true, nil},
		{"", true, nil},

		{"prog $MDEV (a)", true, []string{prog, "prog", "$MDEV", "(a)"}},
		{"foreground { prog } prog", true, block("foreground { prog } prog")},
		{"prog \"a b\"", true, block("prog \"a b\"")},
		{"prog a\\ b", true, block("prog a\\ b")},
		{"prog # none", true, block("prog # none")},
		{"prog { }", true, block("prog { }")},
	} {
		program, argv, err := resolve(nodes.Command{Text: c.line, Execline: c.argv}, env)
		if c.want == nil {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("resolve(%q, argv %v): %q %q, error %v", c.line, c.argv, program, argv, err)
			}
			continue
		}
		if got := append([]string{program}, argv...); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("resolve(%q, argv %v) is %q, error %v; want %q", c.line, c.argv, got, err, c.want)
		}
	}
}

// TestKillGroupLeft is about a command that has left its process group before its
// time was up: it must end all the same.
func TestKillGroupLeft(t *testing.T) {
	sleep := exec.Command("sleep", "600")
	hotplugtest.Must(t, sleep.Start()) // in the group of this test
	s := &Running{PID: sleep.Process.Pid}
	s.Kill("it is enough")
	done := make(chan error, 1)
	go func() { done <- sleep.Wait() }()
	select {
	case <-done:
	case <-time.After(2 * time.Second):
		t.Error("a command outside its group survives its time limit")
		sleep.Process.Kill()
		<-done
	}
}

// TestKillLate shows that a command whose end was seen is not killed any more: its
// number may be another's.
func TestKillLate(t *testing.T) {
	sleep := exec.Command("sleep", "600")
	sleep.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	hotplugtest.Must(t, sleep.Start())
	s := &Running{PID: sleep.Process.Pid, ended: true}
	s.Kill("")
	if s.killed != "" || !hotplugtest.Alive(sleep.Process.Pid) {
		t.Error("it was killed")
	}
	hotplugtest.Must(t, sleep.Process.Kill())
	sleep.Wait()
}

// TestNullInput shows that a command reads an empty input, whatever /dev holds.
func TestNullInput(t *testing.T) {
	fd, err := nullInput()
	hotplugtest.Must(t, err)
	defer unix.Close(fd)
	var buf [1]byte
	if n, err := unix.Read(fd, buf[:]); n != 0 || err != nil {
		t.Errorf("read %d bytes, error %v", n, err)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, error %v", flags, err)
	}
}
