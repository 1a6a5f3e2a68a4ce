// Package udev makes devspool a device manager that the programs written for udevd find:
// libudev's clients, udevadm (systemd's and eudev's), libdevmapper. For each event at its
// end it writes the device's file below /run/udev, sends a message to libudev's monitors
// and completes the event's device-mapper cookie; besides, it keeps the queue file and
// serves the control socket.
//
// It decides nothing of a device: names, links, tags and properties are given to it. It
// touches nothing below /dev and never blocks the caller on a client. No link below
// /run/udev is followed.
//
// What is below /run/udev, as systemd's udevd has it:
//
//	control      the socket that udevadm control, settle and trigger speak to
//	data/ID      what is to be said of a device, see Record; ID by Identify
//	tags/TAG/ID  an empty file for each tag that a device ever had
//	queue        an empty file while events are under way
//
// Once /run/udev/control exists libdevmapper waits for cookies, and "udev" monitors
// of libudev receive even where /dev is no devtmpfs: so the socket must not be there
// unless each event is passed to Done.
package udev

import (
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/netlink"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
)

// DefaultRun is where clients look.
const DefaultRun = "/run/udev"

// queueName is the file that exists while events are under way. Its removal wakes settle.
const queueName = "queue"

// Options say how a Udev is to work.
type Options struct {
	_ sys.NotComparable

	Run string // a directory such as DefaultRun; made, as far as its parent is there
	Sys sysfs.FS
	Log *log.Logger

	// Manager, where not nil, is asked by what comes to the control socket. A process that does
	// one event and ends has none.
	Manager Manager
}

// Device is what there is to be said of an event's device beyond the event itself.
type Device struct {
	Node       string   // its node's path below /dev, where it is not the event's DEVNAME
	Links      []string // paths below /dev of the symbolic links that it claims
	Priority   int      // of the links
	Properties []string // KEY=VALUE each; clients do not see one whose key begins with a dot
	Tags       []string // that it has now
	Persist    bool     // the record survives udevadm info --cleanup-db

	// Keep says that rules had nothing to do with the event: what the database holds
	// stays, and the other fields only add to it.
	Keep bool
}

// Udev speaks for the device manager. Its methods may be called by several goroutines. Those that tell
// of events, Sweep and Reopen do nothing on nil, by which clients are not served yet.
type Udev struct {
	options Options
	control *control // nil without Options.Manager; Reopen exchanges it, with mu held
	zero    uint64   // in µs; see clockAtZero

	// mu guards what follows. The methods that are not exported need it held.
	mu     sync.Mutex
	db     *database // below Options.Run; never nil between New and Close
	sender *netlink.Sender
	queued int             // events under way
	queue  bool            // the queue file is there
	said   Record          // what record returns
	msg    []byte          // what send sends
	logged map[string]bool // texts that the log has; see warnOnce
}

// New opens the directory, the database in it, and the sockets. What a process that was
// killed left behind goes, but for the records of devices: see Sweep.
func New(o Options) (*Udev, error) {
	u := &Udev{options: o, zero: clockAtZero(), logged: map[string]bool{}}
	var err error
	if u.sender, err = netlink.NewSender(Group); err != nil {
		return nil, err
	}
	if err = u.open(); err != nil {
		u.sender.Close()
		return nil, err
	}
	return u, nil
}

// open opens the database, and the control socket where there is a manager. On an error nothing
// is left open, but u.db may be closed. New calls it before others know u, Reopen with the mutex held.
func (u *Udev) open() error {
	db, err := openDatabase(u.options.Run)
	if err != nil {
		return sys.PathError("open", u.options.Run, err)
	}
	u.db = db
	if u.options.Manager == nil {
		return nil
	}
	u.control, err = openControl(db.root, u.options.Run, u.options.Manager, u.options.Log)
	if err != nil {
		u.db.close()
		return err
	}
	// Left by a process that was killed: the socket was free, so none serves it.
	sys.Unlinkat(db.root, queueName)
	db.learn() // a helper does one event, and would not gain by it
	return nil
}

