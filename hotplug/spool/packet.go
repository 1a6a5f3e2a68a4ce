package spool

import (
	"bytes"
	"slices"
	"strings"

	"devspool/hotplug/uevent"
)

// GapKey is the variable that marks an event which reports losses: LOST says how many
// events were lost, where that is known, and REASON why.
const GapKey = uevent.GapKey

// Packet is an event as its file holds it.
type Packet struct {
	Action  string   // add, remove, change ...
	Devpath string   // the device's path below /sys, with a leading slash
	Env     []string // every KEY=VALUE in the file's order, including ACTION and DEVPATH
}

// PacketOf returns the Packet that the event file of e and more holds, but for variables
// of e that more replaces: they stay, and Get returns the value of more.
func PacketOf(e *uevent.Event, more []string) Packet {
	return Packet{Action: e.Action, Devpath: e.Devpath, Env: append(slices.Collect(e.Env()), more...)}
}

// isSingle reports whether an event has the variable key once: where it comes twice the
// last one counts. An event may have any other several times, as the kernel sends those
// of a battery.
func isSingle(key string) bool {
	switch key {
	case "ACTION", "DEVPATH", "SUBSYSTEM", "DEVNAME", "DEVTYPE", "MAJOR", "MINOR", "SEQNUM", "DEVLINKS", "TAGS", "USEC_INITIALIZED":
		return true
	}
	return false
}

// Get returns the value of the variable key, the last where there are several, and
// whether there is one.
func (p Packet) Get(key string) (string, bool) { return lookup(p.Env, key) }

// Values returns every value of the variable key, in the file's order.
func (p Packet) Values(key string) (values []string) {
	for _, kv := range p.Env {
		if k, value, _ := strings.Cut(kv, "="); k == key {
			if isSingle(key) {
				values = values[:0]
			}
			values = append(values, value)
		}
	}
	return values
}

// lookup returns the last value of key in a list of KEY=VALUE. (sys.Getenv returns the first.)
func lookup(env []string, key string) (string, bool) {
	for _, kv := range slices.Backward(env) {
		if k, value, _ := strings.Cut(kv, "="); k == key {
			return value, true
		}
	}
	return "", false
}

// Append appends to b the text of the event file of e: the header, the event's own
// variables in their order, then those of more, which replace variables of the same key.
// Of two in more the later counts.
//
// Each line holds one variable, whatever its value: a control byte (below 0x20, or 0x7f)
// is written as \xNN in lower-case hex. Where the value itself contains what looks like
// the escape of a control byte or of a backslash, its backslash is written as \x5c, so
// that Parse returns every byte; any other backslash, such as that of udev's \x20, stays.
func Append(b []byte, e *uevent.Event, more []string) []byte {
	b = appendEscaped(b, e.Action+"@"+e.Devpath)
	for kv := range e.Env() {
		if !isHelpers(kv) && !replaced(kv, more) {
			b = appendEscaped(b, kv)
		}
	}
	for i, kv := range more {
		if !replaced(kv, more[i+1:]) {
			b = appendEscaped(b, kv)
		}
	}
	return b
}

// Append appends to b the text of the event file that holds p.
func (p Packet) Append(b []byte) []byte {
	b = appendEscaped(b, p.Action+"@"+p.Devpath)
	for i, kv := range p.Env {
		key, _, _ := strings.Cut(kv, "=")
		if !isSingle(key) || !replaced(kv, p.Env[i+1:]) {
			b = appendEscaped(b, kv)
		}
	}
	return b
}

// isHelpers reports whether a variable belongs to the hotplug helper, not to the event.
func isHelpers(kv string) bool {
	return strings.HasPrefix(kv, "PATH=") || strings.HasPrefix(kv, "HOME=") || strings.HasPrefix(kv, "DEVSPOOL_")
}

// replaced reports whether one of later has the key of kv, which has an equals sign.
func replaced(kv string, later []string) bool {
	key := kv[:strings.IndexByte(kv, '=')+1]
	return slices.ContainsFunc(later, func(kv string) bool { return strings.HasPrefix(kv, key) })
}

// Escape returns text as a line of an event file holds it.
func Escape(text string) string {
	line := appendEscaped(nil, text)
	return string(line[:len(line)-1])
}

// appendEscaped appends one line to b.
func appendEscaped(b []byte, text string) []byte {
	const hex = "0123456789abcdef"
	rest := 0
	for i := range len(text) {
		c := text[i]
		if c >= ' ' && c != '\\' && c != 0x7f {
			continue
		}
		if _, escape := unescaped(text[i:]); isControl(c) || escape {
			b = append(append(b, text[rest:i]...), '\\', 'x', hex[c>>4], hex[c&15])
			rest = i + 1
		}
	}
	return append(append(b, text[rest:]...), '\n')
}

// isControl reports whether c would break a line or confuse a terminal.
func isControl(c byte) bool { return c < ' ' || c == 0x7f }

// unescaped returns the byte that the first four bytes of text stand for, if they are an
// escape.
func unescaped(text string) (c byte, ok bool) {
	if len(text) < 4 || text[0] != '\\' || text[1] != 'x' {
		return 0, false
	}
	high, low := digit(text[2]), digit(text[3])
	c = high<<4 | low
	return c, high < 16 && low < 16 && (isControl(c) || c == '\\')
}

// digit returns the value of a lower-case hex digit, or 16.
func digit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 16
}

// unescape undoes what appendEscaped did to a line.
func unescape(line string) string {
	if !strings.Contains(line, `\x`) {
		return line
	}
	text := make([]byte, 0, len(line))
	for i := 0; i < len(line); i++ {
		if c, ok := unescaped(line[i:]); ok {
			text = append(text, c)
			i += 3
		} else {
			text = append(text, line[i])
		}
	}
	return string(text)
}

// Parse reads an event file. It also reads what other programs write: lines that end in
// NUL in place of newline, and a header that ends in '='. Other text is ErrMalformed.
//
// The lines ACTION= and DEVPATH= override the header, in which an '@' or '=' of a name
// looks like the header's own. Where they are missing Parse adds them.
func Parse(text []byte) (Packet, error) {
	header, rest := text, ""
	if end := bytes.IndexAny(text, "\n\x00"); end >= 0 {
		header, rest = text[:end], string(text[end+1:])
	}
	action, devpath, _ := strings.Cut(unescape(string(header)), "@")
	p := Packet{Action: action, Devpath: strings.TrimSuffix(devpath, "=")}
	if err := p.read(rest); err != nil {
		return Packet{}, err
	}
	p.Action = p.setDefault("ACTION", p.Action)
	p.Devpath = p.setDefault("DEVPATH", p.Devpath)
	if action == "" || p.Action == "" || strings.Contains(p.Action, "@") || !strings.HasPrefix(devpath, "/") || !strings.HasPrefix(p.Devpath, "/") {
		return Packet{}, ErrMalformed
	}
	return p, nil
}

// read reads the lines behind the header. If any ends in NUL, a newline is part of a
// value.
func (p *Packet) read(lines string) error {
	end := "\n"
	if strings.Contains(lines, "\x00") {
		end = "\x00"
	}
	for line := range strings.SplitSeq(lines, end) {
		if line == "" {
			continue
		}
		kv := unescape(line)
		if strings.IndexByte(kv, '=') <= 0 {
			return ErrMalformed
		}
		p.Env = append(p.Env, kv)
	}
	return nil
}

// setDefault gives key a value unless it has one, and returns its value.
func (p *Packet) setDefault(key, value string) string {
	if said, ok := p.Get(key); ok {
		return said
	}
	p.Env = append(p.Env, key+"="+value)
	return value
}
