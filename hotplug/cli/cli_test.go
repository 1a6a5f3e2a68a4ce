package cli_test

import (
	"slices"
	"strings"
	"testing"

	"devspool/hotplug/cli"
)

// line is a command line with an option of each kind.
type line struct {
	quiet, verbose, compat bool
	dir, libudev, name     string
	jobs                   int
}

func (l *line) options() []cli.Option {
	return []cli.Option{
		{Name: "-q, --quiet", Given: &l.quiet, Help: "say less"},
		{Name: "-v", Given: &l.verbose, Help: "log more,\nand more"},
		{Name: "--dir DIR", Text: &l.dir, Help: "use DIR"},
		{Name: "--libudev[=DIR]", Given: &l.compat, Text: &l.libudev, Help: "let them have it"},
		{Name: "-s, --subsystem S[/T]", Text: &l.name, Help: "only of S"},
		{Name: "-j N", Number: &l.jobs, Least: 1, Help: "at once"},
		{Name: "--plan [DEVICE]", Mode: true, Given: new(bool), Help: "plan"},
		{Name: "--hidden", Given: new(bool)},
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args  string
		want  line
		rest  string
		wrong string
	}{
		{args: ""},
		{args: "a - b", rest: "a - b"},
		{args: "-q", want: line{quiet: true}},
		{args: "-qv x --quiet", want: line{quiet: true, verbose: true}, rest: "x"},
		{args: "-qj3 x", want: line{quiet: true, jobs: 3}, rest: "x"},
		{args: "-vj 3 x", want: line{verbose: true, jobs: 3}, rest: "x"},
		{args: "-j=3", want: line{jobs: 3}},
		{args: "-sv", want: line{name: "v"}},
		{args: "--subsystem=a=b -s c", want: line{name: "c"}},
		{args: "--dir -q", want: line{dir: "-q"}},
		{args: "--dir=-q", want: line{dir: "-q"}},
		{args: "--libudev x", want: line{compat: true}, rest: "x"},
		{args: "--libudev=x", want: line{compat: true, libudev: "x"}},
		{args: "--plan x", rest: "x"},
		{args: "-q -- -v --", want: line{quiet: true}, rest: "-v --"},
		{args: "--", rest: ""},
		{args: "-qx", wrong: "unknown option -x"},
		{args: "-ü", wrong: "unknown option -ü"},
		{args: "-\xff", wrong: "unknown option -\ufffd"},
		{args: "--qui", wrong: "unknown option --qui"},
		{args: "--=x", wrong: "unknown option --"},
		{args: "--v", wrong: "unknown option --v"},
		{args: "--quiet=", wrong: "--quiet takes no value"},
		{args: "--dir", wrong: "--dir needs a path"},
		{args: "--dir=", wrong: "--dir needs a path"},
		{args: "-s", wrong: "-s needs a value"},
		{args: "-s=", wrong: "-s needs a value"},
		{args: "--libudev=", wrong: "--libudev needs a path"},
		{args: "-j", wrong: "-j needs a number"},
		{args: "-j 0", wrong: "-j: not a usable number: 0"},
		{args: "-j -1", wrong: "-j: not a usable number: -1"},
		{args: "-j2147483648", wrong: "-j: not a usable number: 2147483648"},
		{args: "-j 4294967297", wrong: "-j: not a usable number: 4294967297"},
		{args: "-jq", wrong: "-j: not a usable number: q"},
	} {
		var got line
		rest, err := cli.Parse(strings.Fields(c.args), got.options())
		if c.wrong != "" {
			if err != cli.Error(c.wrong) {
				t.Errorf("%q: error %v, want %q", c.args, err, c.wrong)
			}
			continue
		}
		if err != nil || got != c.want || strings.Join(rest, " ") != c.rest {
			t.Errorf("%q: %+v, rest %q, error %v", c.args, got, rest, err)
		}
	}
}

func TestSplit(t *testing.T) {
	for name, want := range map[string][3]string{
		"-q": {"q"}, "-j N": {"j", "", " N"}, "--dir DIR": {"", "dir", " DIR"}, "-t, --table": {"t", "table"},
		"-n, --name=X": {"n", "name=X"}, "--libudev[=DIR]": {"", "libudev", "[=DIR]"}, "-s, --sub S[/T]": {"s", "sub", " S[/T]"},
	} {
		o := cli.Option{Name: name}
		letter, long, arg := o.Split()
		if got := [3]string{strings.Trim(string(letter), "\x00"), long, arg}; got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestUsage(t *testing.T) {
	const want = `  -q, --quiet  say less
  -v           log more,
               and more
  --dir DIR    use DIR
  --libudev[=DIR]
               let them have it
  -s, --subsystem S[/T]
               only of S
  -j N         at once
`
	if got := cli.Usage(new(line).options(), false, "  ", 15); got != want {
		t.Errorf("%s", got)
	}
	if got := cli.Usage(new(line).options(), true, "tool ", 22); got != "tool --plan [DEVICE]  plan\n" {
		t.Errorf("%s", got)
	}
}

// FuzzParse shows that no command line makes Parse fail but with an Error, and that what it
// leaves was given.
func FuzzParse(f *testing.F) {
	for _, args := range []string{"-qv\x00--dir=x", "-j\x003", "--\x00-q", "--libudev=\x00x", "-s\xff", "-"} {
		f.Add(args)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var l line
		args := strings.Split(text, "\x00")
		rest, err := cli.Parse(args, l.options())
		if _, is := err.(cli.Error); err != nil && !is {
			t.Fatalf("%v", err)
		}
		for _, word := range rest {
			if !slices.Contains(args, word) {
				t.Errorf("%q is none of %q", word, args)
			}
		}
		if err == nil && l.jobs < 0 {
			t.Errorf("jobs %d", l.jobs)
		}
	})
}
