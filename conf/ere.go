package conf

import (
	"strconv"
	"strings"
)

// ere is a POSIX extended regular expression in the form in which it is used.
//
// The dialect is that of the C libraries: GNU's \w \W \s \S \b \B and {,n} work,
// a backslash before any other character makes it a literal, '.' and [^x] match
// a newline, ^ and $ match only at the ends of the text. More than they take: a
// '*' with nothing before it is a literal. Less: no back-references, and \< and
// \> are both taken for \b. Text is bytes, as in the C locale.
//
// What groups hold differs from POSIX where an expression can match the same
// text in several ways: POSIX makes the earlier groups as long as it can, here
// the first alternative that leads to a match counts. It shows in expressions
// like (a|ab)(c|bcd), and not in those where only one way fits.
type ere struct {
	expr     string   // the same for package regexp, one rune a byte; "" for plain text
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

// Limits of an expression. Package regexp refuses more than maxRepeat, and the
// others keep its programs small and far from where it would refuse them.
const (
	maxRepeat = 1000    // of one interval, and of intervals in intervals multiplied
	maxSize   = 1 << 16 // characters, with each repetition written out
	maxDepth  = 50      // parentheses in parentheses
	maxChain  = 8       // repetitions of one another, as in a+*
)

// branch is what can be said of one alternative without a regular expression.
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

// part is what a piece of an expression was found to be.
type part struct {
	kind  kind
	char  byte // of a plain character
	first byteSet
	empty bool
	size  int // in characters, with each repetition written out
	reps  int // the largest product of nested intervals
}

type kind uint8

const (
	other     kind = iota
	plain          // a plain character
	dot            // '.'
	dotStar        // '.*'
	textBegin      // '^'
	textEnd        // '$'
	edge           // another place between characters
)

func (k kind) isAnchor() bool { return k == textBegin || k == textEnd || k == edge }

// translator writes an expression anew in Go's syntax while it reads it. Every
// piece that it writes is one atom, which a repetition can follow.
type translator struct {
	src      string
	pos      int
	out      []byte
	groups   int
	depth    int
	branches []branch
	fault    *fault
	doubt    *fault
}

// translate reads an expression. A doubt is what its author may have meant
// otherwise; it does not keep the expression from being used.
func translate(src string) (e ere, doubt, broken *fault) {
	t := translator{src: src, out: make([]byte, 0, 2*len(src))}
	whole := t.alternation()
	if t.fault != nil {
		return ere{}, nil, t.fault
	}
	e = ere{groups: t.groups, branches: t.branches, first: whole.first, empty: whole.empty}
	if !e.isPlain() {
		e.expr = string(t.out)
	}
	return e, t.doubt, nil
}

// isPlain reports whether no regular expression is needed.
func (e *ere) isPlain() bool {
	for i := range e.branches {
		if !e.branches[i].all {
			return false
		}
	}
	return true
}

// fail notes the first fault and ends the reading.
func (t *translator) fail(offset int, what, remedy string) {
	if t.fault == nil {
		t.fault = &fault{offset, what, remedy}
	}
	t.pos = len(t.src)
}

func (t *translator) more() bool { return t.pos < len(t.src) }

func (t *translator) accept(c byte) bool {
	if t.more() && t.src[t.pos] == c {
		t.pos++
		return true
	}
	return false
}

// alternation reads alternatives up to the end or a closing parenthesis.
func (t *translator) alternation() part {
	whole := t.sequence()
	for t.accept('|') {
		t.out = append(t.out, '|')
		p := t.sequence()
		whole.first.addAll(&p.first)
		whole.empty = whole.empty || p.empty
		whole.size += p.size
		whole.reps = max(whole.reps, p.reps)
	}
	return whole
}

// sequence reads one alternative.
func (t *translator) sequence() part {
	whole := part{empty: true, reps: 1}
	var buffer [32]byte
	text, b := buffer[:0], branch{all: true}
	for t.more() && t.src[t.pos] != '|' && (t.src[t.pos] != ')' || t.depth == 0) {
		at, start := t.pos, len(t.out)
		p := t.atom()
		if !p.kind.isAnchor() {
			t.repetitions(start, &p)
		}
		if b.all {
			text = b.extend(text, &p)
		}
		if whole.empty {
			whole.first.addAll(&p.first)
		}
		whole.empty = whole.empty && p.empty
		whole.size += p.size
		whole.reps = max(whole.reps, p.reps)
		if whole.size > maxSize {
			t.fail(at, "the expression repeats too much", "make its intervals smaller")
		}
	}
	if t.depth == 0 {
		b.text = string(text)
		t.branches = append(t.branches, b)
	}
	return whole
}

// extend takes the next piece into a branch that was plain text up to here.
func (b *branch) extend(text []byte, p *part) []byte {
	switch {
	case p.kind == textEnd:
		b.end = true
	case b.any || b.end:
		b.all = false
	case p.kind == plain:
		return append(text, p.char)
	case p.kind == dotStar:
		b.any = true
	case p.kind == textBegin && len(text) == 0:
		b.begin = true
	default:
		b.all = false
	}
	return text
}

// atom reads one character, set, group or anchor.
func (t *translator) atom() part {
	at := t.pos
	c := t.src[at]
	t.pos++
	switch c {
	case '(':
		return t.group(at)
	case '[':
		return t.bracket(at)
	case '\\':
		return t.escape(at)
	case '.':
		t.out = append(t.out, '.')
		p := part{kind: dot, size: 1, reps: 1}
		p.first.negate()
		return p
	case '^':
		return t.anchor(textBegin, "^")
	case '$':
		return t.anchor(textEnd, "$")
	case '+', '?', '{':
		t.fail(at, "there is nothing before "+quote(t.src[at:at+1])+" that it could repeat",
			`write \`+t.src[at:at+1]+" for the character")
		return part{}
	}
	// A ')' that nothing opened and a '*' with nothing before it end up here.
	return t.literal(c)
}

func (t *translator) literal(c byte) part {
	p := part{kind: plain, char: c, size: 1, reps: 1}
	p.first.add(c)
	t.writeByte(c)
	return p
}

func (t *translator) writeByte(c byte) {
	switch {
	case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', strings.IndexByte("/_-:,= ", c) >= 0:
		t.out = append(t.out, c)
	default:
		const hex = "0123456789abcdef"
		t.out = append(t.out, '\\', 'x', hex[c>>4], hex[c&15])
	}
}

func (t *translator) anchor(k kind, text string) part {
	t.out = append(t.out, text...)
	return part{kind: k, empty: true, size: 1, reps: 1}
}

func (t *translator) group(at int) part {
	if t.depth == maxDepth {
		t.fail(at, "parentheses are nested too deeply", "simplify the expression")
		return part{}
	}
	t.groups++
	t.depth++
	t.out = append(t.out, '(')
	p := t.alternation()
	t.out = append(t.out, ')')
	t.depth--
	if !t.accept(')') {
		t.fail(at, "the parenthesis is never closed", `add a ")", or write \( for the character`)
	}
	p.size++
	return p
}

// escape reads what follows a backslash.
func (t *translator) escape(at int) part {
	if !t.more() {
		t.fail(at, "there is nothing after the backslash", `write \\ for the character`)
		return part{}
	}
	c := t.src[t.pos]
	t.pos++
	switch {
	case c == 'w' || c == 'W':
		s := class("alnum")
		s.add('_')
		return t.set(s, c == 'W')
	case c == 's' || c == 'S':
		return t.set(class("space"), c == 'S')
	case c == 'b' || c == '<' || c == '>':
		return t.anchor(edge, `\b`)
	case c == 'B':
		return t.anchor(edge, `\B`)
	case c == '`':
		return t.anchor(edge, `\A`)
	case c == '\'':
		return t.anchor(edge, `\z`)
	case c >= '1' && c <= '9':
		t.fail(at, "back-references are not supported", "write out what is to be repeated")
		return part{}
	case t.doubt == nil && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'):
		t.doubt = &fault{at, `\` + string(rune(c)) + " is nothing but the letter " + string(rune(c)),
			"write [0-9] for a digit, or leave the backslash out"}
	}
	return t.literal(c)
}

// set writes a set of characters.
func (t *translator) set(s byteSet, negated bool) part {
	if negated {
		s.negate()
	}
	p := part{first: s, size: 1, reps: 1}
	if s == (byteSet{}) {
		t.out = append(t.out, `[^\x00-\x{10ffff}]`...)
		return p
	}
	t.out = append(t.out, '[')
	for c := 0; c < 256; c++ {
		if !s.has(byte(c)) {
			continue
		}
		from := c
		for c < 255 && s.has(byte(c+1)) {
			c++
		}
		t.writeSetByte(byte(from))
		if c > from {
			t.out = append(t.out, '-')
			t.writeSetByte(byte(c))
		}
	}
	t.out = append(t.out, ']')
	return p
}

func (t *translator) writeSetByte(c byte) {
	if c == '-' || c == ':' || c == '=' {
		t.out = append(t.out, '\\')
	}
	t.writeByte(c)
}

// repetitions reads the * + ? and intervals after an atom that was written at
// start. A second one repeats what the first one made.
func (t *translator) repetitions(start int, p *part) {
	for n := 0; t.more(); n++ {
		at := t.pos
		low, high := 0, -1
		c := t.src[at]
		switch c {
		case '*':
		case '+':
			low = 1
		case '?':
			high = 1
		case '{':
			t.pos++
			low, high = t.interval(at)
		default:
			return
		}
		if t.fault != nil {
			return
		}
		if n == maxChain {
			t.fail(at, "too many repetitions follow one another", "leave out all but one")
			return
		}
		if n > 0 {
			t.out = append(t.out, "(?:)"...)
			copy(t.out[start+3:], t.out[start:])
			copy(t.out[start:], "(?:")
			t.out[len(t.out)-1] = ')'
		}
		if c == '{' {
			t.repeat(at, p, low, high)
		} else {
			t.pos++
			t.out = append(t.out, c)
		}
		if p.kind == dot && n == 0 && c == '*' {
			p.kind = dotStar
		} else {
			p.kind = other
		}
		p.empty = p.empty || low == 0
	}
}

// repeat writes an interval and accounts for it.
func (t *translator) repeat(at int, p *part, low, high int) {
	t.out = append(t.out, '{')
	t.out = strconv.AppendInt(t.out, int64(low), 10)
	t.out = append(t.out, ',')
	if high >= 0 {
		t.out = strconv.AppendInt(t.out, int64(high), 10)
	}
	t.out = append(t.out, '}')
	times := max(low, high, 1)
	p.size = min(p.size*times, maxSize+1)
	p.reps *= times
	if p.reps > maxRepeat {
		t.fail(at, "the interval repeats too often", "stay within "+strconv.Itoa(maxRepeat)+
			" repetitions, intervals in intervals multiplied")
	}
}

// interval reads "2}", "2,}", ",3}" or "2,3}". high is -1 where there is no end.
func (t *translator) interval(at int) (low, high int) {
	text, _, closed := strings.Cut(t.src[t.pos:], "}")
	lowText, highText, comma := strings.Cut(text, ",")
	low, lowOK := count(lowText)
	high, highOK := count(highText)
	switch {
	case !closed:
		t.fail(at, "the interval is never closed", `add a "}", or write \{ for the character`)
		return 0, 0
	case !comma:
		high, highOK = low, lowText != ""
	case highText == "":
		high = -1
	}
	if !lowOK || !highOK || high >= 0 && low > high {
		t.fail(at, "the interval is not of the form {2}, {2,}, {,3} or {2,3}",
			`correct it, or write \{ for the character`)
		return 0, 0
	}
	t.pos += len(text) + 1
	return low, high
}

// count reads a number of an interval; none is 0.
func count(text string) (n int, ok bool) {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
		n = min(n*10+int(text[i]-'0'), maxRepeat+1)
	}
	return n, true
}
