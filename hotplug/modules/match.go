package modules

import "strings"

// match reports whether name fits a pattern of fnmatch(3) without flags: * ? and [...].
// A dash of the pattern stands for an underscore as well: names are normalized before
// they are looked up, while patterns are matched as they lie in the file.
func match(pattern, name string) bool {
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
			if size := matchOne(pattern[p:], name[n]); size > 0 {
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
func matchOne(pattern string, c byte) int {
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
	if pattern[0] == c || pattern[0] == '-' && c == '_' {
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
		high := low
		if i+2 < len(pattern) && pattern[i+1] == '-' && pattern[i+2] != ']' {
			high = pattern[i+2]
			i += 2
		}
		is = is || low <= c && c <= high
	}
	return 0, false
}

// normalize returns an alias or a name as the indexes have it, with dashes outside of
// brackets as underscores. Ok is false for what cannot be looked up.
func normalize(name string) (normal string, ok bool) {
	if len(name) == 0 || len(name) >= maxName || strings.IndexByte(name, 0) >= 0 {
		return "", false
	}
	if strings.IndexByte(name, '-') < 0 && strings.IndexByte(name, ']') < 0 && strings.IndexByte(name, '[') < 0 {
		return name, true
	}
	text := []byte(name)
	inside := false
	for i, c := range text {
		switch {
		case inside:
			inside = c != ']'
		case c == '[':
			inside = true
		case c == ']':
			return "", false
		case c == '-':
			text[i] = '_'
		}
	}
	return string(text), !inside
}

// maxName is how long an alias may be: a path's greatest length, as in kmod.
const maxName = 4096

// moduleName returns the kernel's name of the module in a file, or "" for a file whose name can be none.
func moduleName(path string) string {
	name, _ := normalize(fileKey(path))
	return name
}
