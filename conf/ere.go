package conf

import (
	"strconv"
	"strings"
)

// ere is a POSIX extended regular expression in the form in which it is used.
// Package regexp would add a seventh to the size of the program, most of it for
// Unicode, and has neither the dialect nor the bytes of the C libraries.
//
// The dialect is theirs: GNU's \w \W \s \S \b \B and {,n} work, a backslash
// before any other character makes it a literal, '.' and [^x] match a newline, ^
// and $ match only at the ends of the text. More than they take: a '*' with
// nothing before it is a literal. Less: no back-references, and \< and \> are
// both taken for \b. Text is bytes, as in the C locale.
//
// What groups hold differs from POSIX where an expression can match the same
// text in several ways: POSIX makes the earlier groups as long as it can, here
// the first alternative that leads to a match counts. It shows in expressions
// like (a|ab)(c|bcd), and not in those where only one way fits.
type ere struct {
	tree     piece    // nothing where it is plain
	plain    bool     // the branches say all there is to say
	groups   int      // how many ( there are
	branches []branch // what each alternative at the top asks for
	first    byteSet  // what a match that is not empty can begin with
	empty    bool     // whether a match may be empty
}

// fault is what is wrong with an expression, and at which offset.
type fault struct {
	offset       int
	what, remedy string
}

