package spool

import (
	"slices"
	"strings"
)

// Filter says which events go into a queue: it holds the values that each key may have.
// The zero Filter passes every event.
type Filter []condition

// condition holds the alternatives of one key.
type condition struct {
	key    string
	values []string
}

// ParseFilter reads conditions, one a line, as .filter holds them; see the package
// comment. A line that is none is ErrFilter.
func ParseFilter(text string) (Filter, error) {
	var f Filter
	for line := range strings.SplitSeq(text, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, found := strings.Cut(line, "=")
		if !found || key == "" {
			return nil, ErrFilter
		}
		f = f.with(key, value)
	}
	return f, nil
}

// with adds a value to those that key may have.
func (f Filter) with(key, value string) Filter {
	for i := range f {
		if f[i].key == key {
			f[i].values = append(f[i].values, value)
			return f
		}
	}
	return append(f, condition{key, []string{value}})
}

// Match reports whether p passes the filter.
func (f Filter) Match(p Packet) bool {
	for _, c := range f {
		if !c.match(p) {
			return false
		}
	}
	return true
}

// match looks up each variable once, however many values the client lists. Of a variable
// that the event has several times, one value that matches is enough.
func (c condition) match(p Packet) bool {
	switch c.key {
	case "subsystem":
		name, ok := p.Get("SUBSYSTEM")
		devtype, typed := p.Get("DEVTYPE")
		both := name + "/" + devtype
		return ok && slices.ContainsFunc(c.values, func(value string) bool { return value == name || typed && value == both })
	case "devpath":
		return slices.ContainsFunc(c.values, func(value string) bool {
			rest, ok := strings.CutPrefix(p.Devpath, strings.TrimSuffix(value, "/"))
			return ok && (rest == "" || rest[0] == '/')
		})
	case "tag":
		tags, _ := p.Get("TAGS")
		return slices.ContainsFunc(c.values, func(value string) bool { return strings.Contains(tags, ":"+value+":") })
	}
	// Of a variable that counts once, the last value decides, also against a match before it.
	matches := false
	for _, kv := range p.Env {
		if key, said, _ := strings.Cut(kv, "="); key == c.key && (!matches || isSingle(key)) {
			matches = slices.Contains(c.values, said)
		}
	}
	return matches
}
