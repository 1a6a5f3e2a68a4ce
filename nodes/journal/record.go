package journal

import (
	"slices"
	"strconv"
	"strings"

	"devspool/hotplug/uevent"
)

// Record is what was made for one device.
type Record struct {
	ID        string // the device's, see uevent.Event.ID
	Devpath   string
	Subsystem string
	Devname   string
	Diskseq   string // DISKSEQ, by which the kernel tells two disks apart (since Linux 5.15), or ""
	State     State
	Nodes     []string // paths below /dev
	Links     []string // paths below /dev, each leading to one of Nodes
	Names     []string // those of Links that the device has by what it is, and not by a rule
	Old       []string // paths of nodes and links that it is to have no longer
	Shared    []string // paths that another device wants too, or that something is mounted over

	// Priorities are PRIORITY:PATH for those of Links of which the priority is not 0.
	Priorities []string
}

// State says what is known of the instance of a device that a Record is of.
type State string

const (
	// Live is the state of a device that was set up and not removed.
	Live State = ""
	// Ended is that of one whose remove was done while what it had is still there:
	// another device had come to its place already, or something could not be removed.
	Ended State = "ended"
	// Left is that of one which had left before its add was done. Its remove is to come.
	Left State = "left"
)

// Dev returns the device that ID names, or the zero Dev for one without numbers.
func (r *Record) Dev() uevent.Dev { return devOf(r.ID) }

// devOf reads an ID that has numbers, such as b8:0. The others begin with "+".
func devOf(id string) uevent.Dev {
	if id == "" || id[0] == '+' {
		return uevent.Dev{}
	}
	major, minor, _ := uevent.ParseNumbers(id[1:])
	return uevent.Dev{Block: id[0] == 'b', Major: major, Minor: minor}
}

// Copy returns a record of its own, for a caller who would otherwise make r escape to
// the heap: those of most events need none. It shares the lists of paths.
func (r *Record) Copy() *Record {
	if r == nil {
		return nil
	}
	c := *r
	return &c
}

// usualWords is enough bytes for the words of most records.
const usualWords = 160

// texts and lists are the words of a record's line and what they are of, the devpath first.
func (r *Record) texts() [4]text {
	return [...]text{{"devpath", &r.Devpath}, {"subsystem", &r.Subsystem}, {"devname", &r.Devname}, {"diskseq", &r.Diskseq}}
}

func (r *Record) lists() [6]list {
	return [...]list{{"node", &r.Nodes}, {"link", &r.Links}, {"name", &r.Names}, {"old", &r.Old},
		{"shared", &r.Shared}, {"prio", &r.Priorities}}
}

type (
	text struct {
		key   string
		value *string
	}
	list struct {
		key    string
		values *[]string
	}
)

// appendWords writes the words of the record's line into a buffer of their own.
func (r *Record) appendWords(to []byte) []byte {
	for _, t := range r.texts() {
		to = appendWord(to, t.key, *t.value)
	}
	to = appendWord(to, "state", string(r.State))
	for _, l := range r.lists() {
		for _, value := range *l.values {
			if l.values == &r.Links && r.IsName(value) {
				continue // it is said once, as a name
			}
			to = appendWord(to, l.key, value)
		}
	}
	return to
}

func appendWord(to []byte, key, value string) []byte {
	if value == "" {
		return to
	}
	if len(to) > 0 {
		to = append(to, ' ')
	}
	return uevent.AppendEscaped(append(append(to, key...), '='), value, true)
}

// parse reads what appendWords wrote. Words that it does not know it passes over.
func parse(id, line string) *Record {
	r := &Record{ID: id}
	texts, lists := r.texts(), r.lists()
	for more := true; more; {
		var word string
		word, line, more = strings.Cut(line, " ")
		key, value, _ := strings.Cut(word, "=")
		value = uevent.Unescape(value)
		if key == "state" {
			r.State = State(value)
		}
		for i := range texts {
			if key == texts[i].key {
				*texts[i].value = value
			}
		}
		for i := range lists {
			if key == lists[i].key {
				*lists[i].values = append(*lists[i].values, value)
			}
		}
	}
	// A name stands in the line once, as such, and is a link too.
	r.Links = append(r.Links, r.Names...)
	return r
}

// IsName reports whether a link is one of Names.
func (r *Record) IsName(path string) bool { return slices.Contains(r.Names, path) }

// AddLink adds a link.
func (r *Record) AddLink(path string, isName bool, priority int) {
	r.Links = append(r.Links, path)
	if isName {
		r.Names = append(r.Names, path)
	}
	if priority != 0 {
		r.Priorities = append(r.Priorities, strconv.Itoa(priority)+":"+path)
	}
}

// PriorityOf returns the priority with which the device wants a link.
func (r *Record) PriorityOf(path string) int {
	for _, entry := range r.Priorities {
		text, of, both := strings.Cut(entry, ":")
		if n, err := strconv.Atoi(text); err == nil && both && of == path {
			return n
		}
	}
	return 0
}

// devpathIn returns the devpath that the words of a line begin with.
func devpathIn(words string) string {
	first, _, _ := strings.Cut(words, " ")
	_, devpath, _ := strings.Cut(first, "=")
	return uevent.Unescape(devpath)
}
