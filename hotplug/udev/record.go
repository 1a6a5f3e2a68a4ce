package udev

import (
	"slices"
	"strconv"
	"strings"
)

// Record is what the database holds of a device.
type Record struct {
	Links       []string // symbolic links, their paths below /dev
	Priority    int      // of the links
	Initialized uint64   // when the device was first set up: CLOCK_MONOTONIC in µs, or 0
	Properties  []string // KEY=VALUE each, beyond what the kernel says
	Tags        []string // each that the device ever had
	Current     []string // tags that it has now
	Persist     bool     // survives udevadm info --cleanup-db, as the file's sticky bit
}

// databaseVersion is what V: and UDEV_DATABASE_VERSION say: with it the current tags
// stand apart from the others (since systemd 247).
const databaseVersion = "1"

// isEmpty reports whether the file of such a record has no lines. Current tags are Tags too, and the time of
// the set-up and Persist alone make no line.
func (r *Record) isEmpty() bool {
	return len(r.Links) == 0 && r.Priority == 0 && len(r.Properties) == 0 && len(r.Tags) == 0
}

// Append appends the text of the device's file, a letter and a colon before each value,
// as systemd's device_update_db writes it. Only a device with numbers has links. A record
// that says nothing but when the device was set up has an empty file.
func (r *Record) Append(to []byte, numbered bool) []byte {
	if r.isEmpty() {
		return to
	}
	line := func(letter byte, text string) {
		to = append(to, letter, ':')
		to = append(to, oneLine(text)...)
		to = append(to, '\n')
	}
	if numbered {
		for _, link := range r.Links {
			line('S', link)
		}
		if r.Priority != 0 {
			line('L', strconv.Itoa(r.Priority))
		}
	}
	if r.Initialized != 0 {
		line('I', strconv.FormatUint(r.Initialized, 10))
	}
	for _, kv := range r.Properties {
		line('E', kv)
	}
	for _, tag := range r.Tags {
		line('G', tag)
	}
	for _, tag := range r.Current {
		line('Q', tag)
	}
	line('V', databaseVersion)
	return to
}

// ParseRecord reads the text of a device's file. Lines that it does not know, as those
// of later versions, say nothing. Without V: the tags of G: are current ones.
func ParseRecord(text string) *Record {
	r := &Record{}
	versioned := false
	for text != "" {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		// A letter, a colon and at least one byte of a value.
		if len(line) < 3 || line[1] != ':' || line[2] == 0 {
			continue
		}
		value := oneLine(line[2:])
		switch line[0] {
		case 'S':
			Add(&r.Links, value)
		case 'L':
			r.Priority, _ = strconv.Atoi(value)
		case 'I':
			r.Initialized, _ = strconv.ParseUint(value, 10, 64)
		case 'E':
			if isProperty(value) {
				Add(&r.Properties, value)
			}
		case 'G':
			Add(&r.Tags, value)
		case 'Q':
			Add(&r.Current, value)
		case 'V':
			n, err := strconv.Atoi(value)
			versioned = err == nil && n >= 1
		}
	}
	// Before version 1 there were only tags that a device has.
	if !versioned {
		r.Current = r.Tags
	}
	return r
}

// isProperty reports whether kv is KEY=VALUE. To udev, one without a value is not there.
func isProperty(kv string) bool {
	at := strings.IndexByte(kv, '=')
	return at > 0 && at < len(kv)-1
}

// Add appends to a list. An append that is written out takes 100 bytes more of the program than a call.
func Add(list *[]string, more ...string) { *list = append(*list, more...) }

// merge returns the strings of both lists, each once. The lists stay as they are.
func merge(list, more []string) []string {
	// Clipped, so that append makes a copy instead of writing behind the caller's list.
	list = slices.Clip(list)
	for _, s := range more {
		if !slices.Contains(list, s) {
			Add(&list, s)
		}
	}
	return list
}

// override returns the properties of both lists; where both have a key, those of more. The lists stay as
// they are, but the result may be one of them.
func override(list, more []string) []string {
	if len(list) == 0 {
		return more
	}
	var all []string
	for _, kv := range list {
		if !HasKey(more, kv) {
			Add(&all, kv)
		}
	}
	Add(&all, more...)
	return all
}

// HasKey reports whether one of the properties has the same key as kv. Kv has a "=", or every key
// would count as the same.
func HasKey(properties []string, kv string) bool {
	key := kv[:strings.IndexByte(kv, '=')+1]
	for _, other := range properties {
		if strings.HasPrefix(other, key) {
			return true
		}
	}
	return false
}

// TagList returns tags as properties have them: ":a:b:", or "" for none. libudev since 250 looks for
// the colon at both ends.
func TagList(tags []string) string {
	if len(tags) == 0 {
		return ""
	}
	return ":" + strings.Join(tags, ":") + ":"
}
