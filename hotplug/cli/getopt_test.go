package cli_test

import (
	"fmt"
	"strings"
	"testing"

	"devspool/hotplug/cli"
)

const known = "a:all v:value= o:optional? 1:attribute= b:both b:bother w:whole 2:wholesale"

func TestGetopt(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"", `[] [] [] [] [] [] []`},
		{"-a -v 1 x", `[""] ["1"] [] [] [] [] ["x"]`},
		{"-av1 x -- -a", `[""] ["1"] [] [] [] [] ["x" "-a"]`},
		{"-va", `[] ["a"] [] [] [] [] []`},
		{"-v=a -v --", `[] ["=a" "--"] [] [] [] [] []`},
		{"-o -o5 --optional=6 --optional x", `[] [] ["" "5" "6" ""] [] [] [] ["x"]`},
		{"-oa", `[] [] ["a"] [] [] [] []`},
		{"--value=1 --value 2 --value=", `[] ["1" "2" ""] [] [] [] [] []`},
		{"--val 3 --att=4 -aa", `["" ""] ["3"] [] ["4"] [] [] []`},
		{"--bot --both --bother", `[] [] [] [] ["" "" ""] [] []`},
		{"--whole -w", `[] [] [] [] [] ["" ""] []`},
		{"-", `[] [] [] [] [] [] ["-"]`},
		{"--a", "option '--a' is unknown, or short for several"},
		{"--who", "option '--who' is unknown, or short for several"},
		{"--al=1", "option '--al=1' takes no value"},
		{"--value", "option '--value' needs a value"},
		{"-v", "option '-v' needs a value"},
		{"-ax", "option '-x' is unknown"},
		{"-1x", "option '-1' is unknown"},
		{"--=", "option '--=' is unknown, or short for several"},
		{"-\xff", "option '-\xff' is unknown"},
	} {
		g, err := cli.Getopt(strings.Fields(c.line), known)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			for _, key := range "avo1bw" {
				got += fmt.Sprintf("%q ", g.All(byte(key)))
			}
			got += fmt.Sprintf("%q", g.Operands)
		}
		if got != c.want {
			t.Errorf("%s: %s; want %s", c.line, got, c.want)
		}
	}
	if g, err := cli.Getopt(strings.Fields("-a -v1 -v2 x --no y"), known); err == nil || !g.Has('a') || g.Has('o') || g.Last('v', "") != "2" || g.Last('o', "0") != "0" {
		t.Errorf("%+v, %v", g, err)
	}
}

// FuzzGetopt shows that no command line makes Getopt fail but with an Error, and that each word is read
// as an option, as a value or as an operand.
func FuzzGetopt(f *testing.F) {
	for _, args := range []string{"-av1\x00x\x00--\x00-a", "--value\x00--", "--opt=\x00-o\xff", "-\x00--b"} {
		f.Add(args)
	}
	f.Fuzz(func(t *testing.T, text string) {
		args := strings.Split(text, "\x00")
		g, err := cli.Getopt(args, known)
		if _, is := err.(cli.Error); err != nil && !is {
			t.Fatalf("%v", err)
		}
		again, err2 := cli.Getopt(append([]string{"-a", "--"}, args...), known)
		if err2 != nil || len(again.Operands) != len(args) || err == nil && len(g.Operands) > len(args) {
			t.Fatalf("%q: %v, %q", args, err2, again.Operands)
		}
	})
}
