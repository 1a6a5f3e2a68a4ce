package conf

import (
	"strconv"
	"strings"
)

// defaultMode is the mode of a node of which nothing is said, and the one that
// symbolic modes change.
const defaultMode = 0o660

// parseMode reads a mode as chmod takes it: octal, or changes of 0660 such as
// "o+r,g-w". No umask applies.
func parseMode(text string) (mode uint32, ok bool) {
	if text != "" && text[0] >= '0' && text[0] <= '9' {
		n, err := strconv.ParseUint(text, 8, 12)
		return uint32(n), err == nil
	}
	mode = defaultMode
	for clause := range strings.SplitSeq(text, ",") {
		if clause == "" { // BusyBox lets a comma too many pass
			continue
		}
		if mode, ok = change(mode, clause); !ok {
			return 0, false
		}
	}
	return mode, text != ""
}

// change applies one clause of a symbolic mode: whoBits it is about, then
// operations, of which there is at least one.
func change(mode uint32, clause string) (_ uint32, ok bool) {
	ops := strings.TrimLeft(clause, "ugoa")
	who := whoBits(clause[:len(clause)-len(ops)])
	for ops != "" {
		op := ops[0]
		end := strings.IndexAny(ops[1:], "+-=") + 1
		if end == 0 {
			end = len(ops)
		}
		bits, known := permissions(mode, ops[1:end])
		if !known {
			return 0, false
		}
		switch op {
		case '+':
			mode |= bits & who
		case '-':
			mode &^= bits & who
		case '=':
			mode = mode&^who | bits&who
		default:
			return 0, false
		}
		ok, ops = true, ops[end:]
	}
	return mode, ok
}

// whoBits returns the bits that belong to the letters before an operation.
func whoBits(letters string) (bits uint32) {
	if letters == "" {
		letters = "a"
	}
	for i := range len(letters) {
		switch letters[i] {
		case 'u':
			bits |= 0o4700
		case 'g':
			bits |= 0o2070
		case 'o':
			bits |= 0o0007
		case 'a':
			bits |= 0o7777
		}
	}
	return bits
}

// permissions returns the bits that the letters after an operation stand for.
// A single u, g or o copies what those have in mode.
func permissions(mode uint32, letters string) (bits uint32, ok bool) {
	switch letters {
	case "u":
		return (mode >> 6 & 7) * 0o111, true
	case "g":
		return (mode >> 3 & 7) * 0o111, true
	case "o":
		return (mode & 7) * 0o111, true
	}
	for i := range len(letters) {
		switch letters[i] {
		case 'r':
			bits |= 0o444
		case 'w':
			bits |= 0o222
		case 'x':
			bits |= 0o111
		case 'X': // only where somebody may execute already
			if mode&0o111 != 0 {
				bits |= 0o111
			}
		case 's':
			bits |= 0o6000
		case 't':
			bits |= 0o1000
		default:
			return 0, false
		}
	}
	return bits, true
}
