package ere

import (
	"strconv"
	"strings"
)

// bracket reads a set such as [^]a-z[:digit:]]. A backslash is an ordinary
// character in it, and so is a ']' that comes first.
func (r *parser) bracket(at int) node {
	var s byteSet
	negated := r.accept('^')
	for first := true; ; first = false {
		if !first && r.accept(']') {
			return setOf(s, negated)
		}
		if !r.more() {
			r.fail(at, "the bracket is never closed", `add a "]", or write \[ for the character`)
			return node{}
		}
		r.element(&s, first)
	}
}

// element reads a character, a range or a class of a set.
func (r *parser) element(s *byteSet, first bool) {
	at := r.pos
	from, single := r.member(s)
	// As in [a-c-e], where the second - could begin a range or stand for itself.
	if from == '-' && single && !first && r.src[at] == '-' && r.more() && r.src[r.pos] != ']' {
		r.fail(at, "a - stands between others in the bracket", "put it first or last")
		return
	}
	// A - before the closing bracket stands for itself.
	if !strings.HasPrefix(r.src[r.pos:], "-") || strings.HasPrefix(r.src[r.pos:], "-]") {
		if single {
			s.add(from)
		}
		return
	}
	r.pos++
	if !r.more() {
		return // bracket says what is missing
	}
	to, alsoSingle := r.member(s)
	if r.err == nil && (!single || !alsoSingle || from > to) {
		r.fail(at, "the range "+strconv.Quote(r.src[at:r.pos])+" holds nothing", "write its ends in ascending order")
	}
	if r.err == nil {
		s.addRange(from, to)
	}
}

// member reads what can be an end of a range: a character, or [.c.]. A class,
// which cannot, goes into s. There is at least one byte to read.
func (r *parser) member(s *byteSet) (c byte, single bool) {
	c = r.src[r.pos]
	r.pos++
	if c != '[' || !r.more() || strings.IndexByte(".=:", r.src[r.pos]) < 0 {
		return c, true
	}
	at := r.pos - 1
	mark := r.src[r.pos : r.pos+1]
	name, _, closed := strings.Cut(r.src[r.pos+1:], mark+"]")
	if !closed {
		r.fail(at, "["+mark+" is never closed", "add a "+strconv.Quote(mark+"]"))
		return 0, false
	}
	r.pos += len(name) + 3
	if mark == ":" {
		members := class(name)
		if members == (byteSet{}) {
			r.fail(at, "there is no class "+strconv.Quote(name), "use one such as [:digit:] or [:alpha:]")
		}
		s.addAll(&members)
		return 0, false
	}
	if len(name) != 1 {
		r.fail(at, strconv.Quote(name)+" is not a single character", "write characters one by one")
		return 0, false
	}
	// In the C locale no other character is equivalent to it.
	if mark == "=" {
		s.add(name[0])
		return 0, false
	}
	return name[0], true
}

// classes are the named classes of the C locale: the ends of the ranges of each.
var classes = [...]struct{ name, ranges string }{
	{"digit", "09"},
	{"lower", "az"},
	{"upper", "AZ"},
	{"alpha", "azAZ"},
	{"alnum", "azAZ09"},
	{"xdigit", "09afAF"},
	{"blank", "  \t\t"},
	{"space", "  \t\r"}, // from \t to \r: also \n, \v and \f
	{"cntrl", "\x00\x1f\x7f\x7f"},
	{"print", " ~"},
	{"graph", "!~"},
	{"punct", "!/:@[`{~"},
}

// class returns the members of a named class, or the empty set for a name that is none.
func class(name string) (s byteSet) {
	for i := range classes {
		for r := classes[i].ranges; r != "" && classes[i].name == name; r = r[2:] {
			s.addRange(r[0], r[1])
		}
	}
	return s
}