// Close takes the queue file and the control socket away, so that no client waits for
// this process. The database stays. Events that are still under way are to be done before.
func (u *Udev) Close() {
	u.mu.Lock()
	u.flush()
	if u.control != nil {
		sys.Unlinkat(u.db.root, queueName)
		sys.Unlinkat(u.db.root, ControlName)
		u.control.file.Close() // from here on another loop can have these names
	}
	u.db.close()
	u.sender.Close()
	u.mu.Unlock()
}

// Reopen goes on in the directory that is at Options.Run now: something may have been
// mounted there. The old one is left as it is. On an error all goes on where it was.
func (u *Udev) Reopen() error {
	if u == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	db, control := u.db, u.control
	var st unix.Statx_t
	// The directory that we have is the one that clients see.
	if sys.Fstat(db.root, &st) == nil && sys.FileIDOf(u.options.Run) == sys.FileIDOfStat(&st) {
		return nil
	}
	if err := u.open(); err != nil {
		u.db, u.control = db, control
		return err
	}
	if control != nil {
		control.file.Close()
	}
	db.close()
	// The file that clients wait for is now one of the new directory.
	if u.queue {
		u.queue = false
		u.markQueue()
	}
	return nil
}

// Queued tells that an event was taken on. From here to the next Idle after its Done the
// queue file is there. Call it for all events that were received together before the
// first of them is begun, or the file comes and goes with each.
func (u *Udev) Queued(*uevent.Event) {
	if u == nil {
		return
	}
	u.mu.Lock()
	u.queued++
	u.markQueue()
	u.mu.Unlock()
}

// markQueue makes the queue file, if it is not there. Only a process that serves the control
// socket makes one: a helper may be killed, and would leave it behind.
func (u *Udev) markQueue() {
	if u.queue || u.options.Manager == nil {
		return
	}
	fd, err := sys.Openat(u.db.root, queueName, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o644)
	if err != nil {
		u.warnOnce("the queue file is not made: " + err.Error())
		return
	}
	sys.Close(fd)
	u.queue = true
}

// Idle sends the messages of the events that were done, and takes the queue file away if no event is
// under way. It is to be called when those that could end at once have.
func (u *Udev) Idle() {
	if u == nil {
		return
	}
	u.mu.Lock()
	u.flush() // before settle goes on
	u.db.endTurn()
	if u.queue && u.queued == 0 {
		sys.Unlinkat(u.db.root, queueName)
		u.queue = false
	}
	u.mu.Unlock()
}

// Done tells that an event is at its end, with its node, links and commands: it writes
// the database, completes the cookie, and sends the message: by the next Idle, with those of others.
// A late event (uevent.LateKey) changes nothing in the database, since /sys does not bear it out.
func (u *Udev) Done(e *uevent.Event, d Device) {
	if u == nil {
		return
	}
	u.mu.Lock()
	u.unqueue()
	if id, kind := identify(e); id != "" {
		u.send(e, u.record(e, id, kind, &d), d.Node)
	}
	if cookie := cookieOf(e); cookie != 0 {
		u.flush() // before the program goes on that made the change
		if err := completeCookie(cookie); err != nil {
			u.warnOnce("a cookie of device-mapper is not completed: " + err.Error())
		}
	}
	u.mu.Unlock()
}

// Withdrawn counts an event that Queued was told of as no longer under way, though it is not done
// here: a client that waits for an empty queue would wait for it for ever.
func (u *Udev) Withdrawn() {
	if u == nil {
		return
	}
	u.mu.Lock()
	u.unqueue()
	u.mu.Unlock()
}

// unqueue counts one event less. An event that Queued was not told of does not count below zero.
func (u *Udev) unqueue() {
	if u.queued > 0 {
		u.queued--
	}
}

