package applet

import (
	"slices"
	"strings"

	"devspool/hotplug/spool"
	"devspool/hotplug/uevent"
)

// appendJSON appends a line with an object that holds the variables of an event:
// strings, or where one has several values an array of strings. A byte that is not
// UTF-8 becomes U+FFFD, since JSON has no other.
func appendJSON(b []byte, p spool.Packet) []byte {
	b = append(b, '{')
	for i, kv := range p.Env {
		key, _, _ := strings.Cut(kv, "=")
		// The last of several has the place of all, as a JSON object must not have a key twice.
		if slices.ContainsFunc(p.Env[i+1:], func(kv string) bool { return strings.HasPrefix(kv, key+"=") }) {
			continue // said again
		}
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = append(uevent.AppendQuoted(b, key), ':')
		b = appendValues(b, p.Values(key))
	}
	return append(b, "}\n"...)
}

// appendValues appends one value, or an array of several.
func appendValues(b []byte, values []string) []byte {
	if len(values) == 1 {
		return uevent.AppendQuoted(b, values[0])
	}
	for i, value := range values {
		b = append(b, "[,"[min(i, 1)]) // a bracket before the first, a comma before the others
		b = uevent.AppendQuoted(b, value)
	}
	return append(b, ']')
}
