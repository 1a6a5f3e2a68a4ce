package identity

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

const lowerHex = "0123456789abcdef"

func isAlphanumeric(c byte) bool {
	return isDigit(c) || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// isPlain reports whether udev leaves a byte in a name as it is.
func isPlain(c byte) bool {
	return isAlphanumeric(c) ||
		strings.IndexByte("#+-.:=@_", c) >= 0
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// runeLength returns how many bytes a valid character above ASCII has that text begins
// with, or 0. What systemd takes for none (surrogates, U+FFFE and its like) is none here.
func runeLength(text string) int {
	if text[0] < utf8.RuneSelf {
		return 0
	}
	r, n := utf8.DecodeRuneInString(text)
	if n < 2 || r&0xfffe == 0xfffe || r >= 0xfdd0 && r <= 0xfdef {
		return 0
	}
	return n
}

// maxEncoded is how long in bytes an encoded value gets in udev.
const maxEncoded = 255

// encode makes text safe to be one name and keeps all that it says: what is not plain
// becomes \xNN. So are ID_FS_LABEL_ENC and ID_MODEL_ENC written.
func encode(text string) string {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		n := runeLength(text[i:])
		switch {
		case n > 0:
			out = append(out, text[i:i+n]...)
			i += n
			continue
		case isPlain(text[i]):
			out = append(out, text[i])
		default:
			out = append(out, '\\', 'x', lowerHex[text[i]>>4], lowerHex[text[i]&15])
		}
		i++
		if len(out) > maxEncoded-4 {
			break
		}
	}
	return string(out)
}

// replaceSpace takes white space off both ends of text, and makes one '_' of each run of
// it within.
func replaceSpace(text string) string {
	out := make([]byte, 0, len(text))
	gap := false
	for i := range len(text) {
		if isSpace(text[i]) {
			gap = len(out) > 0
			continue
		}
		if gap {
			out, gap = append(out, '_'), false
		}
		out = append(out, text[i])
	}
	return string(out)
}

// replaceChars makes '_' of all that is not plain, not in more, and not of UTF-8. An
// escape as encode makes it stays.
func replaceChars(text, more string) string {
	out := []byte(text)
	for i := 0; i < len(out); i++ {
		c := out[i]
		if isPlain(c) || strings.IndexByte(more, c) >= 0 {
			continue
		}
		if c == '\\' && i+1 < len(out) && out[i+1] == 'x' {
			i++
			continue
		}
		if n := runeLength(text[i:]); n > 0 {
			i += n - 1
			continue
		}
		out[i] = '_'
		if isSpace(c) && strings.IndexByte(more, ' ') >= 0 {
			out[i] = ' '
		}
	}
	return string(out)
}

// word makes of what a device says of itself a word for a property: its vendor, model or
// serial number. At most max bytes of it count.
func word(text string, max int) string {
	return replaceChars(replaceSpace(text[:min(len(text), max)]), "")
}

// substituted is what $attr{} puts into a rule of udev's.
func substituted(value string) string {
	return replaceChars(strings.TrimRight(value, " \t\n\v\f\r"), "/ $%?,")
}

// printable makes '_' of control bytes.
func printable(text string) string {
	for i := range len(text) {
		if text[i] < ' ' || text[i] == 0x7f {
			out := []byte(text)
			for ; i < len(out); i++ {
				if out[i] < ' ' || out[i] == 0x7f {
					out[i] = '_'
				}
			}
			return string(out)
		}
	}
	return text
}

// number reads what C would take for an unsigned number: of base 10, or where base is 0
// with 0x for 16.
func number(text string, base int) (n uint64, ok bool) {
	n, err := strconv.ParseUint(text, base, 32)
	return n, err == nil
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

// trailingNumber returns the digits that a kernel's name ends in: udev's %n.
func trailingNumber(name string) string {
	i := len(name)
	for i > 0 && isDigit(name[i-1]) {
		i--
	}
	return name[i:]
}

// hexText writes two digits for each byte.
func hexText(data string) string {
	out := make([]byte, 0, 2*len(data))
	for i := range len(data) {
		out = append(out, lowerHex[data[i]>>4], lowerHex[data[i]&15])
	}
	return string(out)
}

// hex4 writes the low 16 bits as four digits.
func hex4(n uint64) string { return hexText(string([]byte{byte(n >> 8), byte(n)})) }

func cutNUL(text string) string {
	text, _, _ = strings.Cut(text, "\x00")
	return text
}