// Limits of an expression, which keep its program small.
const (
	maxSize  = 4000 // pieces, with each repetition written out
	maxDepth = 50   // parentheses in parentheses
)

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
func branchOf(alternative *piece) branch {
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

// byteSet is a set of bytes.
type byteSet [8]uint32

func (s *byteSet) add(c byte)      { s[c>>5] |= 1 << (c & 31) }
func (s *byteSet) has(c byte) bool { return s[c>>5]&(1<<(c&31)) != 0 }

func (s *byteSet) addRange(from, to byte) {
	for c := int(from); c <= int(to); c++ {
		s.add(byte(c))
	}
}

func (s *byteSet) addAll(other *byteSet) {
	for i := range s {
		s[i] |= other[i]
	}
}

func (s *byteSet) negate() {
	for i := range s {
		s[i] = ^s[i]
	}
}

// piece is a part of an expression.
type piece struct {
	kind      kind
	char      byte     // of a char
	group     int16    // of a group: its number, from 1
	low, high int16    // of a repetition; high is -1 where there is no end
	size      int32    // in pieces, with each repetition written out
	set       *byteSet // of a set
	parts     []piece  // of a sequence and an alternation; of a group and a repetition the one that is in it
}

type kind uint8

const (
	sequence kind = iota
	alternation
	group
	repetition
	char
	set
	dot
	textBegin  // '^'
	textEnd    // '$'
	wordEdge   // '\b'
	noWordEdge // '\B'
)

// isAnchor reports whether p matches a place, not text.
func (p *piece) isAnchor() bool { return p.kind >= textBegin }

func (p *piece) isDotStar() bool {
	return p.kind == repetition && p.low == 0 && p.high < 0 && p.parts[0].kind == dot
}

// begins adds to first what p can begin with, and reports whether p can be empty.
func (p *piece) begins(first *byteSet) (empty bool) {
	switch p.kind {
	case sequence:
		for i := range p.parts {
			if !p.parts[i].begins(first) {
				return false
			}
		}
		return true
	case alternation:
		for i := range p.parts {
			empty = p.parts[i].begins(first) || empty
		}
		return empty
	case group:
		return p.parts[0].begins(first)
	case repetition:
		return p.parts[0].begins(first) || p.low == 0
	case char:
		first.add(p.char)
		return false
	case set:
		first.addAll(p.set)
		return false
	case dot:
		first.addRange(0, 255)
		return false
	}
	return true
}

// reader reads an expression.
type reader struct {
	src    string
	pos    int
	groups int
	depth  int
	fault  *fault
	doubt  *fault
}

// read reads an expression. A doubt is what its author may have meant
// otherwise; it does not keep the expression from being used.
func read(src string) (e ere, doubt, broken *fault) {
	r := reader{src: src}
	e.tree = r.alternation()
	if r.fault != nil {
		return ere{}, nil, r.fault
	}
	e.groups = r.groups
	e.empty = e.tree.begins(&e.first)
	e.plain = true
	for i := range e.tree.parts {
		b := branchOf(&e.tree.parts[i])
		e.plain = e.plain && b.all
		e.branches = append(e.branches, b)
	}
	if e.plain {
		e.tree = piece{} // it will not be needed
	}
	return e, r.doubt, nil
}

// fail notes the first fault and ends the reading.
func (r *reader) fail(offset int, what, remedy string) piece {
	if r.fault == nil {
		r.fault = &fault{offset, what, remedy}
	}
	r.pos = len(r.src)
	return piece{}
}

func (r *reader) more() bool { return r.pos < len(r.src) }

func (r *reader) accept(c byte) bool {
	if r.more() && r.src[r.pos] == c {
		r.pos++
		return true
	}
	return false
}

// alternation reads alternatives up to the end or a closing parenthesis.
func (r *reader) alternation() piece {
	p := piece{kind: alternation}
	for {
		s := r.sequence()
		p.size += s.size
		p.parts = append(p.parts, s)
		if !r.accept('|') {
			return p
		}
	}
}

// sequence reads one alternative.
func (r *reader) sequence() piece {
	p := piece{kind: sequence, size: 1}
	for r.more() && r.src[r.pos] != '|' && (r.src[r.pos] != ')' || r.depth == 0) {
		at := r.pos
		part := r.atom()
		if !part.isAnchor() {
			part = r.repetitions(part)
		}
		p.size += part.size
		p.parts = append(p.parts, part)
		if p.size > maxSize {
			r.fail(at, "the expression repeats too much", "make its intervals smaller")
		}
	}
	return p
}

// atom reads one character, set, group or anchor.
func (r *reader) atom() piece {
	at := r.pos
	c := r.src[at]
	r.pos++
	switch c {
	case '(':
		return r.group(at)
	case '[':
		return r.bracket(at)
	case '\\':
		return r.escape(at)
	case '.':
		return piece{kind: dot, size: 1}
	case '^':
		return piece{kind: textBegin, size: 1}
	case '$':
		return piece{kind: textEnd, size: 1}
	case '+', '?', '{':
		return r.fail(at, "there is nothing before "+quote(r.src[at:at+1])+" that it could repeat",
			`write \`+r.src[at:at+1]+" for the character")
	}
	// A ')' that nothing opened and a '*' with nothing before it end up here.
	return piece{kind: char, char: c, size: 1}
}

func (r *reader) group(at int) piece {
	if r.depth == maxDepth {
		return r.fail(at, "parentheses are nested too deeply", "simplify the expression")
	}
	r.groups++
	p := piece{kind: group, group: int16(r.groups)}
	r.depth++
	inner := r.alternation()
	r.depth--
	if !r.accept(')') {
		return r.fail(at, "the parenthesis is never closed", `add a ")", or write \( for the character`)
	}
	p.parts = []piece{inner}
	p.size = inner.size + 2
	return p
}

// escape reads what follows a backslash.
func (r *reader) escape(at int) piece {
	if !r.more() {
		return r.fail(at, "there is nothing after the backslash", `write \\ for the character`)
	}
	c := r.src[r.pos]
	r.pos++
	switch {
	case c == 'w' || c == 'W':
		s := class("alnum")
		s.add('_')
		return setOf(s, c == 'W')
	case c == 's' || c == 'S':
		return setOf(class("space"), c == 'S')
	case c == 'b' || c == '<' || c == '>':
		return piece{kind: wordEdge, size: 1}
	case c == 'B':
		return piece{kind: noWordEdge, size: 1}
	case c == '`':
		return piece{kind: textBegin, size: 1}
	case c == '\'':
		return piece{kind: textEnd, size: 1}
	case c >= '1' && c <= '9':
		return r.fail(at, "back-references are not supported", "write out what is to be repeated")
	case r.doubt == nil && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'):
		r.doubt = &fault{at, `\` + string(rune(c)) + " is nothing but the letter " + string(rune(c)),
			"write [0-9] for a digit, or leave the backslash out"}
	}
	return piece{kind: char, char: c, size: 1}
}

func setOf(s byteSet, negated bool) piece {
	if negated {
		s.negate()
	}
	return piece{kind: set, set: &s, size: 1}
}

// repetitions reads the * + ? and intervals after p. A second one repeats what
// the first one made.
func (r *reader) repetitions(p piece) piece {
	for r.more() {
		at := r.pos
		low, high := 0, -1
		switch r.src[at] {
		case '*':
			r.pos++
		case '+':
			r.pos++
			low = 1
		case '?':
			r.pos++
			high = 1
		case '{':
			r.pos++
			low, high = r.interval(at)
		default:
			return p
		}
		if r.fault != nil {
			return p
		}
		size := min((p.size+1)*int32(max(low, high, 1))+1, maxSize+1)
		p = piece{kind: repetition, low: int16(low), high: int16(high), size: size, parts: []piece{p}}
		if size > maxSize {
			return r.fail(at, "the interval repeats too often",
				"stay within "+strconv.Itoa(maxSize)+" characters, intervals in intervals multiplied")
		}
	}
	return p
}

// interval reads "2}", "2,}", ",3}" or "2,3}". high is -1 where there is no end.
func (r *reader) interval(at int) (low, high int) {
	text, _, closed := strings.Cut(r.src[r.pos:], "}")
	lowText, highText, comma := strings.Cut(text, ",")
	low, lowOK := count(lowText)
	high, highOK := count(highText)
	switch {
	case !closed:
		r.fail(at, "the interval is never closed", `add a "}", or write \{ for the character`)
		return 0, 0
	case !comma:
		high, highOK = low, lowText != ""
	case highText == "":
		high = -1
	}
	if !lowOK || !highOK || high >= 0 && low > high {
		r.fail(at, "the interval is not of the form {2}, {2,}, {,3} or {2,3}",
			`correct it, or write \{ for the character`)
		return 0, 0
	}
	r.pos += len(text) + 1
	return low, high
}

// count reads a number of an interval; none is 0.
func count(text string) (n int, ok bool) {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
		n = min(n*10+int(text[i]-'0'), maxSize+1)
	}
	return n, true
}
