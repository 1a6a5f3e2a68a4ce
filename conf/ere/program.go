package ere

import "slices"

// program is an expression in the form in which it runs: a backtracking matcher
// that never visits the same instruction at the same place of the text twice, so
// that no expression and no text takes more than their lengths multiplied.
type program []instruction

type instruction struct {
	op   op
	char byte
	set  *byteSet
	x, y int // where to go on; of save the slot
}

type op uint8

const (
	opChar op = iota
	opSet
	opDot
	opFork // try x, then y
	opJump // to x
	opSave // the place, in slot x
	opTextBegin
	opTextEnd
	opWordEdge
	opNoWordEdge
	opMatch
)

// compile makes the program of an expression.
func compile(tree *node) program {
	var p program
	p.emit(tree)
	return append(p, instruction{op: opMatch})
}

func (p *program) add(in instruction) int {
	*p = append(*p, in)
	return len(*p) - 1
}

// emit appends the instructions of an expression. They run into those that follow when the
// expression has matched.
func (p *program) emit(e *node) {
	switch e.kind {
	case sequence:
		for i := range e.parts {
			p.emit(&e.parts[i])
		}
	case alternation:
		p.emitAlternation(e.parts)
	case group:
		p.add(instruction{op: opSave, x: 2 * int(e.group)})
		p.emit(&e.parts[0])
		p.add(instruction{op: opSave, x: 2*int(e.group) + 1})
	case repetition:
		p.emitRepetition(&e.parts[0], int(e.low), int(e.high))
	case char:
		p.add(instruction{op: opChar, char: e.char})
	case set:
		p.add(instruction{op: opSet, set: e.set})
	case dot:
		p.add(instruction{op: opDot})
	default:
		p.add(instruction{op: opTextBegin + op(e.kind-textBegin)})
	}
}

// emitAlternation appends a fork before each part but the last, and a jump to the end behind
// each. The targets are known, and set, only when the parts are there.
func (p *program) emitAlternation(parts []node) {
	var ends []int
	for i := range parts[:len(parts)-1] {
		fork := p.add(instruction{op: opFork})
		p.emit(&parts[i])
		ends = append(ends, p.add(instruction{op: opJump}))
		(*p)[fork].x, (*p)[fork].y = fork+1, len(*p)
	}
	p.emit(&parts[len(parts)-1])
	for _, end := range ends {
		(*p)[end].x = len(*p)
	}
}

// emitRepetition appends an expression as often as it has to match, and then either a loop
// (high < 0: no limit), or a fork to the end before each further time. The parser has
// bounded the product of nested intervals, so that this stays small.
func (p *program) emitRepetition(e *node, low, high int) {
	for range max(low-1, 0) {
		p.emit(e)
	}
	switch {
	case high < 0 && low > 0: // once more, and then as often as may be
		start := len(*p)
		p.emit(e)
		fork := p.add(instruction{op: opFork, x: start})
		(*p)[fork].y = fork + 1
		return
	case high < 0:
		fork := p.add(instruction{op: opFork})
		p.emit(e)
		p.add(instruction{op: opJump, x: fork})
		(*p)[fork].x, (*p)[fork].y = fork+1, len(*p)
		return
	case low > 0:
		p.emit(e)
	}
	var forks []int
	for range high - low {
		forks = append(forks, p.add(instruction{op: opFork, x: len(*p) + 1}))
		p.emit(e)
	}
	for _, fork := range forks {
		(*p)[fork].y = len(*p)
	}
}

// Matcher runs programs. It keeps its memory from one run to the next, so it is not for
// several goroutines. The zero Matcher is ready for use.
type Matcher struct {
	program program
	text    string
	whole   bool

	visited []uint32 // a bit for each instruction at each place
	stack   []thread
	places  []int // of the groups: begin and end, or -1
}

// thread is a way still to be tried; or with a slot of 0 or more, a place to put
// back before the next one is.
type thread struct{ pc, pos, slot int }

// match reports whether all of text matches the program, or else whether some
// part of it does. The Matcher's places are those of the groups then.
func (m *Matcher) match(p program, text string, whole bool, groups int) bool {
	m.program, m.text, m.whole = p, text, whole
	bits := len(p) * (len(text) + 1)
	m.visited = slices.Grow(m.visited[:0], bits/32+1)[:bits/32+1]
	clear(m.visited)
	m.places = m.places[:0]
	for range 2 * (groups + 1) {
		m.places = append(m.places, -1)
	}
	if whole {
		m.places[0], m.places[1] = 0, len(text)
		return m.from(0)
	}
	// What was visited from an earlier start led to no match, and would lead to none now: so
	// the visits are not forgotten, and the search takes no longer than a match of all.
	for start := range len(text) + 1 {
		if m.from(start) {
			m.places[0] = start
			return true
		}
	}
	return false
}

// from tries every way from one place of the text.
func (m *Matcher) from(start int) bool {
	m.stack = append(m.stack[:0], thread{0, start, -1})
	for len(m.stack) > 0 {
		t := m.stack[len(m.stack)-1]
		m.stack = m.stack[:len(m.stack)-1]
		if t.slot >= 0 {
			m.places[t.slot] = t.pos
		} else if m.follow(t.pc, t.pos) {
			return true
		}
	}
	return false
}

// follow goes one way to its end.
func (m *Matcher) follow(pc, pos int) bool {
	for !m.visit(pc, pos) {
		in := &m.program[pc]
		pc++
		switch in.op {
		case opChar:
			if pos == len(m.text) || m.text[pos] != in.char {
				return false
			}
			pos++
		case opSet:
			if pos == len(m.text) || !in.set.has(m.text[pos]) {
				return false
			}
			pos++
		case opDot:
			if pos == len(m.text) {
				return false
			}
			pos++
		case opFork:
			m.stack = append(m.stack, thread{in.y, pos, -1})
			pc = in.x
		case opJump:
			pc = in.x
		case opSave:
			m.stack = append(m.stack, thread{0, m.places[in.x], in.x})
			m.places[in.x] = pos
		case opMatch:
			return !m.whole || pos == len(m.text)
		default:
			if !m.holds(in.op, pos) {
				return false
			}
		}
	}
	return false
}

// visit reports whether this instruction was tried at this place before.
func (m *Matcher) visit(pc, pos int) bool {
	bit := pc*(len(m.text)+1) + pos
	if m.visited[bit/32]&(1<<(bit%32)) != 0 {
		return true
	}
	m.visited[bit/32] |= 1 << (bit % 32)
	return false
}

// holds reports whether an anchor matches at a place. The ends of the text count as no word.
func (m *Matcher) holds(anchor op, pos int) bool {
	switch anchor {
	case opTextBegin:
		return pos == 0
	case opTextEnd:
		return pos == len(m.text)
	}
	edge := m.isWord(pos-1) != m.isWord(pos)
	return edge == (anchor == opWordEdge)
}

// isWord reports whether the byte at a place belongs to a word, as \w has it.
func (m *Matcher) isWord(pos int) bool {
	if pos < 0 || pos >= len(m.text) {
		return false
	}
	c := m.text[pos]
	return c == '_' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}
