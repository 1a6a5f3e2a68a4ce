// Package eventlog keeps the last events of a loop, each with what came of it, in a bounded piece of
// memory, and shows them. It never keeps an event itself, and writes nothing to a disk.
package eventlog

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"devspool/hotplug/scheduler"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// size is how many bytes the events of a Ring take at most: those of some hundred.
const size = 32 << 10

// maxEntry is how many bytes one event may take. The end of more is cut off.
const maxEntry = 1 << 10

// Ring holds the last events, the oldest first. The Scheduler's mutex guards it: sinks are called with
// it held. The zero Ring is empty, and takes its memory with the first event.
//
// An entry is its length in bytes (2), the time in milliseconds (8) and the SEQNUM (8), little-endian,
// and then the action, the devpath, the node and the outcome with a NUL after each, which none of them
// holds. They become a line when somebody asks: events are many, questions few.
type Ring struct {
	entries []byte
	time    uint64 // of the slice that is being done, in milliseconds; 0 between slices
}

// entryHead is how long in bytes what comes before the texts of an entry is.
const entryHead = 2 + 8 + 8

// Sink returns a Sink that puts each event into the ring. The events of one slice have one time: to
// ask for it costs more than all else here.
func (r *Ring) Sink() scheduler.Sink {
	return scheduler.Sink{Done: r.add, SliceEnd: func() { r.time = 0 }, Recent: r.text}
}

// fields are the names of what a line has, between tabs. The time is in milliseconds there, and in
// seconds where it is shown.
var fields = [...]string{"time", "seqnum", "action", "devpath", "node", "outcome"}

// add adds an event. The older half of the ring goes when it is full.
func (r *Ring) add(e *uevent.Event, p *nodes.Plan) {
	if r.entries == nil {
		r.entries = make([]byte, 0, size)
	}
	if len(r.entries)+maxEntry > size {
		half := 0
		for half < size/2 {
			half += int(binary.LittleEndian.Uint16(r.entries[half:]))
		}
		r.entries = append(r.entries[:0], r.entries[half:]...)
	}
	if r.time == 0 {
		r.time = uint64(time.Now().UnixMilli())
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
	start := len(r.entries)
	to := append(r.entries, 0, 0)
	to = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(to, r.time), e.Seqnum)
	texts := [...]string{e.Action, e.Devpath, node, outcome}
	room := maxEntry - entryHead - len(texts)
	for _, text := range texts {
		text = text[:min(len(text), room)]
		room -= len(text)
		to = append(append(to, text...), 0)
	}
	binary.LittleEndian.PutUint16(to[start:], uint16(len(to)-start))
	r.entries = to
}

// text returns a line for each event. A line has no control bytes.
func (r *Ring) text() string {
	var lines []byte
	for rest := r.entries; len(rest) > 0; {
		entry := rest[:binary.LittleEndian.Uint16(rest)]
		rest = rest[len(entry):]
		lines = strconv.AppendUint(lines, binary.LittleEndian.Uint64(entry[2:]), 10)
		lines = strconv.AppendUint(append(lines, '\t'), binary.LittleEndian.Uint64(entry[10:]), 10)
		for text := range strings.SplitSeq(string(entry[entryHead:len(entry)-1]), "\x00") {
			lines = append(append(lines, '\t'), uevent.Printable(text)...)
		}
		lines = append(lines, '\n')
	}
	return string(lines)
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
