package conf

import (
	"strings"

	"devspool/conf/ere"
)

// A template is the value of a directive in which %0 to %9 stand for what the rule matched,
// and $NAME or ${NAME} for a variable of the event. What these stand for comes from devices,
// and devices lie; so it is escaped as udev does it for a link. The rest has no character
// that makes an expression of it which BusyBox could not read.

// harmless are the characters that stay as they are in what a device says.
const harmless = lower + upper + "0123456789#+-.:=@_"

// maxValue is how many bytes of one value count.
const maxValue = 255

// isTemplate reports whether text can be a template.
func isTemplate(text string) bool { return isTemplateOf(text, harmless) }

// isTemplateOf is isTemplate with other characters than those that are harmless in a path.
func isTemplateOf(text, characters string) bool {
	if text == "" || text[0] == '+' {
		return false
	}
	for text != "" {
		_, length := cutReference(text)
		if length == 0 {
			if c := text[0]; c < 0x80 && c != '/' && strings.IndexByte(characters, c) < 0 {
				return false
			}
			length = 1
		}
		text = text[length:]
	}
	return true
}

// hasReferences reports whether a template refers to something: a % or $ stands for nothing else in one.
func hasReferences(text string) bool { return strings.ContainsAny(text, "%$") }

// cutReference returns what the reference is to that text begins with, the digit of a group
// or the name of a variable, and its length in bytes: 0 where there is none.
func cutReference(text string) (to string, length int) {
	if _, is := reference(text); is {
		return text[1:2], 2
	}
	if text[0] != '$' {
		return "", 0
	}
	text, braced := strings.CutPrefix(text[1:], "{")
	to = variable(text)
	switch {
	case to == "":
		return "", 0
	case !braced:
		return to, 1 + len(to)
	case strings.HasPrefix(text[len(to):], "}"):
		return to, len("${}") + len(to)
	}
	return "", 0
}

// variable returns the name of a variable that text begins with, or "".
func variable(text string) string {
	name := identifier(text)
	return name[:len(name)-len(strings.TrimLeft(name, upper+"0123456789_"))]
}

// fill returns a template of a rule that matches with all that it refers to. Complete is
// false where some of that is not there, or empty.
func (b *planner) fill(r *rule, template string) (text string, complete bool) {
	var groups ere.Submatch
	if strings.IndexByte(template, '%') >= 0 && r.kind != ofNumbers {
		groups = b.groups(r)
	}
	out, complete := []byte(nil), true
	for template != "" {
		to, length := cutReference(template)
		if length == 0 {
			out, template = append(out, template[0]), template[1:]
			continue
		}
		template = template[length:]
		value := ""
		if to[0] <= '9' {
			value, _ = groups.Group(int(to[0] - '0'))
		} else {
			value, _ = b.event.Get(to)
		}
		before := len(out)
		out = appendEscaped(out, value)
		complete = complete && len(out) > before
	}
	return string(out), complete
}

// appendEscaped appends what a device says. White space goes from both ends, and becomes
// one _ within; and all that udev does not let into a link becomes a _, a slash too. An
// escape such as \x20 stays.
func appendEscaped(to []byte, value string) []byte {
	end, gap := len(to)+maxValue, false
	start := len(to)
	for i, c := range value {
		if c == ' ' || c >= '\t' && c <= '\r' {
			gap = len(to) > start
			continue
		}
		text := "_"
		if c >= 0x80 && c != '\uFFFD' || c < 0x80 && strings.IndexByte(harmless, byte(c)) >= 0 || strings.HasPrefix(value[i:], `\x`) {
			text = string(c)
		}
		if gap {
			text, gap = "_"+text, false
		}
		if len(to)+len(text) > end {
			break
		}
		to = append(to, text...)
	}
	return to
}

// isInterface reports whether the kernel takes name for that of a network interface
// (dev_valid_name in net/core/dev.c). A %, by which it numbers names, is left out.
func isInterface(name string) bool {
	const longest = 15
	if name == "" || len(name) > longest || name == "." || name == ".." {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c == 0x7f || c == '/' || c == ':' || c == '%' {
			return false
		}
	}
	return true
}
