// Package journal keeps the record of what was made in /dev, for each device, in a file
// that processes share. It knows no Plan and no rule, and changes nothing but its file.
//
// The file grows by a line for each change. A line is the device's ID and words such as
// devpath=/devices/virtual/mem/null and node=null; an ID alone says that the device has
// nothing any more. The last line of an ID counts, and bytes that would break a line are
// escaped as \xNN. Once most of the file is old it is written anew.
//
// What is to be made is put there before it is made, so a crash at any moment leaves
// nothing behind that nobody knows of.
package journal

import (
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// The names in the directory.
const (
	fileName = "record"
	tempName = "record-new" // what a crash leaves of it is written over
)

// Journal is the open record. Its methods need the lock that excludes other processes,
// and are not for several goroutines. A nil Journal holds nothing and keeps nothing, for
// a /dev without a private directory. Errors are those of the system calls.
type Journal struct {
	dir      int               // the directory of the file; the caller's
	in       int               // for reading
	out      int               // for appending, once something is written
	offset   int64             // how many bytes of the file were read or written by us
	lines    map[string]string // by ID: the words of its last line
	ids      map[string]string // by devpath: the ID of the device there
	live     int64             // bytes that the last lines of all devices take
	pending  []byte            // lines that can wait for Flush
	prepared map[string]string // by ID: the words of a line that was written, but does not count yet
}

// Open opens the record in the directory with the descriptor dir, which has to stay
// open, and reads it. It makes the file where it is missing.
func Open(dir int) (*Journal, error) {
	j := &Journal{dir: dir, in: sys.None, out: sys.None}
	if err := j.Refresh(); err != nil {
		j.Close()
		return nil, err
	}
	return j, nil
}

// Close closes the file. What was not flushed is lost.
func (j *Journal) Close() {
	if j != nil {
		sys.CloseAll(&j.in, &j.out)
	}
}

// Get returns the record of a device, or nil.
func (j *Journal) Get(id string) *Record {
	if !j.Has(id) {
		return nil
	}
	return parse(id, j.lines[id])
}

// Has reports whether there is a record of the device.
func (j *Journal) Has(id string) bool { return j != nil && j.lines[id] != "" }

// Holds reports whether r is on record just so.
func (j *Journal) Holds(r *Record) bool {
	return j != nil && string(r.appendWords(make([]byte, 0, usualWords))) == j.lines[r.ID]
}

// IDAt returns the ID of the device on record that has the devpath, or "".
func (j *Journal) IDAt(devpath string) string {
	if j == nil {
		return ""
	}
	return j.ids[devpath]
}

// At returns the record of the device that has the devpath, or nil.
func (j *Journal) At(devpath string) *Record { return j.Get(j.IDAt(devpath)) }

// All returns all records, in no order.
func (j *Journal) All() []*Record { return j.Mentioning("") }

// Mentioning returns the records in which text occurs, in no order.
func (j *Journal) Mentioning(text string) (all []*Record) {
	if j == nil {
		return nil
	}
	word := string(uevent.AppendEscaped(nil, text, true))
	for id, words := range j.lines {
		if strings.Contains(words, word) {
			all = append(all, parse(id, words))
		}
	}
	return all
}

// Prepare notes the record of a device that has none, which Put is to write soon. The
// first Put writes all that were prepared at once. What is not put until Flush is taken
// back there.
func (j *Journal) Prepare(r *Record) {
	if j != nil && !j.Has(r.ID) {
		words := string(r.appendWords(make([]byte, 0, usualWords)))
		j.prepared[r.ID] = words
		j.pending = appendLine(j.pending, r.ID, words)
	}
}

// Put writes r, in the place of what is on record of the device. When it returns, no
// crash of the process undoes that.
func (j *Journal) Put(r *Record) error {
	words := r.appendWords(make([]byte, 0, usualWords))
	if j == nil || string(words) == j.lines[r.ID] {
		return nil
	}
	prepared := j.prepared[r.ID]
	delete(j.prepared, r.ID)
	// What waits is written before r, since it may be about the same device.
	waiting := len(j.pending)
	text := prepared
	if text != string(words) {
		text = string(words)
		j.pending = appendLine(j.pending, r.ID, text)
	}
	if err := j.write(); err != nil {
		j.pending = j.pending[:waiting]
		// write has cut the file back to where it was, so that nothing of this counts. The
		// lines that were prepared still wait.
		if prepared != "" {
			j.prepared[r.ID] = prepared
		}
		return err
	}
	j.set(r.ID, text)
	return nil
}

// PutLater is Put for what can wait for Flush, since nothing is made.
func (j *Journal) PutLater(r *Record) {
	if j == nil {
		return
	}
	words := string(r.appendWords(make([]byte, 0, usualWords)))
	delete(j.prepared, r.ID)
	j.set(r.ID, words)
	j.pending = appendLine(j.pending, r.ID, words)
}

// Delete notes that the device has nothing any more, after that was removed. It waits
// for Flush.
func (j *Journal) Delete(id string) {
	if j != nil && j.set(id, "") {
		j.pending = appendLine(j.pending, id, "")
	}
}

// Flush writes what could wait, and the whole file anew where most of it is old.
func (j *Journal) Flush() error {
	if j == nil {
		return nil
	}
	// The line written ahead is the last of its device, and would count: so what counts is
	// written behind it.
	for id := range j.prepared {
		j.pending = appendLine(j.pending, id, j.lines[id])
	}
	clear(j.prepared)
	if err := j.write(); err != nil {
		return err
	}
	// So a small record is not written anew again and again.
	const slack = 64 << 10
	if j.offset <= 2*j.live+slack {
		return nil
	}
	return j.compact()
}

// appendLine appends a line of the file.
func appendLine(to []byte, id, words string) []byte {
	to = uevent.AppendEscaped(to, id, true)
	if words != "" {
		to = append(append(to, ' '), words...)
	}
	return append(to, '\n')
}

// set takes in one line, and reports whether there was one of the device.
func (j *Journal) set(id, words string) (known bool) {
	was, known := j.lines[id]
	if known {
		j.live -= lineSize(id, was)
		if devpath := devpathIn(was); j.ids[devpath] == id {
			delete(j.ids, devpath)
		}
	}
	if words == "" {
		delete(j.lines, id)
		return known
	}
	j.lines[id] = words
	j.ids[devpathIn(words)] = id
	j.live += lineSize(id, words)
	return known
}

// lineSize returns about how many bytes a line takes in the file; an ID that has to be escaped
// takes a few more.
func lineSize(id, words string) int64 { return int64(len(id) + len(words) + 2) }

// write appends the lines that wait, whole or not at all.
func (j *Journal) write() error {
	if len(j.pending) == 0 {
		return nil
	}
	if j.out == sys.None {
		fd, err := j.open(unix.O_WRONLY | unix.O_APPEND)
		if err != nil {
			return err
		}
		j.out = fd
	}
	n, err := sys.Write(j.out, j.pending)
	if err == nil && n < len(j.pending) {
		err = unix.ENOSPC
	}
	if err != nil {
		// No half of a line is left; where this fails too, the next Refresh cuts it off.
		_ = unix.Ftruncate(j.out, j.offset)
		return err
	}
	j.offset += int64(n)
	j.pending = j.pending[:0]
	return nil
}

func (j *Journal) open(flags int) (int, error) { return sys.OwnFile(j.dir, fileName, flags) }

// Refresh reads what other processes wrote since the lock was last held. After an error
// the Journal is of no use any more.
func (j *Journal) Refresh() error {
	var st unix.Statx_t
	if j.in != sys.None {
		if err := sys.Fstat(j.in, &st); err != nil {
			return err
		}
		// Nothing was written: that is the case nearly always, and costs this one call.
		if st.Nlink > 0 && int64(st.Size) == j.offset {
			return nil
		}
	}
	if j.in == sys.None || st.Nlink == 0 || int64(st.Size) < j.offset {
		// There is none yet, or another process wrote the file anew.
		fd, err := j.open(unix.O_RDONLY)
		if err != nil {
			return err
		}
		j.Close()
		*j = Journal{dir: j.dir, in: fd, out: sys.None,
			lines: map[string]string{}, ids: map[string]string{}, prepared: map[string]string{}}
	}
	torn, err := j.load()
	if err != nil || !torn {
		return err
	}
	// Cut off what a crash left of a line.
	fd, err := j.open(unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Ftruncate(fd, j.offset)
}

// load reads from offset to the end. Torn means that the end is a part of a line.
func (j *Journal) load() (torn bool, err error) {
	var text []byte
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.Pread(j.in, buf, j.offset+int64(len(text)))
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
			return rest != "", nil
		}
		id, words, _ := strings.Cut(line, " ")
		j.set(uevent.Unescape(id), words)
		j.offset += int64(len(line)) + 1
		rest = after
	}
}

// compact writes the file anew. The next Refresh opens it.
func (j *Journal) compact() error {
	var all []byte
	for id, words := range j.lines {
		all = appendLine(all, id, words)
	}
	fd, err := sys.OwnFile(j.dir, tempName, unix.O_WRONLY|unix.O_TRUNC)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// Whatever failed, the old file is there, whole, and counts.
	n, err := sys.Write(fd, all)
	switch {
	case err != nil:
		return err
	case n < len(all):
		return unix.ENOSPC
	}
	return unix.Renameat(j.dir, tempName, j.dir, fileName)
}
