package udev

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
)

// maxRecord is how many bytes of a device's file are read: a hundred times what the
// largest have.
const maxRecord = 256 << 10

// temporary begins the names of files that are being written. Clients pass over names
// with a dot, and udevd's begin with the same.
const temporary = ".#"

// ownTemporary begins the names of ours; the number of the process follows.
const ownTemporary = temporary + "devspool-"

// database is a directory such as /run/udev. Each device with a node or a network
// interface has a file in data, other devices where there is something to be said of
// them. tags/TAG/ID is an empty file for each tag that a device ever had. One goroutine at a time may use
// it: Udev.mu guards a Udev's.
type database struct {
	root, data, tags int    // descriptors of directories
	scratch          string // the name of a file that is being written
	buf              []byte // what a file is to hold
	old              []byte // what read has found in one
	was              Record // what read has found in one
	absent           bool   // read has found no file
	mode             mode   // what makeEmpty has found out about the umask
	held             held   // which files there can be
}

// mode tells whether the process's umask leaves new files readable by all.
type mode uint8

const (
	unknown mode = iota // makeEmpty has made no file yet
	usable              // mknod gives a file the mode 0644
	masked              // mknod does not, and each file goes by way of replace
)

// openDatabase opens the directories, and makes those that are missing.
func openDatabase(run string) (*database, error) {
	// Helpers may write side by side, each its own scratch file: so its name has the process's number.
	d := &database{root: sys.None, data: sys.None, tags: sys.None, scratch: ownTemporary + strconv.Itoa(unix.Getpid())}
	var err error
	if d.root, err = publicDirectory(unix.AT_FDCWD, run); err == nil {
		if d.data, err = publicDirectory(d.root, "data"); err == nil {
			d.tags, err = publicDirectory(d.root, "tags")
		}
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// close closes the directories. The files stay.
func (d *database) close() { sys.CloseAll(&d.root, &d.data, &d.tags) }

// publicDirectory opens a directory that all may read and only we may write, and makes
// it where it is missing. One of another user is refused (EACCES), as is a link:
// files that are made there would otherwise be that user's to choose.
func publicDirectory(at int, name string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(at, name, flags, 0)
	if err == unix.ENOENT {
		// EEXIST: another process was faster.
		if err = unix.Mkdirat(at, name, 0o755); err != nil && err != unix.EEXIST {
			return sys.None, err
		}
		if fd, err = unix.Openat(at, name, flags, 0); err == nil {
			err = sys.Fchmod(fd, 0o755) // whatever the umask is
		}
	}
	if err != nil {
		return sys.None, err
	}
	var st unix.Statx_t
	if err = sys.Fstat(fd, &st); err == nil && (int(st.Uid) != unix.Geteuid() || st.Mode&0o022 != 0) {
		err = unix.EACCES
	}
	if err != nil {
		sys.Close(fd)
		return sys.None, err
	}
	return fd, nil
}

// heldWords is the size of held's table: of 1000 names that are not there it takes one in 65 for one
// that may be, where 1000 are.
const heldWords = 1 << 10

// held knows names that certainly are not in data. Most events are of devices without a file, and
// to look for a name that is not there costs the kernel twice what it costs for another.
//
// Other processes may make files too. That shows in the directory's time of change, which is compared
// once in a turn. What they make later in the turn, or within the same tick of the kernel's clock, is
// overlooked until the device is removed, another process changes something again, or the next scan.
type held struct {
	bits     *[heldWords]uint64  // a bit for each name by its hash; nil where none is known
	stamp    unix.StatxTimestamp // data's time of change when the bits were right
	compared bool                // in this turn
	changed  bool                // by us, in this turn
}

// place returns where the bit of a name is: the hash's lowest 6 bits choose the bit, the next 10 the word.
func (h *held) place(name string) (word *uint64, bit uint32) {
	hash := murmur(name)
	return &h.bits[hash>>6%heldWords], hash & 63
}

// learn takes note of the files that are there, and makes held known where it was not: lacks says nothing
// before the first call.
func (d *database) learn() {
	d.held = held{bits: new([heldWords]uint64), stamp: d.stamp()}
	for _, name := range sys.List(d.data) {
		d.changed(name)
	}
}

// stamp returns data's time of change.
func (d *database) stamp() unix.StatxTimestamp {
	var st unix.Statx_t
	_ = sys.Fstat(d.data, &st)
	return st.Mtime
}

// changed takes note of a file that we have made, or removed. A removed one keeps its bit, which other
// names may share; only learn clears bits.
func (d *database) changed(id string) {
	if d.held.bits != nil {
		d.held.changed = true
		word, bit := d.held.place(id)
		*word |= 1 << bit
	}
}

// lacks reports whether there is certainly no file id.
func (d *database) lacks(id string) bool {
	if d.held.bits == nil {
		return false
	}
	if !d.held.compared {
		if d.stamp() != d.held.stamp {
			d.learn()
		}
		d.held.compared = true
	}
	word, bit := d.held.place(id)
	return *word>>bit&1 == 0
}

// endTurn is to be called between events, at the latest when there are none for a while.
func (d *database) endTurn() {
	if d.held.changed {
		d.held.stamp = d.stamp()
	}
	d.held.compared, d.held.changed = false, false
}

// read returns what the database holds of a device, and whether it holds anything; there
// is a Record in any case. It, and the text of the file in d.old, stay until the next call. A file of
// which it is certain that it is not there is looked for all the same where the caller is to be sure.
func (d *database) read(id string, sure bool) (r *Record, known bool) {
	d.was, d.old, d.absent = Record{}, d.old[:0], true
	r = &d.was
	if !sure && d.lacks(id) {
		return r, false
	}
	var st unix.Statx_t
	err := sys.Stat(d.data, id, unix.AT_SYMLINK_NOFOLLOW, &st)
	d.absent = err == unix.ENOENT
	// What is no file, or too large, was not written by a device manager, and counts as nothing.
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxRecord {
		return r, false
	}
	if st.Size > 0 { // most files are empty
		fd, err := sys.Openat(d.data, id, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			return r, false
		}
		// The buffer grows with the file's size, which maxRecord bounds.
		d.old = slices.Grow(d.old, int(st.Size))[:st.Size]
		n, err := sys.Read(fd, d.old)
		sys.Close(fd)
		d.old = d.old[:max(0, n)]
		if err != nil {
			return r, false
		}
		*r = *ParseRecord(string(d.old))
	}
	r.Persist = st.Mode&unix.S_ISVTX != 0
	return r, true
}

// write makes the device's file say what r does, where it does not yet. was is what read
// has just returned. The tags come first: a file has no tag by which its device is not found,
// even where the process was killed on the way.
func (d *database) write(id string, kind class, r, was *Record, known bool) error {
	if kind == other && r.isEmpty() {
		return d.remove(id, was)
	}
	var err error
	for _, tag := range r.Tags {
		if err == nil && !slices.Contains(was.Tags, tag) {
			err = d.tag(tag, id)
		}
	}
	d.buf = r.Append(d.buf[:0], kind == numbered)
	// Most devices have an empty file: by mknod that is one system call in place of four.
	made := d.absent && len(d.buf) == 0 && !r.Persist && d.makeEmpty(id)
	if !made && (!known || r.Persist != was.Persist || string(d.buf) != string(d.old)) {
		if failure := d.replace(id, r.Persist); failure != nil {
			err = failure
		}
	}
	return err
}

// makeEmpty makes an empty file by one system call, where the umask lets it have the right
// mode, and reports whether it did. The first one shows whether the umask takes bits away; if so,
// replace puts another in its place.
func (d *database) makeEmpty(id string) bool {
	if d.mode == masked || sys.Mknodat(d.data, id, unix.S_IFREG|0o644, 0) != nil {
		return false
	}
	d.changed(id)
	if d.mode == unknown {
		var st unix.Statx_t
		d.mode = masked
		if sys.Stat(d.data, id, unix.AT_SYMLINK_NOFOLLOW, &st) == nil && st.Mode == unix.S_IFREG|0o644 {
			d.mode = usable
		}
	}
	return d.mode == usable
}

// replace puts d.buf into the file id by way of another one, so that nobody reads half
// of it. Only one thread of one process uses that name; what another left there is no
// longer wanted.
func (d *database) replace(id string, persist bool) error {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW
	fd, err := sys.Openat(d.data, d.scratch, flags, 0o644)
	if err == unix.EEXIST {
		sys.Unlinkat(d.data, d.scratch)
		fd, err = sys.Openat(d.data, d.scratch, flags, 0o644)
	}
	if err != nil {
		return err
	}
	// The sticky bit is the record's Persist: udevadm info --cleanup-db looks at nothing else.
	mode := uint32(0o644)
	if persist {
		mode |= unix.S_ISVTX
	}
	if err = sys.Fchmod(fd, mode); err == nil && len(d.buf) > 0 {
		var n int
		// A file of a tmpfs takes all, or as much as there is room for.
		if n, err = sys.Write(fd, d.buf); err == nil && n < len(d.buf) {
			err = unix.ENOSPC
		}
	}
	sys.Close(fd)
	if err == nil {
		err = unix.Renameat(d.data, d.scratch, d.data, id)
		d.changed(id)
	}
	if err != nil {
		sys.Unlinkat(d.data, d.scratch)
	}
	return err
}

// remove takes the device's file and then its tags away, in the opposite order of write. was is what
// read has just returned.
func (d *database) remove(id string, was *Record) error {
	// Without a file there are no tags to be read. Those that a killed process has left are for sweep.
	if d.absent {
		return nil
	}
	err := sys.Unlinkat(d.data, id)
	d.changed(id)
	for _, tag := range was.Tags {
		if at, err := d.tagDirectory(tag); err == nil {
			sys.Unlinkat(at, id)
			sys.Close(at)
		}
	}
	if err == unix.ENOENT {
		err = nil
	}
	return err
}

// tag makes the empty file by which clients find the devices with a tag.
func (d *database) tag(tag, id string) error {
	if !usableName(tag) {
		return unix.EINVAL
	}
	at, err := publicDirectory(d.tags, tag)
	if err != nil {
		return err
	}
	fd, err := sys.Openat(at, id, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o444)
	sys.CloseAll(&fd, &at)
	return err
}

// tagDirectory opens the directory of a tag, which may be missing. Unlike publicDirectory it makes
// none.
func (d *database) tagDirectory(tag string) (int, error) {
	if !usableName(tag) {
		return sys.None, unix.EINVAL
	}
	return sys.Openat(d.tags, tag, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
}

// usableName reports whether a file of that name lies in the directory where it is made. A dot in front is
// refused, for "." and "..", and since clients pass over such names.
func usableName(name string) bool {
	return name != "" && name[0] != '.' && len(name) < unix.NAME_MAX && strings.IndexByte(name, '/') < 0
}

// class tells what the database holds of a device in any case.
type class uint8

const (
	other    class = iota // no file where there is nothing to say
	network               // a file
	numbered              // a file, in which links may be
)

// Identify returns the name that a device has in the database: b8:0, c1:3, n2 for a
// network interface, or +SUBSYSTEM:SYSNAME. It is "" for a device that can have none. The names are those
// of systemd's device_get_device_id: libudev looks for the same ones.
func Identify(e *uevent.Event) string {
	id, _ := identify(e)
	return id
}

// identify is Identify, and tells besides what the database holds of the device.
func identify(e *uevent.Event) (string, class) {
	if !e.Dev.IsZero() {
		return e.Dev.String(), numbered
	}
	if e.Subsystem == "net" {
		text, _ := e.Get("IFINDEX")
		// The kernel's ifindex is an int, and above 0.
		if n, err := strconv.ParseUint(text, 10, 31); err == nil && n > 0 {
			return "n" + strconv.FormatUint(n, 10), network
		}
	}
	return unnumbered(e.Subsystem, e.Devpath), other
}

// unnumbered returns the name of a device that has no numbers, or "" for one without a subsystem or with a
// name that no file can have. Its sysname keeps the kernel's '!' in place of a slash.
func unnumbered(subsystem, devpath string) string {
	id := "+" + subsystem + ":"
	if subsystem == "drivers" { // the bus tells drivers of one name apart
		path, _, _ := strings.Cut(devpath, "/drivers/")
		id += path[strings.LastIndexByte(path, '/')+1:] + ":"
	}
	id += devpath[strings.LastIndexByte(devpath, '/')+1:]
	if subsystem == "" || !usableName(id) {
		return ""
	}
	return id
}

// sweep removes what the database holds of devices that are not in /sys, and tags that no
// device has by its file: what a process that was killed left.
func (d *database) sweep(s sysfs.FS) {
	var interfaces []string
	for _, name := range sys.ReadDir(string(s) + "/class/net") {
		text, _ := sys.ReadAttribute(string(s) + "/class/net/" + name + "/ifindex")
		Add(&interfaces, "n"+strings.TrimSuffix(text, "\n"))
	}
	// The files come first: what they say decides then which tags are strays.
	for _, id := range sys.List(d.data) {
		switch {
		case strings.HasPrefix(id, temporary):
			// A helper that lives may be writing just now. We are not; the process before us that had our number
			// may have been.
			pid, _ := strconv.Atoi(strings.TrimPrefix(id, ownTemporary))
			if pid <= 0 || id == d.scratch || unix.Kill(pid, 0) == unix.ESRCH {
				sys.Unlinkat(d.data, id)
			}
		case slices.Contains(interfaces, id) || lives(s, id):
		default:
			was, _ := d.read(id, true)
			_ = d.remove(id, was)
		}
	}
	for _, tag := range sys.List(d.tags) {
		at, err := d.tagDirectory(tag)
		if err != nil {
			continue
		}
		for _, id := range sys.List(at) {
			if was, _ := d.read(id, true); !slices.Contains(was.Tags, tag) {
				sys.Unlinkat(at, id)
			}
		}
		sys.Close(at)
	}
	if d.held.bits != nil {
		d.learn()
	}
}

// lives reports whether /sys has the device, which is no network interface.
func lives(s sysfs.FS, id string) bool {
	subsystem, name, _ := strings.Cut(id[1:], ":")
	// Where it may be, & being its subsystem; the last as in /module/fuse.
	places := "/bus/&/devices/ /class/&/ /&/"
	switch {
	case id[0] == 'b' || id[0] == 'c':
		subsystem, name = sysfs.KindDir(id[0] == 'b'), id[1:]
		places = "/dev/&/"
	case id[0] != '+' || name == "": // such as n2, an interface that sweep did not find
		return false
	case subsystem == "drivers":
		subsystem, name, _ = strings.Cut(name, ":")
		places = "/bus/&/drivers/"
	case subsystem == "subsystem" || subsystem == "bus":
		subsystem = ""
		places = "/bus&/ /class&/"
	}
	for _, place := range strings.Fields(places) {
		before, after, _ := strings.Cut(place, "&")
		if sys.Exists(unix.AT_FDCWD, string(s)+before+subsystem+after+name) {
			return true
		}
	}
	return false
}

// Lookup returns what the database below run, such as /run/udev, holds of a device, and
// whether it holds anything; there is a Record in any case.
func Lookup(run, id string) (r *Record, known bool) {
	d := database{root: sys.None, tags: sys.None}
	// A failed open leaves -1, with which read finds nothing.
	d.data, _ = unix.Open(run+"/data", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	r, known = d.read(id, true)
	d.close()
	return r, known
}
