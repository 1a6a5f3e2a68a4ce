package ere

import (
	"strconv"
	"strings"
)

// golang writes an expression in the syntax of package regexp, against which
// ours is tested. It works on runes, so that texts go through runes first.
func golang(p *node) string {
	switch p.kind {
	case sequence:
		var b strings.Builder
		for i := range p.parts {
			b.WriteString(golang(&p.parts[i]))
		}
		return b.String()
	case alternation:
		var all []string
		for i := range p.parts {
			all = append(all, golang(&p.parts[i]))
		}
		return strings.Join(all, "|")
	case group:
		return "(" + golang(&p.parts[0]) + ")"
	case repetition:
		high := ""
		if p.high >= 0 {
			high = strconv.Itoa(int(p.high))
		}
		return "(?:" + golang(&p.parts[0]) + "){" + strconv.Itoa(int(p.low)) + "," + high + "}"
	case char:
		return golangByte(p.char)
	case set:
		out := "[^\\x00-\\x{10ffff}"
		for c := range 256 {
			if p.set.has(byte(c)) {
				if out[1] == '^' {
					out = "["
				}
				out += golangByte(byte(c))
			}
		}
		return out + "]"
	case dot:
		return "."
	case textBegin:
		return "^"
	case textEnd:
		return "$"
	case wordEdge:
		return `\b`
	}
	return `\B`
}

func golangByte(c byte) string {
	const hex = "0123456789abcdef"
	return `\x` + string(hex[c>>4]) + string(hex[c&15])
}

// runes returns s with each byte made a rune.
func runes(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteRune(rune(s[i]))
	}
	return b.String()
}
