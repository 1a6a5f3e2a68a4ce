package nodes

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

// Record is what was made for one device. It is kept as a symbolic link in
// /dev/.devspool/record, named by the device's ID (see uevent.Event.ID), whose
// text lists words such as devpath=/devices/virtual/mem/null and node=null. One
// system call reads it, one writes it whole or not at all, and ls -l shows it.
type Record struct {
	ID        string
	Devpath   string
	Subsystem string
	Devname   string
	Nodes     []string // paths below /dev
	Links     []string // paths below /dev, each leading to one of Nodes
}

// recordOf returns the record that p leads to.
func recordOf(p *Plan) Record {
	e := p.Event
	r := Record{ID: e.ID(), Devpath: e.Devpath, Subsystem: e.Subsystem, Devname: e.Devname}
	for _, n := range p.Nodes {
		r.Nodes = append(r.Nodes, n.Path)
	}
	for _, l := range p.Links {
		r.Links = append(r.Links, l.Path)
	}
	return r
}

// Dev returns the device that ID names, or the zero Dev for one without numbers.
func (r Record) Dev() uevent.Dev {
	if r.ID == "" || r.ID[0] == '+' {
		return uevent.Dev{}
	}
	major, minor, _ := uevent.ParseNumbers(r.ID[1:])
	return uevent.Dev{Block: r.ID[0] == 'b', Major: major, Minor: minor}
}

// text writes the record as its link's text.
func (r Record) text() string {
	var b strings.Builder
	word := func(key, value string) {
		if value != "" {
			b.WriteString(" " + key + "=" + escape(value))
		}
	}
	word("devpath", r.Devpath)
	word("subsystem", r.Subsystem)
	word("devname", r.Devname)
	for _, n := range r.Nodes {
		word("node", n)
	}
	for _, l := range r.Links {
		word("link", l)
	}
	return strings.TrimPrefix(b.String(), " ")
}

// parseRecord reads what text wrote. Words that it does not know it passes over.
func parseRecord(id, text string) Record {
	r := Record{ID: id}
	for word := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(word, "=")
		value = unescape(value)
		switch key {
		case "devpath":
			r.Devpath = value
		case "subsystem":
			r.Subsystem = value
		case "devname":
			r.Devname = value
		case "node":
			r.Nodes = append(r.Nodes, value)
		case "link":
			r.Links = append(r.Links, value)
		}
	}
	return r
}

// escape keeps a value one word: blanks, control bytes, bytes above ASCII and
// the backslash itself become \xNN.
func escape(s string) string {
	const hex = "0123456789abcdef"
	if strings.IndexFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '\\' }) < 0 {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '\\' {
			b.WriteString(`\x` + string(hex[c>>4]) + string(hex[c&15]))
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// recall reads the text of the record of id; "" where there is none.
func (d *Dir) recall(id string) string {
	if d.record == none {
		return ""
	}
	text, _ := readLink(d.record, id)
	return text
}

// remember writes r, whole or not at all. was is what recall said.
func (d *Dir) remember(r Record, was string) error {
	text := r.text()
	if d.record == none || text == was {
		return nil
	}
	if was == "" {
		err := unix.Symlinkat(text, d.record, r.ID)
		if err != unix.EEXIST {
			return wrap("symlink", Private+"/record/"+r.ID, err)
		}
	}
	return wrap("rename", Private+"/record/"+r.ID, d.staged(func(at int, name string) error {
		return unix.Symlinkat(text, at, name)
	}, func(at int, name string) error {
		return unix.Renameat(at, name, d.record, r.ID)
	}))
}

// forget removes the record of id.
func (d *Dir) forget(id string) error {
	if d.record == none {
		return nil
	}
	if err := unix.Unlinkat(d.record, id, 0); err != nil && err != unix.ENOENT {
		return wrap("unlink", Private+"/record/"+id, err)
	}
	return nil
}

// Records returns all records, in no order. The lock must be held.
func (d *Dir) Records() ([]Record, error) {
	if d.record == none {
		return nil, nil
	}
	names, err := list(d.record)
	var all []Record
	for _, id := range names {
		if text, err := readLink(d.record, id); err == nil {
			all = append(all, parseRecord(id, text))
		}
	}
	return all, wrap("read", Private+"/record", err)
}

// find returns the record of the device with this devpath.
func (d *Dir) find(devpath string) (Record, bool) {
	all, _ := d.Records()
	for _, r := range all {
		if r.Devpath == devpath {
			return r, true
		}
	}
	return Record{}, false
}

// list returns the names in an open directory.
func list(fd int) ([]string, error) {
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		return nil, err
	}
	var names []string
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if n <= 0 || err != nil {
			return names, err
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// readLink returns the text of a symbolic link, as long as Linux lets it be.
func readLink(at int, name string) (string, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(at, name, buf[:])
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
