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

	"devspool/hotplug/hotplugtest"
	"devspool/nodes"
)

// TestWords shows how lines are split, and which are left to a shell.
func TestWords(t *testing.T) {
	t.Parallel()
	env := []string{"MDEV=sda", "EMPTY=", "BLANKS=a b  c", "STAR=*", "DOLLAR=$MDEV `x` $(y)", "A=first", "A=second", "QUOTE='\"", "_x9=under"}
	for _, c := range []struct {
		line string
		want []string // nil for a line that is left to a shell
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
		// A value of a device stays in its word, whatever it is.
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
		// A shell has values of its own for these, whatever the environment has.
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

// tame is an environment whose values a shell neither splits nor expands.
var tame = []string{"MDEV=sda", "EMPTY=", "X=a-b_c.d:e", "SLASH=bus/usb/001", "HASH=a#b", "EQUALS=a=b", "QUOTED='\"", "DOLLAR=$MDEV", "TILDE=~", "UTF=ü"}

// TestWordsAsShell compares words with a shell, for lines that words does not leave to one.
func TestWordsAsShell(t *testing.T) {
	t.Parallel()
	lines := []string{
		"$MDEV", "${MDEV}1", "a${MDEV}b$X", `"$MDEV $X"`, `'$MDEV'"$MDEV"$MDEV`, "$EMPTY", `"$EMPTY"`, `$EMPTY""`, `''$EMPTY`,
		"a  $EMPTY  b", "$SLASH/$HASH", "a=$EQUALS", "$QUOTED", "$DOLLAR", "$TILDE", "a~b", "a:~", "x=~", "a#b", "!", "a!b", "]", "%1", "^", "-n", "--",
		"$UTF ü", "$MISSING", "x$MISSING", `"$MISSING"`, "\r", "a\rb", "\v", "$UNSET_VARIABLE$MDEV",
		// A shell has values of its own for these.
		"$PWD", "$OLDPWD", "$PPID", `"$IFS"`, "$OPTIND", "$PS1", "$PS2", "$PS4", "$LINENO", "$_",
	}
	for _, line := range lines {
		compareWithShell(t, line)
	}
}

// FuzzWords does the same for random lines.
func FuzzWords(f *testing.F) {
	for _, line := range []string{"a $MDEV", `"a b" 'c'`, "a=b", "$X ${SLASH}", "x #y", `\`, "{a,b}", "${MDEV:-x}", "$", "!", "a\tb"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if strings.IndexByte(line, 0) >= 0 || len(line) > 1000 {
			t.Skip("not a line of a config")
		}
		compareWithShell(t, line)
	})
}

// compareWithShell compares the words of a line with the arguments that a shell makes of it.
// A word in front keeps the shell from taking the first one for a command.
func compareWithShell(t *testing.T, line string) {
	t.Helper()
	argv, plain := words("printf "+line, tame)
	if !plain {
		return
	}
	cmd := exec.Command(shell, "-c", `show() { for word; do printf '%s\0' "$word"; done; }; show `+line)
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

// TestResolve shows which program runs a line, and with which arguments.
func TestResolve(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	prog := hotplugtest.Script(t, filepath.Join(bin, "prog"), "#!/bin/sh\n")
	hotplugtest.Script(t, filepath.Join(bin, "echo"), "#!/bin/sh\n")
	hotplugtest.Script(t, filepath.Join(bin, "test"), "#!/bin/sh\n")
	hotplugtest.WriteFile(t, filepath.Join(bin, "plain"), "")
	hotplugtest.Must(t, os.Mkdir(filepath.Join(bin, "dir"), 0o755))
	env := []string{"PATH=/nowhere::" + bin, "MDEV=sda", "CMD=prog", "EMPTY="}
	execlineb := hotplugtest.Script(t, filepath.Join(bin, "execlineb"), "#!/bin/sh\n")
	block := func(line string) []string { return []string{execlineb, "execlineb", "-Pc", line} }
	byShell := func(line string) []string { return []string{shell, "sh", "-c", line} }
	for _, c := range []struct {
		line     string
		execline bool
		want     []string // the program and its argv; nil for an error
	}{
		{"prog a $MDEV", false, []string{prog, "prog", "a", "sda"}},
		{"$CMD a", false, []string{prog, "prog", "a"}},
		{prog + " a", false, []string{prog, prog, "a"}},
		{"/nowhere/prog", false, []string{"/nowhere/prog", "/nowhere/prog"}},
		{"prog a | prog", false, byShell("prog a | prog")},
		{"echo a", false, byShell("echo a")},
		{"test a", false, byShell("test a")},
		{"if", false, byShell("if")},
		{". file", false, byShell(". file")},
		{"missing a", false, byShell("missing a")},
		{"plain", false, byShell("plain")},
		{"dir", false, byShell("dir")},
		{"'' a", false, byShell("'' a")},
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
		program, argv, err := resolve(&nodes.Command{Text: c.line, Execline: c.execline}, env)
		if c.want == nil {
			if !errors.Is(err, errNotFound) {
				t.Errorf("resolve(%q, execline %v): %q %q, error %v", c.line, c.execline, program, argv, err)
			}
			continue
		}
		if got := append([]string{program}, argv...); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("resolve(%q, execline %v) is %q, error %v; want %q", c.line, c.execline, got, err, c.want)
		}
	}
}
