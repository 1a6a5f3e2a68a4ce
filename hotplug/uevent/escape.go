package uevent

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Printable makes text from a device safe for a line of a log: control bytes
// become \xNN.
func Printable(s string) string {
	for i := range len(s) {
		if isControl(s, i) {
			return string(AppendEscaped(nil, s, false))
		}
	}
	return s
}

// isControl reports whether a byte is a control character, or the end of one in UTF-8, or would be one
// to a terminal that knows no UTF-8: U+009B begins a sequence as ESC and a bracket do.
func isControl(s string, at int) bool {
	c := s[at]
	return c < ' ' || c == 0x7f || c&^0x1f == 0x80 && (at == 0 || s[at-1] < 0x80 || s[at-1] == 0xc2)
}

// AppendEscaped appends text in which control bytes have become \xNN. Where it has to
// stay one word of ASCII, so have blanks, bytes above ASCII and the backslash itself.
func AppendEscaped(to []byte, text string, word bool) []byte {
	const hex = "0123456789abcdef"
	done := 0
	for i := range len(text) {
		c := text[i]
		if isControl(text, i) || word && (c == ' ' || c > 0x7f || c == '\\') {
			to = append(append(to, text[done:i]...), '\\', 'x', hex[c>>4], hex[c&15])
			done = i + 1
		}
	}
	return append(to, text[done:]...)
}

// Unescape returns the text that AppendEscaped was given. What is not an escape stays as it is.
func Unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x' {
			if n, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// AppendQuoted appends text as a string of JSON. A byte that is not UTF-8 becomes U+FFFD,
// since JSON has no other.
func AppendQuoted(to []byte, text string) []byte {
	const hex = "0123456789abcdef"
	to = append(to, '"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			to = append(to, '\\', byte(c))
		case c < ' ' || c == 0x7f:
			to = append(to, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			to = utf8.AppendRune(to, c)
		}
	}
	return append(to, '"')
}
