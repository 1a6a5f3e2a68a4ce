package kerneltest

import "strings"

// Glob reports whether a pattern matches text: * stands for anything, slashes too.
func Glob(pattern, text string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == text
	}
	text, is := strings.CutPrefix(text, first)
	for i := 0; is && i <= len(text); i++ {
		if Glob(rest, text[i:]) {
			return true
		}
	}
	return false
}
