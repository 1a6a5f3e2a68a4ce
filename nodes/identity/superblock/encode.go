package superblock

import "unicode/utf8"

// maxValue is the length in bytes of the longest value: udev's buffers hold no
// more.
const maxValue = 255

// Encode returns s as it stands in the name of a link and in properties with
// _ENC: letters, digits, "#+-.:=@_" and valid UTF-8 as they are, and \xNN for
// each other byte. What does not fit into 255 bytes is left off.
func Encode(s string) string { return clean(s, true) }

// Safe returns s as it stands in properties for people: without blanks at its
// ends, with _ for each run of blanks inside and for each byte that is neither
// printable ASCII nor of valid UTF-8. What does not fit into 255 bytes is left
// off.
func Safe(s string) string {
	return clean(trim(s[:min(len(s), maxValue+1)]), false)
}

// clean is Encode, or Safe for text without blanks at its ends. It never cuts an escape or a
// character in two.
func clean(s string, encode bool) (out string) {
	for i := 0; i < len(s); {
		n := validRune(s[i:])
		next := "_"
		switch c := s[i]; {
		case n > 1 || n == 1 && isPlain(c, encode):
			next = s[i:][:n]
		case encode:
			next = `\x` + hex(uint64(c), 2)
		case isBlank(c) && isBlank(s[i-1]): // a blank is never the first
			next = ""
		}
		if len(out)+len(next) > maxValue {
			break
		}
		out += next
		i += max(n, 1)
	}
	return out
}

// validRune returns the length of the rune that s begins with, or 0 if it is
// none that libblkid takes for valid.
func validRune(s string) int {
	r, n := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && n <= 1 || r >= 0xfdd0 && r <= 0xfdef || r&0xffff == 0xffff {
		return 0
	}
	return n
}

// isPlain reports whether a character of ASCII stands as it is.
func isPlain(c byte, encode bool) bool {
	// A bit for each of the characters below 64.
	const safe uint64 = 1<<'#' | 1<<'+' | 1<<'-' | 1<<'.' | 1<<':' | 1<<'=' | 0x3ff<<'0'
	if !encode {
		return c > ' ' && c <= '~'
	}
	return c < 64 && safe>>c&1 != 0 || c == '@' || c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

// isBlank is isspace(3) of C without a locale.
func isBlank(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// trimRight returns s without blanks at its end.
func trimRight(s string) string {
	for s != "" && isBlank(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

// trim returns s without blanks at its ends.
func trim(s string) string {
	for s != "" && isBlank(s[0]) {
		s = s[1:]
	}
	return trimRight(s)
}

// capital returns a letter of ASCII as a capital.
func capital(c byte) byte {
	if c >= 'a' && c <= 'z' {
		c -= 'a' - 'A'
	}
	return c
}

// cString returns the bytes up to the first NUL.
func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// utf16 returns UTF-8 for text in UTF-16 up to its first NUL. Big says that it is
// big endian. A surrogate without its partner becomes three bytes that are not
// valid UTF-8, as in libblkid, so that two labels which differ stay different.
func utf16(b []byte, big bool) (out string) {
	high := rune(0) // a surrogate that waits for its partner
	for ; len(b) >= 2; b = b[2:] {
		c := rune(b[0]) | rune(b[1])<<8
		if big {
			c = c>>8 | c&0xff<<8
		}
		if c == 0 {
			break
		}
		next := string(c)
		if c>>11 == 0xd800>>11 {
			next = string([]byte{0xed, byte(0x80 | c>>6&0x3f), byte(0x80 | c&0x3f)})
			if high != 0 && c >= 0xdc00 {
				out, next = out[:len(out)-3], string(0x10000+high&0x3ff<<10+c&0x3ff)
				c = 0
			}
		}
		out += next
		high = 0
		if c>>10 == 0xd800>>10 {
			high = c
		}
	}
	return out
}
