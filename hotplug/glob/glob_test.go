package glob

import (
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"", "x", false}, {"*", "", true}, {"*", "a/b", true}, {"a*b", "ab", true}, {"a*b", "aXbXb", true}, {"a*b", "abc", false},
		{"?", "", false}, {"?", "x", true}, {"[a-c]x", "bx", true}, {"[!a-c]", "b", false}, {"[^a-c]", "d", true}, {"[]]", "]", true}, {"[a-]", "-", true},
		{"[a", "a", false}, {"[a", "[a", true}, {`x[1\-3]`, "x3", true}, {`x[1\-3]`, "x2", false}, {`[\]]`, "]", true}, {`[\`, `[\`, false}, {"a-b", "a_b", false},
		{`\*`, "*", true}, {`\*`, "x", false}, {"tty[0-9]*", "tty12", true}, {"**a**", "bab", true},
	} {
		if got := Match(c.pattern, c.text, false); got != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.text, got)
		}
	}
}

// FuzzMatch: no pattern makes it fail, and a literal matches itself.
func FuzzMatch(f *testing.F) {
	f.Add("a[b-c]*?\\", "abx")
	f.Add("[!", "x")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 12 || len(text) > 40 {
			return
		}
		_ = Match(pattern, text, true)
		literal := strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(text)
		if !Match(literal, text, false) {
			t.Errorf("%q does not match %q", literal, text)
		}
	})
}
