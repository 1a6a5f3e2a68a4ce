package info

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
)

// device is what is shown of one.
type device struct {
	event      *uevent.Event
	links      []string // paths below /dev
	priority   int      // of the links: all of a device have the same; 0 where there is none
	driver     string   // the name of its driver, or ""
	properties []string // KEY=VALUE, in udev's order and form
}

// newDevice looks a device up.
func newDevice(look *Lookup, e *uevent.Event) *device {
	id := look.Identify(e)
	d := &device{event: e}
	for i := range id.Links {
		d.priority = id.Links[i].Priority
		d.addLink(look, id.Links[i].Path)
	}
	text, _ := sys.ReadLink(string(look.Sys) + e.Devpath + "/driver")
	d.driver = text[strings.LastIndexByte(text, '/')+1:]
	d.properties = []string{"DEVPATH=" + e.Devpath}
	for kv := range e.Env() {
		switch key, value, _ := strings.Cut(kv, "="); key {
		// Action and SEQNUM are those of an event that was made here, and DEVPATH is there
		// already.
		case "ACTION", "DEVPATH", "SEQNUM":
		case "DEVNAME":
			d.properties = append(d.properties, "DEVNAME=/dev/"+uevent.Printable(value))
		default:
			d.properties = append(d.properties, uevent.Printable(kv))
		}
	}
	d.properties = append(d.properties, id.Properties...)
	if len(d.links) > 0 {
		d.properties = append(d.properties, "DEVLINKS=/dev/"+strings.Join(d.links, " /dev/"))
	}
	return d
}

// addLink adds a link, if the device has it. Each device has one of those in block and
// char, and udev lists none of them.
func (d *device) addLink(look *Lookup, path string) {
	if strings.HasPrefix(path, "block/") || strings.HasPrefix(path, "char/") || look.Serves && !isLinkTo(look.Dev+"/"+path, d.event.Dev) {
		return
	}
	d.links = append(d.links, path)
}

// isLinkTo reports whether path is a link that leads to the device of these numbers.
func isLinkTo(path string, dev uevent.Dev) bool {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK || unix.Stat(path, &st) != nil {
		return false
	}
	return sysfs.NodeDev(&st) == dev
}

// render writes what is asked for.
func (o *options) render(d *device) string {
	switch {
	case o.json:
		return o.object(d)
	case o.query == "property":
		return o.list(d)
	case o.query == "name":
		return d.event.Devname + "\n"
	case o.query == "symlink":
		return strings.Join(d.links, " ") + "\n"
	case o.query == "path":
		return d.event.Devpath + "\n"
	}
	return d.record()
}

// wants reports whether a property is asked for, and parts its key from its value.
func (o *options) wants(kv string) (key, value string, wanted bool) {
	key, value, _ = strings.Cut(kv, "=")
	return key, value, o.only == "" || strings.Contains(","+o.only+",", ","+key+",")
}

// list writes the properties that are asked for, a line each. A value for a shell is in single
// quotes, the one form in which no other character means anything.
func (o *options) list(d *device) (text string) {
	for _, kv := range d.properties {
		switch key, value, wanted := o.wants(kv); {
		case !wanted:
		case o.value:
			text += value + "\n"
		case o.export:
			text += key + "='" + strings.Join(strings.Split(value, "'"), `'\''`) + "'\n"
		default:
			text += kv + "\n"
		}
	}
	return text
}

// object writes an object of JSON. Of a key that is said again the last value counts.
func (o *options) object(d *device) string {
	b := []byte{'{'}
	for i, kv := range d.properties {
		key, value, wanted := o.wants(kv)
		for _, later := range d.properties[i+1:] {
			wanted = wanted && !strings.HasPrefix(later, key+"=")
		}
		if !wanted {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = uevent.AppendQuoted(append(uevent.AppendQuoted(b, key), ':'), value)
	}
	return string(b) + "}\n"
}

// record writes all that is known, a letter and a value in a line: path, name, number,
// subsystem, type, device number, interface number, node, links' priority, links, disk
// sequence number, driver, properties.
func (d *device) record() (text string) {
	e := d.event
	line := func(letter, value string) {
		if value != "" {
			text += letter + ": " + value + "\n"
		}
	}
	said := func(letter, key string) {
		value, _ := e.Get(key)
		line(letter, value)
	}
	name := e.Sysname()
	line("P", e.Devpath)
	// The kernel writes '!' for a slash in names of sysfs.
	line("M", strings.Join(strings.Split(name, "!"), "/"))
	line("R", name[len(strings.TrimRight(name, "0123456789")):]) // the number at its end
	line("U", e.Subsystem)
	said("T", "DEVTYPE")
	if !e.Dev.IsZero() {
		line("D", e.Dev.String()[:1]+" "+e.Dev.Numbers()) // b or c, and the numbers
	}
	said("I", "IFINDEX")
	if e.Devname != "" {
		line("N", e.Devname)
		line("L", strconv.Itoa(d.priority))
	}
	for _, path := range d.links {
		line("S", path)
	}
	said("Q", "DISKSEQ")
	line("V", d.driver)
	for _, kv := range d.properties {
		line("E", kv)
	}
	return text
}
