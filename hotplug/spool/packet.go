package spool

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"devspool/hotplug/uevent"
)

// MaxEvent is the size in bytes of the largest event file that is read: a message
// of uevent.MaxMessage bytes of which each had to be escaped.
const MaxEvent = 4*uevent.MaxMessage + 1<<10

// ErrMalformed is returned for text that is not an event's.
var ErrMalformed = errors.New("not an event: the first line is to be ACTION@DEVPATH, the others KEY=VALUE")

// Packet is what an event file says.
type Packet struct {
	Action  string   // add, remove, change ...
	Devpath string   // the device's path below /sys, with a leading slash
	Env     []string // every KEY=VALUE in the file's order, ACTION and DEVPATH among them
}

// isSingle reports whether an event has the variable key once: where that was said twice
// the last counts. All others an event can have several times, as the kernel says a
// battery's.
func isSingle(key string) bool {
	switch key {
	case "ACTION", "DEVPATH", "SUBSYSTEM", "DEVNAME", "DEVTYPE", "MAJOR", "MINOR", "SEQNUM", "DEVLINKS", "TAGS", "USEC_INITIALIZED":
		return true
	}
	return false
}

// Get returns the value of the variable key, the last one where there are several, and
// whether there is any.
func (p Packet) Get(key string) (string, bool) { return lookup(p.Env, key) }

// Values returns every value of the variable key, in the order in which they were said.
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

func lookup(env []string, key string) (string, bool) {
	for _, kv := range slices.Backward(env) {
		if k, value, _ := strings.Cut(kv, "="); k == key {
			return value, true
		}
	}
	return "", false
}

// Append appends to b the text of the event file of e: the header, the event's own
// variables in their order, then more, which replace those of the same key. Of two
// of more the later counts.
//
// Each line holds one variable whatever its value says: a control byte (below
// 0x20, or 0x7f) is written as \xNN in lower-case hex. Where the value itself
// holds what reads like the escape of a control byte or of a backslash, its
// backslash is written as \x5c, so that Parse gets back every byte; any other
// backslash, such as that of udev's own \x20, stays as it is.
func Append(b []byte, e *uevent.Event, more []string) []byte {
	b = appendEscaped(b, e.Action+"@"+e.Devpath)
	for kv := range e.Env() {
		if !own(kv) && !replaced(kv, more) {
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

// Append appends to b the text of the event file that says p.
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

// own reports whether a variable is the hotplug helper's, not the event's.
func own(kv string) bool {
	return strings.HasPrefix(kv, "PATH=") || strings.HasPrefix(kv, "HOME=") || strings.HasPrefix(kv, "DEVSPOOL_")
}

// replaced reports whether later gives the key of kv another value.
func replaced(kv string, later []string) bool {
	key := kv[:strings.IndexByte(kv, '=')+1]
	return slices.ContainsFunc(later, func(kv string) bool { return strings.HasPrefix(kv, key) })
}

// Escape returns text as it stands in an event file.
func Escape(text string) string {
	line := appendEscaped(nil, text)
	return string(line[:len(line)-1])
}

// AppendEscaped appends one line.
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

func isControl(c byte) bool { return c < ' ' || c == 0x7f }

// unescaped returns the byte that the first four of text stand for, if they are an escape.
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

// Parse reads an event file. It also takes what others write: lines ended by NUL
// in place of newline, and a header that ends in '='.
//
// What the lines ACTION= and DEVPATH= say counts over the header, in which an '@'
// or '=' of a name cannot be told from the header's own. Where they are missing
// they are added.
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

// read takes the lines behind the header. Where any of them is ended by NUL, a
// newline is part of a value.
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

// setDefault gives key a value, unless it has one, and returns the one it has.
func (p *Packet) setDefault(key, value string) string {
	if said, ok := p.Get(key); ok {
		return said
	}
	p.Env = append(p.Env, key+"="+value)
	return value
}

// GapKey is the variable that marks an event which tells of losses. LOST says of
// how many events, where that is known, and REASON why.
const GapKey = uevent.GapKey

func PacketOf(e *uevent.Event, more []string) Packet {
	return Packet{Action: e.Action, Devpath: e.Devpath, Env: append(slices.Collect(e.Env()), more...)}
}