// record brings the database up to date, and returns what the message is to say. That stays until
// the next call.
func (u *Udev) record(e *uevent.Event, id string, kind class, d *Device) *Record {
	// First, since it reads another record into the place where read keeps the last one.
	u.forgetOld(e, id)
	// What Tags had once stays (libudev: TAGS), since a monitor that filters by a tag is to see its
	// device lose it; Current is what it has now.
	was, known := u.db.read(id, e.Action == uevent.Remove)
	d.Properties, d.Tags = usableProperties(d.Properties), usableTags(d.Tags)
	r := &u.said
	*r = Record{Links: d.Links, Priority: d.Priority, Properties: d.Properties,
		Current: merge(nil, d.Tags), Tags: merge(was.Tags, d.Tags), Initialized: was.Initialized, Persist: d.Persist}
	// A remove says what the device had: rules find no properties any more where /sys has nothing.
	if d.Keep || e.Action == uevent.Remove {
		r.Links = merge(was.Links, d.Links)
		r.Properties = override(was.Properties, d.Properties)
		r.Current = merge(was.Current, d.Tags)
		r.Persist = was.Persist || d.Persist
		if d.Priority == 0 {
			r.Priority = was.Priority
		}
	}
	var err error
	switch {
	case e.IsLate(): // see Done
	case e.Action == uevent.Remove:
		err = u.db.remove(id, was)
	default:
		// The time of the first set-up stays as long as the device has a record.
		if r.Initialized == 0 {
			r.Initialized = u.now()
		}
		err = u.db.write(id, kind, r, was, known)
	}
	if err != nil {
		u.warnOnce("the database is not up to date: " + err.Error())
	}
	return r
}

// usableProperties returns those that clients are told of: KEY=VALUE with a key that is
// not private.
func usableProperties(properties []string) (usable []string) {
	for _, kv := range properties {
		if kv = oneLine(kv); isProperty(kv) && kv[0] != '.' {
			Add(&usable, kv)
		}
	}
	return usable
}

// usableTags returns the tags that can be a directory's name and part of a list.
func usableTags(tags []string) (usable []string) {
	for _, tag := range tags {
		if usableName(tag) && !strings.ContainsAny(tag, ": \n\x00") {
			Add(&usable, tag)
		}
	}
	return usable
}

// forgetOld removes the record that a device had by the sysname from which it was moved.
func (u *Udev) forgetOld(e *uevent.Event, id string) {
	if id[0] != '+' || e.Action != uevent.Move {
		return
	}
	old, moved := e.Get("DEVPATH_OLD")
	if !moved || e.IsLate() {
		return
	}
	// Devices with numbers, and interfaces by their index, keep their record's name when they move.
	if from := unnumbered(e.Subsystem, old); from != "" && from != id {
		was, _ := u.db.read(from, true)
		_ = u.db.remove(from, was)
	}
}

// clockAtZero returns what CLOCK_MONOTONIC says in microseconds when sys.Now is 0. The clock
// of Now is the same, and is read without a system call.
func clockAtZero() uint64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return uint64(t.Nano()-int64(sys.Now())) / 1000
}

// now returns the time of CLOCK_MONOTONIC in microseconds.
func (u *Udev) now() uint64 { return u.zero + uint64(sys.Now())/1000 }

// Sweep removes the records of devices that /sys does not have. It belongs to a scan, and
// where there is no sysfs does nothing.
func (u *Udev) Sweep() {
	if u == nil || !u.options.Sys.Mounted() {
		return
	}
	u.mu.Lock()
	u.db.sweep(u.options.Sys)
	u.mu.Unlock()
}

// send sends a message of the event. libudev takes none without a subsystem, of an action
// that it does not know, or without a number: an event of a scan has the number of the
// kernel's last.
func (u *Udev) send(e *uevent.Event, r *Record, node string) {
	if e.Subsystem == "" || !IsAction(e.Action) {
		return
	}
	u.msg = appendHeader(u.msg[:0])
	u.put("UDEV_DATABASE_VERSION="+databaseVersion, "")
	seqnum := e.Seqnum
	if seqnum == 0 {
		seqnum = max(1, u.options.Sys.Seqnum())
	}
	u.put("SEQNUM=", strconv.FormatUint(seqnum, 10))
	if r.Initialized != 0 {
		u.put("USEC_INITIALIZED=", strconv.FormatUint(r.Initialized, 10))
	}
	u.put("ACTION=", e.Action)
	u.put("DEVPATH=", oneLine(e.Devpath))
	u.put("SUBSYSTEM=", oneLine(e.Subsystem))
	if node == "" {
		node = e.Devname
	}
	if node != "" {
		u.put("DEVNAME=/dev/", oneLine(node))
	}
	if len(r.Tags) > 0 {
		u.put("TAGS=", TagList(r.Tags))
	}
	if len(r.Current) > 0 {
		u.put("CURRENT_TAGS=", TagList(r.Current))
	}
	devtype := u.putVariables(string(e.Pack()), r.Properties)
	for _, kv := range r.Properties {
		u.put(kv, "")
	}
	u.putLinks(r.Links)
	seal(u.msg, e.Subsystem, devtype, r.Tags)
	u.tell(u.sender.Put(u.msg))
}

