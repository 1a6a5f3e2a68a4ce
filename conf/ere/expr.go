// Package ere is POSIX extended regular expressions as the C libraries of boards take
// them, on bytes. (Package regexp would add a seventh to the size of the program, most
// of it for Unicode, and has neither the dialect nor the bytes.)
//
// The dialect is regcomp's in the C locale: GNU's \w \W \s \S \b \B and {,n} work, a
// backslash before any other character makes it a literal, '.' and [^x] match a newline,
// ^ and $ match only at the ends of the text. More than regcomp takes: a '*' with
// nothing before it is a literal. Less: no back-references, and \< and \> are
// both taken for \b.
//
// What groups hold differs from POSIX where an expression can match the same
// text in several ways: POSIX makes the earlier groups as long as it can, here
// the first alternative that leads to a match counts. It shows in expressions
// like (a|ab)(c|bcd), and not in those where only one way fits.
//
// Neither an expression nor a text takes more time and memory than their lengths
// multiplied. The package knows nothing of the files that expressions stand in.
package ere

import "strings"

// Expr is an expression that Parse read. Its program is made when plain comparisons
// leave the answer open for the first time, so an Expr is not for several goroutines.
// The zero Expr matches nothing.
type Expr struct {
	whole    bool     // it must match all of the text; else it is searched for
	plain    bool     // the branches say all there is to say
	empty    bool     // whether a match may be empty
	groups   int      // how many ( there are
	branches []branch // what each alternative at the top asks for
	first    byteSet  // what a match that is not empty can begin with
	tree     node     // nothing where it is plain
	program  program
}

// Groups returns how many groups, in parentheses, the expression has.
func (e *Expr) Groups() int { return e.groups }

// CanBegin reports false where no match begins with c.
func (e *Expr) CanBegin(c byte) bool { return e.first.has(c) }

// MayMatch reports false where s cannot match, found without running a program. Where
// the expression is plain, true means that s does match.
func (e *Expr) MayMatch(s string) bool {
	if e.whole && (s == "" && !e.empty || s != "" && !e.first.has(s[0])) {
		return false
	}
	for i := range e.branches {
		if e.branches[i].mayMatch(s, e.whole) {
			return true
		}
	}
	return false
}

// IsPlain reports whether MayMatch gives the answer of Match.
func (e *Expr) IsPlain() bool { return e.plain }

// MatchesAll reports whether the expression is written so that it matches any text.
func (e *Expr) MatchesAll() bool {
	return len(e.branches) == 1 && e.branches[0].all && e.branches[0].any && e.branches[0].text == ""
}

// Match reports whether s matches e.
func (m *Matcher) Match(e *Expr, s string) bool {
	return e.MayMatch(s) && (e.plain || m.run(e, s))
}

// Index returns where in s the first match of e begins, or -1. An e that is searched
// for has to have a group, or the place is not known.
func (m *Matcher) Index(e *Expr, s string) int {
	if !e.MayMatch(s) || !m.run(e, s) {
		return -1
	}
	return m.places[0]
}

// Covers reports whether e matches whatever other does, as far as that shows of the
// plain text that they begin with. Both have to match the whole of a text.
func (m *Matcher) Covers(e, other *Expr) bool {
	for i := range other.branches {
		if !m.coversBranch(e, &other.branches[i]) {
			return false
		}
	}
	return true
}

// coversBranch reports whether e matches all that b does: by trying it where b is plain text,
// or where a branch of e is the begin of that text and ".*".
func (m *Matcher) coversBranch(e *Expr, b *branch) bool {
	if b.all && !b.any {
		return m.Match(e, b.text)
	}
	for i := range e.branches {
		if c := &e.branches[i]; c.all && c.any && strings.HasPrefix(b.text, c.text) {
			return true
		}
	}
	return false
}

// run makes the program of e when it is needed for the first time: MayMatch alone decides about
// many texts.
func (m *Matcher) run(e *Expr, s string) bool {
	if e.program == nil {
		e.program = compile(&e.tree)
	}
	return m.match(e.program, s, e.whole, e.groups)
}

// Submatch returns what the groups of e hold in s, all of which it matches.
func (m *Matcher) Submatch(e *Expr, s string) Submatch {
	g := Submatch{text: s, places: []int{0, len(s)}}
	if !e.plain && m.run(e, s) {
		g.places = append([]int(nil), m.places...)
	}
	return g
}

// Submatch holds what the groups of an expression matched.
type Submatch struct {
	text   string
	places []int // of each group begin and end, or -1
}

// Group returns what group n matched, and whether it took part; 0 is the whole match.
func (g *Submatch) Group(n int) (text string, took bool) {
	if 2*n+1 >= len(g.places) || g.places[2*n] < 0 || g.places[2*n+1] < 0 {
		return "", false
	}
	return g.text[g.places[2*n]:g.places[2*n+1]], true
}

// branch is what can be said of one alternative without running a program.
type branch struct {
	text  string // the plain text that it begins with
	all   bool   // there is nothing else, but for what follows
	begin bool   // a ^ before the text
	end   bool   // a $ after it
	any   bool   // a .* after it
}

// mayMatch reports false where s cannot match the branch. For a branch that is
// all plain text, true means that it does match.
func (b *branch) mayMatch(s string, whole bool) bool {
	begin := whole || b.begin
	end := b.all && (whole || b.end) && !b.any
	switch {
	case begin && end:
		return s == b.text
	case begin:
		return strings.HasPrefix(s, b.text)
	case end:
		return strings.HasSuffix(s, b.text)
	}
	return strings.Contains(s, b.text)
}

// branchOf says of one alternative what can be said.
func branchOf(alternative *node) branch {
	b := branch{all: true}
	var text []byte
	for i := range alternative.parts {
		p := &alternative.parts[i]
		switch {
		case p.kind == textEnd:
			b.end = true
			continue
		case b.any || b.end:
			b.all = false
		case p.kind == char:
			text = append(text, p.char)
			continue
		case p.isDotStar():
			b.any = true
			continue
		case p.kind == textBegin && len(text) == 0:
			b.begin = true
			continue
		default:
			b.all = false
		}
		break
	}
	b.text = string(text)
	return b
}
