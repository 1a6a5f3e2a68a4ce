package ere

import (
	"strconv"
	"strings"
)

// Error is what is wrong with an expression.
type Error struct {
	Offset       int    // in bytes, of the part that it is about
	What, Remedy string // what is wrong, and what to write instead
}

func (e *Error) Error() string { return e.What + "; " + e.Remedy }

// Warning is what the author of an expression that can be used may have meant otherwise.
type Warning Error

// Limits of an expression, which keep its program small.
const (
	maxSize  = 4000 // nodes, with each repetition written out
	maxDepth = 50   // parentheses in parentheses
)

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

// node is a part of an expression.
type node struct {
	kind      kind
	char      byte     // of a char
	group     int16    // of a group: its number, from 1
	low, high int16    // of a repetition; high is -1 where there is no end
	size      int32    // in nodes, with each repetition written out
	set       *byteSet // of a set
	parts     []node   // of a sequence and an alternation; of a group and a repetition the one that is in it
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
	// The anchors come last, and in the order of their opcodes: isAnchor and emit go by that.
	textBegin  // '^'
	textEnd    // '$'
	wordEdge   // '\b'
	noWordEdge // '\B'
)

// isAnchor reports whether p matches a place, not text.
func (p *node) isAnchor() bool { return p.kind >= textBegin }

// isDotStar reports whether p is ".*", which matches whatever follows and needs no program.
func (p *node) isDotStar() bool {
	return p.kind == repetition && p.low == 0 && p.high < 0 && p.parts[0].kind == dot
}

// begins adds to first what p can begin with, and reports whether p can be empty.
func (p *node) begins(first *byteSet) (empty bool) {
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

// parser reads an expression.
type parser struct {
	src     string
	pos     int
	groups  int
	depth   int      // of parentheses
	err     *Error   // the first
	warning *Warning // the first
}

// Parse reads an expression. Where whole is set it must match all of a text, or else
// some part of it. The Error or Warning, if there is one, is the first of its kind.
func Parse(src string, whole bool) (e Expr, w *Warning, err *Error) {
	p := parser{src: src}
	e.tree = p.alternation()
	if p.err != nil {
		return Expr{}, nil, p.err
	}
	e.whole = whole
	e.groups = p.groups
	e.empty = e.tree.begins(&e.first)
	e.plain = true
	for i := range e.tree.parts {
		b := branchOf(&e.tree.parts[i])
		e.plain = e.plain && b.all
		e.branches = append(e.branches, b)
	}
	if e.plain {
		e.tree = node{} // it will not be needed
	}
	return e, p.warning, nil
}

// fail notes the first error and ends the reading.
func (r *parser) fail(offset int, what, remedy string) node {
	if r.err == nil {
		r.err = &Error{offset, what, remedy}
	}
	r.pos = len(r.src)
	return node{}
}

func (r *parser) more() bool { return r.pos < len(r.src) }

func (r *parser) accept(c byte) bool {
	if r.more() && r.src[r.pos] == c {
		r.pos++
		return true
	}
	return false
}

// alternation reads alternatives up to the end or a closing parenthesis.
func (r *parser) alternation() node {
	p := node{kind: alternation}
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
func (r *parser) sequence() node {
	p := node{kind: sequence, size: 1}
	for r.more() && r.src[r.pos] != '|' && (r.src[r.pos] != ')' || r.depth == 0) {
		at := r.pos
		part := r.atom()
		// Nothing repeats an anchor: a '*' behind one counts as having nothing before it.
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
func (r *parser) atom() node {
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
		return node{kind: dot, size: 1}
	case '^':
		return node{kind: textBegin, size: 1}
	case '$':
		return node{kind: textEnd, size: 1}
	case '+', '?', '{':
		return r.fail(at, "there is nothing before "+strconv.Quote(r.src[at:at+1])+" that it could repeat",
			`write \`+r.src[at:at+1]+" for the character")
	}
	// A ')' that nothing opened and a '*' with nothing before it end up here.
	return node{kind: char, char: c, size: 1}
}

// group reads what follows a "(". at is the place of that, for messages. The depth is limited
// since alternation calls group again.
func (r *parser) group(at int) node {
	if r.depth == maxDepth {
		return r.fail(at, "parentheses are nested too deeply", "simplify the expression")
	}
	r.groups++
	p := node{kind: group, group: int16(r.groups)}
	r.depth++
	inner := r.alternation()
	r.depth--
	if !r.accept(')') {
		return r.fail(at, "the parenthesis is never closed", `add a ")", or write \( for the character`)
	}
	p.parts = []node{inner}
	p.size = inner.size + 2 // the places of its ends are saved
	return p
}

// escape reads what follows a backslash.
func (r *parser) escape(at int) node {
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
		return node{kind: wordEdge, size: 1}
	case c == 'B':
		return node{kind: noWordEdge, size: 1}
	case c == '`':
		return node{kind: textBegin, size: 1}
	case c == '\'':
		return node{kind: textEnd, size: 1}
	case c >= '1' && c <= '9':
		return r.fail(at, "back-references are not supported", "write out what is to be repeated")
	case r.warning == nil && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'):
		r.warning = &Warning{at, `\` + string(rune(c)) + " is nothing but the letter " + string(rune(c)),
			"write [0-9] for a digit, or leave the backslash out"}
	}
	return node{kind: char, char: c, size: 1}
}

// setOf returns the node of a set. A negated one matches a newline too, as regcomp has it
// without REG_NEWLINE.
func setOf(s byteSet, negated bool) node {
	if negated {
		s.negate()
	}
	return node{kind: set, set: &s, size: 1}
}

// repetitions reads the * + ? and intervals after p. A second one repeats what
// the first one made.
func (r *parser) repetitions(p node) node {
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
		if r.err != nil {
			return p
		}
		// Written out, each time takes p and a fork. low and high are at most maxSize+1, and
		// p.size not much more, so the product fits.
		size := min((p.size+1)*int32(max(low, high, 1))+1, maxSize+1)
		p = node{kind: repetition, low: int16(low), high: int16(high), size: size, parts: []node{p}}
		if size > maxSize {
			return r.fail(at, "the interval repeats too often",
				"stay within "+strconv.Itoa(maxSize)+" characters, intervals in intervals multiplied")
		}
	}
	return p
}

// interval reads "2}", "2,}", ",3}" or "2,3}". high is -1 where there is no end.
func (r *parser) interval(at int) (low, high int) {
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

// count reads a number of an interval; none is 0. A number above maxSize becomes maxSize+1: its
// expression is refused all the same, and nothing overflows.
func count(text string) (n int, ok bool) {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
		n = min(n*10+int(text[i]-'0'), maxSize+1)
	}
	return n, true
}