// IsAction reports whether libudev knows an action. The kernel takes no others.
func IsAction(action string) bool {
	switch action {
	case uevent.Add, uevent.Remove, uevent.Change, uevent.Move, uevent.Online, uevent.Offline, uevent.Bind, uevent.Unbind:
		return true
	}
	return false
}

// flush sends the messages that wait.
func (u *Udev) flush() { u.tell(u.sender.Flush()) }

// tell logs why messages were not sent.
func (u *Udev) tell(err error) {
	if err != nil {
		u.warnOnce("libudev's monitors are not told: " + err.Error())
	}
}

// putVariables appends the variables of an event, KEY=VALUE and a NUL each, but for those that are
// said otherwise: what rules say in properties prevails. It returns the event's DEVTYPE, whatever rules
// say. A NUL ends each variable of vars, the last one too, as Event.Pack writes them.
func (u *Udev) putVariables(vars string, properties []string) (devtype string) {
	// One look at all of them spares one at each.
	ragged := strings.IndexByte(vars, '\n') >= 0
	for vars != "" {
		end := strings.IndexByte(vars, 0)
		kv := vars[:end]
		vars = vars[end+1:]
		at := strings.IndexByte(kv, '=')
		if at <= 0 || isOurs(kv[:at]) {
			continue
		}
		if devtype == "" && kv[:at] == "DEVTYPE" {
			devtype = kv[at+1:]
		}
		if ragged {
			kv = oneLine(kv)
		}
		if !HasKey(properties, kv) {
			u.put(kv, "")
		}
	}
	return devtype
}

// isOurs reports whether a variable of an event is said otherwise, or is none of the
// kernel's but of the environment in which a helper was started: the kernel adds PATH and HOME for it
// (lib/kobject_uevent.c). Key is not empty; with a dot in front it is private, as in udev's rules.
func isOurs(key string) bool {
	switch key {
	case "UDEV_DATABASE_VERSION", "ACTION", "DEVPATH", "SUBSYSTEM", "SEQNUM", "DEVNAME", "USEC_INITIALIZED",
		"TAGS", "CURRENT_TAGS", "DEVLINKS", "PATH", "HOME":
		return true
	}
	return key[0] == '.'
}

// put appends a property, of which head holds the key, unless the message would become
// too long for older clients. What is appended first counts most.
func (u *Udev) put(head, tail string) {
	if len(u.msg)+len(head)+len(tail)+1 > mostMessage {
		u.warnOnce("a message to libudev's monitors has no room for all properties")
		return
	}
	u.msg = append(append(append(u.msg, head...), tail...), 0)
}

// putLinks appends DEVLINKS, which a blank in a name would end.
func (u *Udev) putLinks(links []string) {
	text := ""
	for _, link := range links {
		// 32 is more than "DEVLINKS=", one more " /dev/" and the NUL take. A link that has no room is left
		// out, and not all of them with it.
		if strings.IndexByte(link, ' ') < 0 && len(u.msg)+len(text)+len(link)+32 < mostMessage {
			text += " /dev/" + link
		}
	}
	if text != "" {
		u.put("DEVLINKS=", oneLine(text[1:]))
	}
}

// warnOnce logs a text once: what is wrong for one event is wrong for all.
func (u *Udev) warnOnce(text string) {
	if !u.logged[text] {
		u.logged[text] = true
		u.options.Log.Print(log.Warning, text)
	}
}
