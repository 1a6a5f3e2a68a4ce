package identity

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

const lowerHex = "0123456789abcdef"

// isAlphanumeric, isDigit and isSpace know ASCII alone, as C does without a locale.
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

// rewrite copies what of text is plain, in more, or of UTF-8, and does with any other byte
// what other does.
func rewrite(text, more string, other func(to []byte, rest string) []byte) string {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		n := runeLength(text)
		if n == 0 && (isPlain(text[0]) || strings.IndexByte(more, text[0]) >= 0) {
			n = 1
		}
		if n > 0 {
			out = append(out, text[:n]...)
		} else {
			out = other(out, text)
			n = 1
		}
		text = text[n:]
	}
	return string(out)
}

// Encode returns text as it stands in a link's name and in the properties *_ENC.
func Encode(text string) string { return encode(text) }

// encode makes text safe to be one name and keeps all that it says: what is not plain
// becomes \xNN. So are ID_FS_LABEL_ENC and ID_MODEL_ENC written.
func encode(text string) string {
	text = rewrite(text, "", func(to []byte, rest string) []byte {
		return append(to, '\\', 'x', lowerHex[rest[0]>>4], lowerHex[rest[0]&15])
	})
	if len(text) > maxEncoded {
		text = text[:maxEncoded]
		if at := strings.LastIndexByte(text, '\\'); at > maxEncoded-len(`\x00`) {
			text = text[:at] // no half of one
		}
	}
	return text
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
	return rewrite(text, more, func(to []byte, rest string) []byte {
		switch {
		case rest[0] == '\\' && len(rest) > 1 && rest[1] == 'x':
			return append(to, '\\')
		case isSpace(rest[0]) && more != "":
			return append(to, ' ')
		}
		return append(to, '_')
	})
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
	out := []byte(text)
	for i, c := range out {
		if c < ' ' || c == 0x7f {
			out[i] = '_'
		}
	}
	return string(out)
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

// cutNUL returns text up to its first NUL, at which strings of C end.
func cutNUL(text string) string {
	text, _, _ = strings.Cut(text, "\x00")
	return text
}
