package kernel

import "strings"

// Match reports whether text fits a pattern of fnmatch(3) without flags. A star takes
// slashes, too: path.Match's does not.
func Match(pattern, text string) bool {
	star, mark := "", "" // what follows the last star, and where in the text it was tried
	starred := false
	for {
		if strings.HasPrefix(pattern, "*") {
			pattern = pattern[1:]
			star, mark, starred = pattern, text, true
			continue
		}
		if text == "" && pattern == "" {
			return true
		}
		if rest, ok := one(pattern, text); ok {
			pattern, text = rest, text[1:]
			continue
		}
		if !starred || mark == "" {
			return false
		}
		mark = mark[1:]
		pattern, text = star, mark
	}
}

// one fits the first element of a pattern to the first byte of a text.
func one(pattern, text string) (rest string, ok bool) {
	if pattern == "" || text == "" {
		return "", false
	}
	c := text[0]
	switch pattern[0] {
	case '?':
		return pattern[1:], true
	case '[':
		if rest, in, ok := set(pattern[1:], c); ok {
			return rest, in
		}
	case '\\':
		if len(pattern) > 1 {
			pattern = pattern[1:]
		}
	}
	return pattern[1:], pattern[0] == c
}

// set reads a bracket expression behind its '[', and reports whether c is in it. It is
// not ok where its end is missing.
func set(pattern string, c byte) (rest string, in, ok bool) {
	negated := pattern != "" && (pattern[0] == '!' || pattern[0] == '^')
	if negated {
		pattern = pattern[1:]
	}
	for i := 0; i < len(pattern); i++ {
		low := pattern[i]
		if low == ']' && i > 0 {
			return pattern[i+1:], in != negated, true
		}
		high := low
		if i+2 < len(pattern) && pattern[i+1] == '-' && pattern[i+2] != ']' {
			high = pattern[i+2]
			i += 2
		}
		in = in || low <= c && c <= high
	}
	return "", false, false
}

// underscored returns an alias with underscores for dashes, but in brackets.
func underscored(alias string) string {
	if !strings.Contains(alias, "-") {
		return alias
	}
	b := []byte(alias)
	inside := false
	for i, c := range b {
		switch {
		case c == '[':
			inside = true
		case c == ']':
			inside = false
		case c == '-' && !inside:
			b[i] = '_'
		}
	}
	return string(b)
}
