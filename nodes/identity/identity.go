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
	"strings"

	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
)

// Link is a symbolic link to a device's node that the device deserves.
type Link struct {
	Path     string // below /dev: disk/by-id/ata-MODEL_SERIAL
	Priority int    // of several claimants the one with the highest gets the link; 0 for most
}

// Identity is what a device deserves.
type Identity struct {
	Properties []string // KEY=VALUE, each key once, in the order in which they were found
	Links      []Link   // each path once

	// Keep says that the contents of the disk cannot be read now, since device-mapper has
	// suspended it: what its contents gave it before still holds.
	Keep bool
}

// Get returns the value of a property, or "".
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
	Fd      int  // open for reading
	Optical bool // a disc: no RAID signatures are looked for

	// Partition is its number, or 0 for a whole disk. Whole is then the disk that it lies
	// on, open for reading, or -1; Start and Size tell which part of it, in sectors of
	// 512 bytes.
	Partition   int
	Whole       int
	Start, Size uint64
}

// Prober answers for the devices of one sysfs. The fields are set before its first use;
// its methods may then run side by side.
type Prober struct {
	Sys sysfs.FS

	// Open opens a disk for reading and does not wait for a medium (O_NONBLOCK). Where it
	// is nil no disk is opened. Whoever provides it takes care that the node is the
	// device's own.
	Open func(uevent.Dev) (fd int, err error)

	// Contents returns what a disk holds, as properties KEY=VALUE: ID_FS_*, ID_PART_*.
	// Where it is nil nobody looks.
	Contents func(Disk) (properties []string)
}

// A subsystem's devices that have names, and what finds these. A device of any other
// subsystem costs no look into /sys.
var subsystems = [...]struct {
	name     string
	identify func(*subject)
}{
	{"backlight", (*subject).pathOnly},
	{"block", (*subject).block},
	{"drm", (*subject).drm},
	{"gpio", (*subject).gpio},
	{"hidraw", (*subject).hidraw},
	{"infiniband_verbs", (*subject).infiniband},
	{"input", (*subject).input},
	{"media", (*subject).media},
	{"mtd", (*subject).mtd},
	{"net", (*subject).net},
	{"pci", (*subject).pathOnly},
	{"platform", (*subject).pathOnly},
	{"ptp", (*subject).ptp},
	{"rfkill", (*subject).pathOnly},
	{"rtc", (*subject).rtc},
	{"scsi_generic", (*subject).changer},
	{"scsi_tape", (*subject).tape},
	{"sound", (*subject).sound},
	{"tty", (*subject).serial},
	{"usb", (*subject).usb},
	{"video4linux", (*subject).video},
	{"virtio-ports", (*subject).virtioPort},
}

// Identify answers by the event and sysfs alone. It opens no device and does not wait.
// A remove deserves nothing: what the device had, its record tells.
func (p *Prober) Identify(e *uevent.Event) Identity { return p.identify(e, false).id }

// NeedsContents reports whether Probe would find more than Identify. It costs at most
// two reads of sysfs, and none for what is no disk.
func (p *Prober) NeedsContents(e *uevent.Event) bool {
	if p.Open == nil || e.Subsystem != "block" || e.Action == uevent.Remove || e.Dev.IsZero() || !isStorage(e.Sysname()) {
		return false
	}
	return newSubject(p, e).readable()
}

// Probe answers by the contents of the disk as well. It may take as long as the disk
// does, or for ever: it is to run beside what must go on.
func (p *Prober) Probe(e *uevent.Event) Identity {
	return p.identify(e, p.NeedsContents(e)).id
}

func (p *Prober) identify(e *uevent.Event, probe bool) *subject {
	s := newSubject(p, e)
	if e.Action == uevent.Remove {
		return s
	}
	if !e.Dev.IsZero() {
		// As sysfs has them below /sys/dev.
		s.id.Links = append(s.id.Links, Link{Path: sysfs.KindDir(e.Dev.Block) + "/" + e.Dev.Numbers()})
	}
	if probe {
		s.openDisk()
		defer s.closeDisk()
	}
	for i := range subsystems {
		if subsystems[i].name == e.Subsystem {
			subsystems[i].identify(s)
			break
		}
	}
	if s.priority != 0 {
		for i := range s.id.Links {
			s.id.Links[i].Priority = s.priority
		}
	}
	return s
}

// subject is the device that a call is about, and what it deserves so far.
type subject struct {
	p        *Prober
	e        *uevent.Event
	dev      *dir // the device's own directory
	devtype  string
	id       Identity
	priority int // of all links: udev knows one for each device
	reads    int // of sysfs, for tests

	path      string // ID_PATH, once pathID was called
	revised   string // ID_PATH_WITH_USB_REVISION
	ataCompat string // ID_PATH_ATA_COMPAT
	usbDone   bool   // usbID was called
	disk      openDisk
}

func newSubject(p *Prober, e *uevent.Event) *subject {
	s := &subject{p: p, e: e, disk: openDisk{fd: -1, whole: -1}}
	s.devtype, _ = e.Get("DEVTYPE")
	s.dev = s.dirs(e.Devpath)
	s.dev.subsystem, s.dev.known = e.Subsystem, true
	return s
}

// set gives the device a property. A value never ends a line or a message.
func (s *subject) set(key, value string) {
	kv := key + "=" + printable(value)
	for i, old := range s.id.Properties {
		if strings.HasPrefix(old, kv[:len(key)+1]) {
			s.id.Properties[i] = kv
			return
		}
	}
	s.id.Properties = append(s.id.Properties, kv)
}

// setUnlessEmpty is set for what may not be there.
func (s *subject) setUnlessEmpty(key, value string) {
	if value != "" {
		s.set(key, value)
	}
}

// maxName is how long in bytes a file's name may be.
const maxName = 255

// link gives the device a link in a directory, under a name that may have come from a
// device. A name that can be none of a file's is left out.
func (s *subject) link(directory, name string) {
	name = cleanName(name)
	if name == "" || name == "." || name == ".." || len(name) > maxName {
		return
	}
	path := name
	if directory != "" {
		path = directory + "/" + name
	}
	for _, l := range s.id.Links {
		if l.Path == path {
			return
		}
	}
	s.id.Links = append(s.id.Links, Link{Path: path})
}
