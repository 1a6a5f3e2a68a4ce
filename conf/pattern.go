package conf

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// pattern is an expression in its place in a rule. It is compiled when plain
// comparisons leave the answer open for the first time.
type pattern struct {
	ere
	whole  bool // it must match all of the text; else it is searched for
	broken bool // regexp refused it, so it matches nothing
	re     *regexp.Regexp

	line, column int32 // where it is in the config
}

// mayMatch reports false where s cannot match p, found without compiling it.
func (p *pattern) mayMatch(s string) bool {
	if p.whole && (s == "" && !p.empty || s != "" && !p.first.has(s[0])) {
		return false
	}
	for i := range p.branches {
		if p.branches[i].mayMatch(s, p.whole) {
			return true
		}
	}
	return false
}

// matches reports whether s matches p.
func (c *Config) matches(p *pattern, s string) bool {
	if !p.mayMatch(s) {
		return false
	}
	if p.expr == "" {
		return true
	}
	c.compile(p)
	return p.re != nil && p.re.MatchString(runes(s))
}

// compile makes p ready for use. The limits of translate should leave nothing to
// refuse here; if there is something, it is a Problem and p matches nothing.
func (c *Config) compile(p *pattern) {
	if p.expr == "" || p.re != nil || p.broken {
		return
	}
	expr := "(?s)" + p.expr
	if p.whole {
		expr = "(?s)^(?:" + p.expr + ")$"
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		p.broken = true
		c.Problems = append(c.Problems, Problem{c.file, int(p.line), int(p.column),
			"the expression cannot be used: " + err.Error(), "simplify it; until then the rule matches nothing"})
		return
	}
	p.re = re
}

// submatch holds what the groups of a pattern matched.
type submatch struct {
	text string
	ends []int // as package regexp gives them; nil where only the whole is known
}

// submatch returns the groups of p in s, which matches it.
func (p *pattern) submatch(s string) submatch {
	if p.re == nil {
		return submatch{text: s}
	}
	text := runes(s)
	return submatch{text, p.re.FindStringSubmatchIndex(text)}
}

// get returns group n, and whether it took part in the match.
func (g *submatch) get(n int) (string, bool) {
	if g.ends == nil {
		return g.text, n == 0
	}
	if 2*n+1 >= len(g.ends) || g.ends[2*n] < 0 {
		return "", false
	}
	return bytes(g.text[g.ends[2*n]:g.ends[2*n+1]]), true
}

// runes returns s with each byte made a rune, so that package regexp, which
// knows nothing but runes, sees bytes.
func runes(s string) string {
	if isASCII(s) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		b.WriteRune(rune(s[i]))
	}
	return b.String()
}

// bytes undoes runes.
func bytes(s string) string {
	if isASCII(s) {
		return s
	}
	b := make([]byte, 0, len(s))
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
