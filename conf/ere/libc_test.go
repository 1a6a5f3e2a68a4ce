package ere

import (
	"encoding/hex"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// libc asks the C library of this machine, or skips the test.
func libc(t *testing.T, patterns []string, texts [][]string) [][]string {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler to ask the C library with")
	}
	program := filepath.Join(t.TempDir(), "regcomp")
	if out, err := exec.Command(cc, "-O1", "-o", program, "testdata/regcomp.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var in strings.Builder
	for i, pattern := range patterns {
		for _, text := range texts[i] {
			in.WriteString("x" + hex.EncodeToString([]byte(pattern)) + " x" + hex.EncodeToString([]byte(text)) + "\n")
		}
	}
	cmd := exec.Command(program)
	cmd.Stdin = strings.NewReader(in.String())
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	answers := make([][]string, len(patterns))
	for i := range patterns {
		n := len(texts[i])
		if len(lines) < n {
			t.Fatalf("the answers end at pattern %d of %d", i, len(patterns))
		}
		answers[i], lines = lines[:n], lines[n:]
	}
	return answers
}

// grammar makes random expressions, most of them well-formed.
type grammar struct{ *rand.Rand }

func (g grammar) pick(from ...string) string { return from[g.IntN(len(from))] }

func (g grammar) expr(depth int) string {
	s := g.branch(depth)
	for g.IntN(4) == 0 {
		s += "|" + g.branch(depth)
	}
	return s
}

func (g grammar) branch(depth int) string {
	var s string
	for range g.IntN(5) {
		s += g.atom(depth)
		for range max(0, g.IntN(6)-3) {
			s += g.pick("*", "+", "?", "{2}", "{1,2}", "{,2}", "{1,}", "{0}", "{,}")
		}
	}
	return s
}

func (g grammar) atom(depth int) string {
	switch n := g.IntN(20); {
	case n < 9:
		return g.pick("a", "b", "c", "sd", "0", "-", "/", "\xe9", "}", ",", "]")
	case n < 10:
		return "."
	case n < 11:
		return "[" + g.pick("", "^") + "[:" + g.pick("alnum", "alpha", "blank", "cntrl", "digit", "graph",
			"lower", "print", "punct", "space", "upper", "xdigit") + ":]]"
	case n < 13:
		return g.pick("[ab]", "[^a]", "[a-c]", "[]a]", "[^]a]", `[\w]`, "[[:digit:]]", "[a[:punct:]]",
			"[[=a=]b]", "[[.-.]]", "[a-]", "[-a]", "[+--]", "[[.a.]-c]", "[[a]", "[$^*]", "[^\xe9]", "[^[:alnum:]]")
	case n < 15:
		return g.pick(`\w`, `\W`, `\s`, `\S`, `\.`, `\:`, `\d`, `\*`, `\(`, `\\`, `\{`, `\-`)
	case n < 16 && depth == 2:
		// Not in groups: glibc 2.36 errs on anchors in a group that is repeated,
		// such as (\'.{1,2}+){,}+ against "c-", all of which it takes for a match.
		return g.pick("^", "$", `\b`, `\B`, "\\`", `\'`)
	case depth > 0:
		return "(" + g.expr(depth-1) + ")"
	}
	return "a"
}

// noise makes expressions that are mostly broken.
func (g grammar) noise() string {
	var s string
	for range g.IntN(8) {
		s += g.pick("a", "b", "[", "]", "(", ")", "{", "}", "*", "+", "?", "|", "^", "$", `\`, "-", "1", "2", ",", "[:", ":]", "digit", "=", "[.", ".]", "^", "[^")
	}
	return s
}

func (g grammar) text() string {
	var s string
	for range g.IntN(6) {
		s += g.pick("a", "b", "c", "sd", "0", "-", "/", "_", " ", "\xe9", "ab", ".", "d", "*", "]", "}", "(", `\`, "A", "F", "\t", "\x7f", "~")
	}
	return s
}

// TestAgainstLibc compares with the C library what matches, and what is refused.
func TestAgainstLibc(t *testing.T) {
	n := 8000
	if s := os.Getenv("DEVSPOOL_PATTERNS"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	seed := uint64(1)
	if s := os.Getenv("DEVSPOOL_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	g := grammar{rand.New(rand.NewPCG(seed, 2))}
	patterns := make([]string, n)
	texts := make([][]string, n)
	for i := range patterns {
		patterns[i] = g.expr(2)
		if i%4 == 0 {
			patterns[i] = g.noise()
		}
		texts[i] = []string{"", g.text(), g.text(), g.text(), g.text(), g.text()}
	}
	var matches, refused, groupsDiffer int
	for i, answers := range libc(t, patterns, texts) {
		search, _, broken := Parse(patterns[i], false)
		if answers[0] == "bad" || broken != nil {
			refused++
			if (answers[0] == "bad") != (broken != nil) && !strayStar.MatchString(patterns[i]) {
				t.Errorf("%q: the C library says %v, we say %+v", patterns[i], answers[0], broken)
			}
			continue
		}
		whole := mustParse(t, patterns[i], true)
		m := &Matcher{}
		for j, text := range texts[i] {
			answer := answers[j]
			if answer == "slow" {
				continue
			}
			found := m.Match(&search, text)
			if found != (answer != "no") {
				t.Errorf("%q searched for in %q: %v, the C library says %q", patterns[i], text, found, answer)
			}
			end := "0 " + strconv.Itoa(len(text)) + " "
			all := m.Match(whole, text)
			if all != (answer == end || strings.HasPrefix(answer, end)) {
				t.Errorf("%q against all of %q: %v, the C library says %q", patterns[i], text, all, answer)
			}
			if all {
				matches++
				if got := offsets(whole, text); got != answer {
					groupsDiffer++
					if testing.Verbose() {
						t.Logf("groups of %q in %q: %q, the C library says %q", patterns[i], text, got, answer)
					}
				}
			}
		}
	}
	t.Logf("%d expressions (%d refused), %d whole matches, groups differ in %d", n, refused, matches, groupsDiffer)
}

// offsets shows the groups of a match as the C program does, up to the ninth.
func offsets(p *Expr, text string) string {
	m := &Matcher{}
	ends := m.Submatch(p, text).places
	var b strings.Builder
	for i, n := range ends {
		if i < 20 {
			b.WriteString(strconv.Itoa(n) + " ")
		}
	}
	return b.String()
}

// strayStar finds a '*' with nothing before it, which is a literal here.
var strayStar = regexp.MustCompile(`(^|[(|^$]|\\[bB\x60'])\*`)
