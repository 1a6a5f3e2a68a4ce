// Package identity answers which names a device deserves: the links below /dev that stay
// the same from boot to boot (disk/by-id, snd/by-path, input/by-id, ...) and the properties
// that they are made of (ID_SERIAL, ID_PATH, ID_INPUT, ...), in udev's spelling.
//
// It reads an event, the device's directories in sysfs and, where it is asked to, the
// disk. It never writes, never opens another device, and claims no link: of several
// devices that deserve the same link it does not know.
//
// What is read comes from devices, and devices lie. A value becomes part of a link only
// through subject.link, which lets no slash, no control byte and no ".." through.
package identity

import (
	"strconv"
	"strings"

	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// Identity is what a device deserves.
type Identity struct {
	Properties []string // KEY=VALUE, each key once, in the order in which they were found

	// Links have a Path (disk/by-id/ata-MODEL_SERIAL), each once, and a Priority: of several
	// claimants the one with the highest gets the link; 0 for most.
	Links []nodes.Link

	// Keep says that the contents of the disk cannot be read now, since device-mapper has
	// suspended it: what its contents gave it before still holds.
	Keep bool

	// Unwiped says that the disk is a volume of LVM that is not to be read before LVM has wiped it.
	Unwiped bool
}

// Get returns the value of a property, or "". There are few, so a map would cost more.
func (id *Identity) Get(key string) string {
	for _, kv := range id.Properties {
		if len(kv) > len(key) && kv[len(key)] == '=' && kv[:len(key)] == key {
			return kv[len(key)+1:]
		}
	}
	return ""
}

// Disk is an open disk or partition, for Contents.
type Disk struct {
	Fd      int  // open for reading; -1 for a partition that is to be read as a part of Whole
	Optical bool // a disc: no RAID signatures are looked for

	// Partition is its number, or 0 for a whole disk. Whole is then the disk that it lies
	// on, open for reading, or -1; Start and Size tell which part of it, in sectors of
	// 512 bytes.
	Partition   int
	Whole       int
	Numbers     string // of that disk: "8:0"
	Start, Size uint64
}

// Prober answers for the devices of one sysfs. The fields are set before its first use;
// its methods may then run side by side, but for Identify.
type Prober struct {
	Sys sysfs.FS

	// Open opens a disk or an input device for reading and does not wait for a medium
	// (O_NONBLOCK). Where it is nil none is opened. Whoever provides it takes care that the node is the
	// device's own.
	Open func(uevent.Dev) (fd int, err error)

	// Run is the directory in which programs say what else the devices are called that they
	// make: /run. Where it is "" nobody looks.
	Run string

	// Contents returns what a disk holds, as properties KEY=VALUE: ID_FS_*, ID_PART_*.
	// Where it is nil nobody looks.
	Contents func(Disk) (properties []string)

	memory memory // of Identify alone, and guarded by nothing
}

// section returns the rules for a device, or "".
func section(e *uevent.Event) string {
	if e.Subsystem == "tty" && isVirtual(e) { // there are many, and none has names
		return ""
	}
	return rulesOf(e.Subsystem)
}

// Identify answers by the event and sysfs alone. It opens no device, and waits for none but one of
// USB that is being set up. A remove deserves nothing: what the device had, its record tells. The
// Identity may be one that it has returned before. One goroutine may call it at a time.
func (p *Prober) Identify(e *uevent.Event) *Identity {
	if e.Action == uevent.Remove {
		return &Identity{}
	}
	if e.Dev.IsZero() && section(e) == "" { // many devices: this costs next to nothing
		return &nothing
	}
	known, again := p.memory.at(e.Devpath)
	if m := *known; m.holds(p, e) {
		return &m.id
	}
	var id *Identity
	hasRules := section(e) != ""
	if hasRules {
		id = &p.identify(e, sysfsOnly).id
	} else {
		id = &Identity{Links: numbersLink(e)}
	}
	// Without rules the numbers decide alone, so that any such device may be remembered.
	if again && (!hasRules || matchAny(lasting, e.Subsystem)) {
		m := &remembered{devpath: e.Devpath, subsystem: e.Subsystem, dev: e.Dev, hasRules: hasRules, id: *id}
		if hasRules {
			m.said = said(e)
		}
		*known = m
	}
	return id
}

// nothing is what most devices without numbers deserve.
var nothing Identity

// Unread is Identify without any wait, for a device that does not answer: of USB devices it does
// not know what they call themselves.
func (p *Prober) Unread(e *uevent.Event) *Identity { return &p.identify(e, noWait).id }

// depth is how far a device is looked into.
type depth uint8

const (
	noWait    depth = iota // only what needs no answer of the device
	sysfsOnly              // all of sysfs
	opened                 // the device is opened too
)

// NeedsContents reports whether Probe would find more than Identify, or that may have to wait. It
// costs at most three reads of sysfs, and none for what is neither a disk nor an input device.
func (p *Prober) NeedsContents(e *uevent.Event) bool {
	if e.Action == uevent.Remove {
		return false
	}
	return asksUSB(e) || p.Open != nil && (e.Subsystem == "block" || e.Subsystem == "input") && newSubject(p, e).readable()
}

// Probe answers by the contents of the disk as well, and by the size of a touchpad. It may take as long as the disk
// does, or for ever: it is to run beside what must go on.
func (p *Prober) Probe(e *uevent.Event) *Identity { return &p.identify(e, opened).id }

// identify applies the rules to a device, as deep as how says. Of a remove it returns a subject that
// has nothing: its directory in sysfs is gone.
func (p *Prober) identify(e *uevent.Event, how depth) *subject {
	if e.Action == uevent.Remove {
		return &subject{}
	}
	s := newSubject(p, e)
	s.depth = how
	s.id.Links = numbersLink(e)
	if how == opened && p.Open != nil && s.readable() {
		s.openDisk()
		defer s.closeDisk()
	}
	s.apply(section(e))
	s.finish()
	return s
}

// numbersLink returns the link that every device with numbers has, as sysfs has it below /sys/dev.
func numbersLink(e *uevent.Event) []nodes.Link {
	if e.Dev.IsZero() {
		return nil
	}
	links := make([]nodes.Link, 1)
	links[0].Path = sysfs.KindDir(e.Dev.Block) + "/" + e.Dev.Numbers()
	return links
}

// subject is the device that a call is about, and what it deserves so far. It has a method for
// each source of names (SCSI, USB, ATA, PCI, device-mapper, ...), which the rules call.
type subject struct {
	p         *Prober
	e         *uevent.Event
	dev, base *dir // the device's own directory; that of what is named: of a partition the disk
	at        *dir // what a rule's attributes are those of
	id        Identity
	depth     depth
	reads     int                                // of sysfs, for tests
	usbDone   bool                               // usbID was called: rules call it in several places
	sets      [len(capabilityFiles)]capabilities // in the order of capabilityFiles, empty until input fills them
	fd, whole int                                // the open disk, and for a partition the disk that it is of; or -1
}

// newSubject returns a subject with what the event alone tells. It reads and opens nothing.
func newSubject(p *Prober, e *uevent.Event) *subject {
	s := &subject{p: p, e: e, fd: -1, whole: -1}
	s.dev = s.dirs(e.Devpath)
	// The event says it: a read of sysfs less.
	s.dev.subsystem, s.dev.known = e.Subsystem, true
	s.base, s.at = s.dev, s.dev
	if e.Subsystem == "block" || e.Subsystem == "sound" {
		s.set(".N", trailingNumber(e.Sysname()))
	}
	// A partition has the names of its disk, with a suffix.
	if devtype, _ := e.Get("DEVTYPE"); devtype == "partition" && s.dev.up != nil {
		s.base = s.dev.up
		s.set(".P", "-part"+trailingNumber(e.Sysname()))
	}
	return s
}

// maxValue is how long in bytes a property may be: much longer than any that is of use.
const maxValue = 1024

// set gives the device a property, or another value to one that it has. A value never ends a line
// or a message: devices choose what their serial numbers hold.
func (s *subject) set(key, value string) {
	kv := key + "=" + printable(value[:min(len(value), maxValue)])
	for i, old := range s.id.Properties {
		if strings.HasPrefix(old, kv[:len(key)+1]) {
			s.id.Properties[i] = kv
			return
		}
	}
	s.id.Properties = append(s.id.Properties, kv)
}

// setAll sets properties: of each of the keys, which are parted by blanks, that has a value.
func (s *subject) setAll(prefix, keys string, values []string) {
	for _, value := range values {
		var key string
		key, keys, _ = strings.Cut(keys, " ")
		if value != "" {
			s.set(prefix+key, value)
		}
	}
}

// maxName is how long in bytes a file's name may be (NAME_MAX of linux/limits.h).
const maxName = 255

// link gives the device a link where the template's values are there and none of the
// names in its path is one that no file can have.
func (s *subject) link(template string) {
	path, ok := s.expand(template, true)
	if !ok {
		return
	}
	// Values come from the device: no part may be empty, lead upwards, or be too long for a file.
	for rest, more := path, true; more; {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		if name == "" || name == "." || name == ".." || len(name) > maxName {
			return
		}
	}
	for _, l := range s.id.Links {
		if l.Path == path {
			return
		}
	}
	s.id.Links = append(s.id.Links, nodes.Link{Path: path})
}

// finish takes away what was for the rules alone.
func (s *subject) finish() {
	priority, _ := strconv.Atoi(s.id.Get(".PRIORITY"))
	for i := range s.id.Links {
		s.id.Links[i].Priority = priority // udev knows one for all links of a device
	}
	kept := s.id.Properties[:0]
	for _, kv := range s.id.Properties {
		if kv[0] != '.' {
			kept = append(kept, kv)
		}
	}
	s.id.Properties = kept
}
