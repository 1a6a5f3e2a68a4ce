package conf

import "strings"

// bracket reads a set such as [^]a-z[:digit:]]. A backslash is an ordinary
// character in it, and so is a ']' that comes first.
func (t *translator) bracket(at int) part {
	var s byteSet
	negated := t.accept('^')
	for first := true; ; first = false {
		if !first && t.accept(']') {
			return t.set(s, negated)
		}
		if !t.more() {
			t.fail(at, "the bracket is never closed", `add a "]", or write \[ for the character`)
			return part{}
		}
		t.element(&s, first)
	}
}

// element reads a character, a range or a class of a set.
func (t *translator) element(s *byteSet, first bool) {
	at := t.pos
	from, single := t.member(s)
	if from == '-' && single && !first && t.src[at] == '-' && t.more() && t.src[t.pos] != ']' {
		t.fail(at, "a - stands between others in the bracket", "put it first or last")
		return
	}
	if !strings.HasPrefix(t.src[t.pos:], "-") || strings.HasPrefix(t.src[t.pos:], "-]") {
		if single {
			s.add(from)
		}
		return
	}
	t.pos++
	if !t.more() {
		return // bracket says what is missing
	}
	to, alsoSingle := t.member(s)
	if t.fault == nil && (!single || !alsoSingle || from > to) {
		t.fail(at, "the range "+quote(t.src[at:t.pos])+" holds nothing", "write its ends in ascending order")
	}
	if t.fault == nil {
		s.addRange(from, to)
	}
}

// member reads what can be an end of a range: a character, or [.c.]. A class,
// which cannot, goes into s. There is at least one byte to read.
func (t *translator) member(s *byteSet) (c byte, single bool) {
	c = t.src[t.pos]
	t.pos++
	if c != '[' || !t.more() || strings.IndexByte(".=:", t.src[t.pos]) < 0 {
		return c, true
	}
	at := t.pos - 1
	mark := t.src[t.pos : t.pos+1]
	name, _, closed := strings.Cut(t.src[t.pos+1:], mark+"]")
	if !closed {
		t.fail(at, "["+mark+" is never closed", "add a "+quote(mark+"]"))
		return 0, false
	}
	t.pos += len(name) + 3
	if mark == ":" {
		members := class(name)
		if members == (byteSet{}) {
			t.fail(at, "there is no class "+quote(name), "use one such as [:digit:] or [:alpha:]")
		}
		s.addAll(&members)
		return 0, false
	}
	if len(name) != 1 {
		t.fail(at, quote(name)+" is not a single character", "write characters one by one")
		return 0, false
	}
	if mark == "=" {
		s.add(name[0])
		return 0, false
	}
	return name[0], true
}

// class returns the members of a named class in the C locale, or the empty set
// for a name that is none.
func class(name string) (s byteSet) {
	switch name {
	case "digit":
		s.addRange('0', '9')
	case "lower":
		s.addRange('a', 'z')
	case "upper":
		s.addRange('A', 'Z')
	case "alpha":
		s.addRange('a', 'z')
		s.addRange('A', 'Z')
	case "alnum":
		s.addRange('a', 'z')
		s.addRange('A', 'Z')
		s.addRange('0', '9')
	case "xdigit":
		s.addRange('0', '9')
		s.addRange('a', 'f')
		s.addRange('A', 'F')
	case "blank":
		s.add(' ')
		s.add('\t')
	case "space":
		s.add(' ')
		s.addRange('\t', '\r')
	case "cntrl":
		s.addRange(0, 31)
		s.add(127)
	case "print":
		s.addRange(' ', '~')
	case "graph":
		s.addRange('!', '~')
	case "punct":
		s.addRange('!', '/')
		s.addRange(':', '@')
		s.addRange('[', '`')
		s.addRange('{', '~')
	}
	return s
}
