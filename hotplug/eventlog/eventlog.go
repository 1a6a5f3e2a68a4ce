// Package eventlog keeps the last events of a loop, each with what came of it, in a bounded piece of
// memory, and shows them. It never keeps an event itself, and writes nothing to a disk.
package eventlog

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"devspool/hotplug/scheduler"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// size is how many bytes the events of a Ring take at most: those of some hundred.
const size = 32 << 10

// maxLine is how long the line of one event may be, in bytes. More of it is cut off.
const maxLine = 1 << 10

// Ring holds a line for each of the last events, the oldest first. The Scheduler's mutex guards it: sinks
// are called with it held. The zero Ring is empty, and takes its memory with the first event.
type Ring struct{ lines []byte }

// Sink returns a Sink that puts each event into the ring.
func (r *Ring) Sink() scheduler.Sink {
	return scheduler.Sink{Done: r.add, Recent: func() string { return string(r.lines) }}
}

// fields are the names of what a line has, between tabs. The time is in milliseconds there, and in
// seconds where it is shown.
var fields = [...]string{"time", "seqnum", "action", "devpath", "node", "outcome"}

// add adds an event. The older half of the ring goes when it is full. A line has no control bytes.
func (r *Ring) add(e *uevent.Event, p *nodes.Plan) {
	if r.lines == nil {
		r.lines = make([]byte, 0, size)
	}
	if len(r.lines)+maxLine > size {
		// Whole lines: the half may begin in the midst of one. So at least maxLine is free then.
		half := r.lines[size/2:]
		r.lines = append(r.lines[:0], half[bytes.IndexByte(half, '\n')+1:]...)
	}
	node, outcome := "", p.Failure
	if len(p.Nodes) > 0 {
		node = p.Nodes[0].Path
	}
	if outcome == "" {
		outcome = "done"
		if p.Late {
			outcome = "too late"
		}
	}
	start := len(r.lines)
	r.lines = strconv.AppendInt(r.lines, time.Now().UnixMilli(), 10)
	r.lines = strconv.AppendUint(append(r.lines, '\t'), e.Seqnum, 10)
	for _, text := range [...]string{
		"\t", e.Action, "\t", uevent.Printable(e.Devpath), "\t", uevent.Printable(node), "\t", uevent.Printable(outcome),
	} {
		// One byte stays for the newline.
		room := start + maxLine - 1 - len(r.lines)
		r.lines = append(r.lines, text[:min(len(text), room)]...)
	}
	r.lines = append(r.lines, '\n')
}

// Format returns one line of a Ring for a person, or as an object of JSON. The line comes without its
// newline. Of a line that was cut off, the last fields are cut or empty.
func Format(line string, json bool) string {
	text := ""
	for i := range fields {
		var value string
		value, line, _ = strings.Cut(line, "\t")
		if i == 0 {
			// Without a clock of its own a board boots in 1970: the time may be less than a second.
			for len(value) < len("0000") {
				value = "0" + value
			}
			second := len(value) - 3
			value = value[:second] + "." + value[second:]
		}
		// The first two are numbers.
		if json && i > 1 {
			value = string(uevent.AppendQuoted(nil, value))
		}
		if json {
			value = ",\"" + fields[i] + "\":" + value
		} else if value != "" {
			value = " " + value
		}
		text += value
	}
	if json {
		return "{" + text[1:] + "}"
	}
	return text[1:]
}
