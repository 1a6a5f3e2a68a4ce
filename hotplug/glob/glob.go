// Package glob matches names with the patterns of shells, as modprobe.d and udevadm have them.
package glob

// Match reports whether name fits a pattern of fnmatch(3) without flags: * ? and [...], but for
// classes such as [:alpha:]. With dashes a dash of the pattern stands for an underscore as well.
func Match(pattern, name string, dashes bool) bool {
	// Where the last star stands, and what of name it has not taken yet: the only place
	// to come back to, since a later star can take whatever an earlier one could.
	star, retry := -1, 0
	p, n := 0, 0
	for p < len(pattern) && n < len(name) && pattern[p] == name[n] && pattern[p] != '*' && pattern[p] != '?' && pattern[p] != '[' && pattern[p] != '\\' {
		p, n = p+1, n+1 // most patterns differ early, and this is quick
	}
	for n < len(name) || p < len(pattern) {
		if p < len(pattern) && pattern[p] == '*' {
			star, retry = p, n
			p++
			continue
		}
		if p < len(pattern) && n < len(name) {
			if size := matchOne(pattern[p:], name[n], dashes); size > 0 {
				p += size
				n++
				continue
			}
		}
		// No star to come back to, or it has taken all of the name already.
		if star < 0 || retry >= len(name) {
			return false
		}
		// The star takes one more character, and what follows it is tried again from there.
		retry++
		p, n = star+1, retry
	}
	return true
}

// matchOne returns how many bytes of the pattern match the character c, or 0.
func matchOne(pattern string, c byte, dashes bool) int {
	switch pattern[0] {
	case '?':
		return 1
	case '[':
		if size, is := matchSet(pattern, c); size > 0 {
			if is {
				return size
			}
			return 0
		}
	case '\\':
		if len(pattern) > 1 && pattern[1] == c {
			return 2
		}
		return 0
	}
	if pattern[0] == c || dashes && pattern[0] == '-' && c == '_' {
		return 1
	}
	return 0
}

// matchSet reads a bracket expression, and returns its length and whether c is in it.
// One without its end is no expression: the length is 0.
func matchSet(pattern string, c byte) (size int, is bool) {
	i := 1
	negated := i < len(pattern) && (pattern[i] == '!' || pattern[i] == '^')
	if negated {
		i++
	}
	for first := i; i < len(pattern); i++ {
		low := pattern[i]
		if low == ']' && i > first {
			return i + 1, is != negated
		}
		if low == '\\' && i+1 < len(pattern) {
			i++
			low = pattern[i]
		}
		high := low
		if i+2 < len(pattern) && pattern[i+1] == '-' && pattern[i+2] != ']' {
			high = pattern[i+2]
			i += 2
		}
		is = is || low <= c && c <= high
	}
	return 0, false
}
