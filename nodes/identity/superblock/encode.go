package superblock

import "unicode/utf8"

// maxValue is the length in bytes of the longest value: udev's buffers hold no
// more.
const maxValue = 255

const hexDigits = "0123456789abcdef"

// Encode returns s as it stands in the name of a link and in properties with
// _ENC: letters, digits, "#+-.:=@_" and valid UTF-8 as they are, and \xNN for
// each other byte. What does not fit into 255 bytes is left off.
func Encode(s string) string {
	out := make([]byte, 0, min(2*len(s), maxValue))
	for len(s) > 0 {
		n := validRune(s)
		switch {
		case n > 1 || n == 1 && isPlain(s[0]):
			if len(out)+n > maxValue {
				return string(out)
			}
			out = append(out, s[:n]...)
		default:
			if len(out)+4 > maxValue {
				return string(out)
			}
			n = 1
			out = append(out, '\\', 'x', hexDigits[s[0]>>4], hexDigits[s[0]&15])
		}
		s = s[n:]
	}
	return string(out)
}

// Safe returns s as it stands in properties for people: without blanks at its
// ends, with _ for each run of blanks inside and for each byte that is neither
// printable ASCII nor of valid UTF-8. What does not fit into 255 bytes is left
// off.
func Safe(s string) string {
	s = trimLeft(trimRight(s[:min(len(s), maxValue+1)]))
	out := make([]byte, 0, len(s))
	blank := false
	for len(s) > 0 {
		n := max(validRune(s), 1)
		switch c := s[0]; {
		case isBlank(c):
			if !blank {
				out = append(out, '_')
			}
		case n == 1 && (c < ' ' || c > '~'):
			out = append(out, '_')
		case len(out)+n > maxValue:
			return string(out)
		default:
			out = append(out, s[:n]...)
		}
		blank = isBlank(s[0])
		s = s[n:]
	}
	return string(out[:min(len(out), maxValue)])
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

func isPlain(c byte) bool {
	switch c {
	case '#', '+', '-', '.', ':', '=', '@', '_':
		return true
	}
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

func isBlank(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func trimRight(s string) string {
	for len(s) > 0 && isBlank(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func trimLeft(s string) string {
	for len(s) > 0 && isBlank(s[0]) {
		s = s[1:]
	}
	return s
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

// The encodings of text on disks.
type charset byte

const (
	utf16LE charset = iota
	utf16BE
	latin1
)

// decode returns UTF-8 for text on the disk up to its first NUL. A surrogate
// without its partner becomes three bytes that are not valid UTF-8, as in
// libblkid, so that two labels which differ stay different.
func decode(b []byte, from charset) string {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		c := rune(b[0])
		if from == latin1 {
			b = b[1:]
		} else {
			if len(b) < 2 {
				break
			}
			c = unit(b, from)
			b = b[2:]
			if c >= 0xd800 && c < 0xdc00 && len(b) >= 2 {
				if low := unit(b, from); low >= 0xdc00 && low < 0xe000 {
					c = 0x10000 + (c-0xd800)<<10 + (low - 0xdc00)
					b = b[2:]
				}
			}
		}
		if c == 0 {
			break
		}
		if c >= 0xd800 && c < 0xe000 {
			out = append(out, byte(0xe0|c>>12), byte(0x80|c>>6&0x3f), byte(0x80|c&0x3f))
		} else {
			out = utf8.AppendRune(out, c)
		}
	}
	return string(out)
}

func unit(b []byte, from charset) rune {
	if from == utf16BE {
		return rune(b[0])<<8 | rune(b[1])
	}
	return rune(b[1])<<8 | rune(b[0])
}
