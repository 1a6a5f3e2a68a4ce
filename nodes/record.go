package nodes

import (
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// Record is what was made for one device.
type Record struct {
	ID        string // the device's, see uevent.Event.ID
	Devpath   string
	Subsystem string
	Devname   string
	Diskseq   string // DISKSEQ, by which the kernel tells two disks apart, or ""
	State     State
	Nodes     []string // paths below /dev
	Links     []string // paths below /dev, each leading to one of Nodes
	Old       []string // paths of nodes and links that it is to have no longer
	Shared    []string // paths that another device wants too, or that something is mounted over

	free []string // those of Shared that turned out to be so no longer
}

// recordOf returns the record that p leads to.
func recordOf(p *Plan) Record {
	e := p.Event
	r := Record{ID: e.ID(), Devpath: e.Devpath, Subsystem: e.Subsystem, Devname: e.Devname}
	if e.Dev.Block {
		r.Diskseq, _ = e.Get(diskseq)
	}
	for _, n := range p.Nodes {
		r.Nodes = append(r.Nodes, n.Path)
	}
	for _, l := range p.Links {
		r.Links = append(r.Links, l.Path)
	}
	return r
}

// Dev returns the device that ID names, or the zero Dev for one without numbers.
func (r Record) Dev() uevent.Dev { return devOf(r.ID) }

func devOf(id string) uevent.Dev {
	if id == "" || id[0] == '+' {
		return uevent.Dev{}
	}
	major, minor, _ := uevent.ParseNumbers(id[1:])
	return uevent.Dev{Block: id[0] == 'b', Major: major, Minor: minor}
}

// usualWords is enough bytes for the words of most records.
const usualWords = 160

// text returns the words of the record's line.
func (r *Record) text() string { return string(r.appendWords(make([]byte, 0, usualWords))) }

// says reports whether these are the words of the record's line.
func (r *Record) says(words string) bool {
	return string(r.appendWords(make([]byte, 0, usualWords))) == words
}

// appendWords writes the words of the record's line into a buffer of their own.
func (r *Record) appendWords(to []byte) []byte {
	to = appendWord(to, "devpath", r.Devpath)
	to = appendWord(to, "subsystem", r.Subsystem)
	to = appendWord(to, "devname", r.Devname)
	to = appendWord(to, diskseqWord, r.Diskseq)
	to = appendWord(to, "state", string(r.State))
	for _, n := range r.Nodes {
		to = appendWord(to, "node", n)
	}
	for _, l := range r.Links {
		to = appendWord(to, "link", l)
	}
	for _, n := range r.Old {
		to = appendWord(to, "old", n)
	}
	for _, n := range r.Shared {
		to = appendWord(to, "shared", n)
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

// parseRecord reads what text wrote. Words that it does not know it passes over.
func parseRecord(id, text string) *Record {
	r := &Record{ID: id}
	for word := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(word, "=")
		value = uevent.Unescape(value)
		switch key {
		case "devpath":
			r.Devpath = value
		case "subsystem":
			r.Subsystem = value
		case "devname":
			r.Devname = value
		case diskseqWord:
			r.Diskseq = value
		case "state":
			r.State = State(value)
		case "node":
			r.Nodes = append(r.Nodes, value)
		case "link":
			r.Links = append(r.Links, value)
		case "old":
			r.Old = append(r.Old, value)
		case "shared":
			r.Shared = append(r.Shared, value)
		}
	}
	return r
}

// record is the record of what was made: a file in the private directory that
// grows by a line for each change. A line is the device's ID and words such as
// devpath=/devices/virtual/mem/null and node=null; an ID alone says that the
// device has nothing any more. The last line of an ID counts.
//
// What is to be made stands there before it is made, so a crash at any moment
// leaves nothing behind that nobody knows of.
type record struct {
	fd    int               // for reading
	out   int               // for appending, once something is written
	known int64             // how much of the file was read or written by us
	text  map[string]string // by ID: the words of its last line
	place map[string]string // by devpath: the ID of the device there
	live  int64             // bytes that the last lines of all devices take
	later []byte            // lines that can wait for the end of the turn
	ahead map[string]string // by ID: the words of a line that was written, but does not count yet
}

// recall returns the words of the device's line; "" where there is none.
func (d *Dir) recall(id string) string { return d.record.text[id] }

// Announce puts on record what Plans are about to make for devices that have nothing
// yet, all at once: carrying out the Plans then takes no writing for that. What was
// announced and is not made until Unlock is taken back. The lock must be held.
func (d *Dir) Announce(plans []*Plan) {
	if d.record.fd == sys.None {
		return
	}
	for _, p := range plans {
		if p.Work != Make {
			continue
		}
		if r := recordOf(p); d.recall(r.ID) == "" {
			text := r.text()
			d.record.ahead[r.ID] = text
			d.record.later = appendLine(d.record.later, r.ID, text)
		}
	}
	if d.append() != nil {
		d.record.ahead = map[string]string{} // each will try by itself, and say what is wrong
	}
}

// remember writes r before what it tells of is made.
func (d *Dir) remember(r *Record) error {
	words := r.appendWords(make([]byte, 0, usualWords))
	if d.record.fd == sys.None || string(words) == d.recall(r.ID) {
		return nil
	}
	if ahead := d.record.ahead[r.ID]; ahead != "" {
		delete(d.record.ahead, r.ID)
		if ahead == string(words) {
			d.record.set(r.ID, ahead)
			return nil
		}
	}
	text := string(words)
	// What waits is written before it, since it may be about the same device.
	waiting := len(d.record.later)
	d.record.later = appendLine(d.record.later, r.ID, text)
	if err := d.append(); err != nil {
		d.record.later = d.record.later[:waiting]
		return wrap("write", Private+"/record", err)
	}
	d.record.set(r.ID, text)
	return nil
}

// jot is remember for what can wait for the end of the turn, since nothing is made.
func (d *Dir) jot(r *Record) {
	if d.record.fd == sys.None {
		return
	}
	text := r.text()
	delete(d.record.ahead, r.ID)
	d.record.set(r.ID, text)
	d.record.later = appendLine(d.record.later, r.ID, text)
}

// forget notes that the device has nothing any more, after it was removed.
func (d *Dir) forget(id string) {
	if d.record.set(id, "") {
		d.record.later = appendLine(d.record.later, id, "")
	}
}

// appendLine appends a line of the file.
func appendLine(to []byte, id, text string) []byte {
	to = uevent.AppendEscaped(to, id, true)
	if text != "" {
		to = append(append(to, ' '), text...)
	}
	return append(to, '\n')
}

// set takes in one line, and reports whether there was one of the device.
func (r *record) set(id, text string) (known bool) {
	was, known := r.text[id]
	if known {
		r.live -= lineSize(id, was)
		if place := devpathIn(was); r.place[place] == id {
			delete(r.place, place)
		}
	}
	if text == "" {
		delete(r.text, id)
		return known
	}
	r.text[id] = text
	r.place[devpathIn(text)] = id
	r.live += lineSize(id, text)
	return known
}

// devpathIn returns the devpath that the words of a line begin with.
func devpathIn(words string) string {
	first, _, _ := strings.Cut(words, " ")
	_, devpath, _ := strings.Cut(first, "=")
	return uevent.Unescape(devpath)
}

func lineSize(id, text string) int64 { return int64(len(id) + len(text) + 2) }

// append writes the lines that wait, whole or not at all.
func (d *Dir) append() error {
	r := &d.record
	if len(r.later) == 0 {
		return nil
	}
	if r.out == sys.None {
		fd, err := unix.Openat(d.private, "record", unix.O_WRONLY|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		r.out = fd
	}
	n, err := sys.Write(r.out, r.later)
	if err == nil && n < len(r.later) {
		err = unix.ENOSPC
	}
	if err != nil {
		unix.Ftruncate(r.out, r.known)
		return err
	}
	r.known += int64(n)
	r.later = r.later[:0]
	return nil
}

// refresh takes in what other processes wrote since the last turn.
func (d *Dir) refresh() error {
	r := &d.record
	var st unix.Statx_t
	if r.fd != sys.None {
		if err := sys.Fstat(r.fd, &st); err != nil {
			return err
		}
		if st.Nlink > 0 && int64(st.Size) == r.known {
			return nil
		}
	}
	if r.fd == sys.None || st.Nlink == 0 || int64(st.Size) < r.known {
		if err := d.openRecord(); err != nil {
			return err
		}
	}
	torn, err := r.load()
	if err != nil || !torn {
		return err
	}
	// Cut off what a crash left of a line.
	fd, err := unix.Openat(d.private, "record", unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Ftruncate(fd, r.known)
}

// openRecord opens the file, which may have been written anew since.
func (d *Dir) openRecord() error {
	fd, err := sys.OwnFile(d.private, "record", unix.O_RDONLY)
	if err != nil {
		return err
	}
	d.record.close()
	d.record = record{fd: fd, out: sys.None, text: map[string]string{}, place: map[string]string{}, ahead: map[string]string{}}
	return nil
}

func (r *record) close() {
	for _, fd := range []int{r.fd, r.out} {
		if fd != sys.None {
			unix.Close(fd)
		}
	}
	*r = record{fd: sys.None, out: sys.None}
}

// load reads from what is known to the end. Torn tells that the end is a part of
// a line.
func (r *record) load() (torn bool, err error) {
	var text []byte
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.Pread(r.fd, buf, r.known+int64(len(text)))
		if err != nil {
			return false, err
		}
		if n == 0 {
			break
		}
		text = append(text, buf[:n]...)
	}
	rest := string(text)
	for {
		line, after, whole := strings.Cut(rest, "\n")
		if !whole {
			break
		}
		id, words, _ := strings.Cut(line, " ")
		r.set(uevent.Unescape(id), words)
		r.known += int64(len(line)) + 1
		rest = after
	}
	return rest != "", nil
}

// flush writes what could wait, and the whole file anew where most of it is old.
func (d *Dir) flush() error {
	r := &d.record
	if r.fd == sys.None {
		return nil
	}
	for id := range r.ahead {
		r.later = appendLine(r.later, id, r.text[id])
	}
	clear(r.ahead)
	if len(r.later) > 0 {
		if err := d.append(); err != nil {
			return wrap("write", Private+"/record", err)
		}
	}
	const slack = 64 << 10
	if r.known <= 2*r.live+slack {
		return nil
	}
	return wrap("rename", Private+"/record", d.compact())
}

// compact writes the file anew.
func (d *Dir) compact() error {
	var all []byte
	for id, text := range d.record.text {
		all = appendLine(all, id, text)
	}
	return d.staged(func(at int, name string) error {
		fd, err := unix.Openat(at, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if n, err := unix.Write(fd, all); err != nil || n < len(all) {
			return unix.ENOSPC
		}
		return nil
	}, func(at int, name string) error {
		return unix.Renameat(at, name, d.private, "record")
	})
}

// Records returns all records, in no order. The lock must be held.
func (d *Dir) Records() []Record {
	all := make([]Record, 0, len(d.record.text))
	for id, text := range d.record.text {
		all = append(all, *parseRecord(id, text))
	}
	return all
}

// find returns the record of the device with this devpath, or nil.
func (d *Dir) find(devpath string) *Record {
	id, known := d.record.place[devpath]
	if !known {
		return nil
	}
	return parseRecord(id, d.recall(id))
}
