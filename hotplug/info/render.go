package info

import (
	"slices"
	"strconv"
	"strings"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
	"devspool/nodes/identity"
)

// device is what is shown of one.
type device struct {
	event      *uevent.Event
	links      []identity.Link
	priority   int
	driver     string
	properties []string // KEY=VALUE, in udev's order and form
}

// newDevice looks a device up.
func newDevice(look Lookup, e *uevent.Event) *device {
	id := look.Identify(e)
	d := &device{event: e}
	for _, l := range id.Links {
		if strings.HasPrefix(l.Path, "block/") || strings.HasPrefix(l.Path, "char/") {
			continue // each has one, and udev lists none
		}
		d.links = append(d.links, l)
		d.priority = l.Priority
	}
	text, _ := sys.ReadLink(string(look.Sys) + e.Devpath + "/driver")
	d.driver = text[strings.LastIndexByte(text, '/')+1:]
	d.properties = []string{"DEVPATH=" + e.Devpath}
	for kv := range e.Env() {
		key, value, _ := strings.Cut(kv, "=")
		switch key {
		case "ACTION", "DEVPATH", "SEQNUM":
			continue
		case "DEVNAME":
			kv = key + "=/dev/" + value
		}
		d.properties = append(d.properties, uevent.Printable(kv))
	}
	d.properties = append(d.properties, id.Properties...)
	if len(d.links) > 0 {
		d.properties = append(d.properties, "DEVLINKS="+d.paths("/dev/"))
	}
	return d
}

// paths lists the links, with what each is to begin with.
func (d *device) paths(prefix string) string {
	var b []byte
	for i, l := range d.links {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(append(b, prefix...), l.Path...)
	}
	return string(b)
}

func (o *options) render(d *device) []byte {
	prefix := ""
	if o.root {
		prefix = "/dev/"
	}
	switch {
	case o.json:
		return o.object(d)
	case o.query == "property":
		return o.list(d)
	case o.query == "name":
		if d.event.Devname == "" {
			return nil
		}
		return []byte(prefix + d.event.Devname + "\n")
	case o.query == "symlink":
		return []byte(d.paths(prefix) + "\n")
	case o.query == "path":
		return []byte(d.event.Devpath + "\n")
	}
	return d.record()
}

// wanted lists the properties that are asked for.
func (o *options) wanted(d *device) (all []string) {
	for _, kv := range d.properties {
		key, _, _ := strings.Cut(kv, "=")
		if len(o.only) == 0 || slices.Contains(o.only, key) {
			all = append(all, kv)
		}
	}
	return all
}

func (o *options) list(d *device) (b []byte) {
	for _, kv := range o.wanted(d) {
		key, value, _ := strings.Cut(kv, "=")
		switch {
		case o.value:
			b = append(b, value...)
		case o.export:
			b = append(append(append(b, o.prefix...), key...), "='"...)
			b = append(append(b, strings.ReplaceAll(value, "'", `'\''`)...), '\'')
		default:
			b = append(b, kv...)
		}
		b = append(b, '\n')
	}
	return b
}

func (o *options) object(d *device) []byte {
	b := []byte{'{'}
	all := o.wanted(d)
	for i, kv := range all {
		key, value, _ := strings.Cut(kv, "=")
		if slices.ContainsFunc(all[i+1:], func(later string) bool { return strings.HasPrefix(later, key+"=") }) {
			continue // said again
		}
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = append(uevent.AppendQuoted(b, key), ':')
		b = uevent.AppendQuoted(b, value)
	}
	return append(b, "}\n"...)
}

// record writes all that is known, a letter and a value in a line: path, name, number,
// subsystem, type, device number, interface number, node, links' priority, links, disk
// sequence number, driver, properties.
func (d *device) record() []byte {
	e := d.event
	var b []byte
	line := func(letter byte, value string) { b = append(append(append(b, letter, ':', ' '), value...), '\n') }
	unlessEmpty := func(letter byte, value string) {
		if value != "" {
			line(letter, value)
		}
	}
	name := strings.ReplaceAll(e.Sysname(), "!", "/")
	line('P', e.Devpath)
	line('M', name)
	unlessEmpty('R', name[len(strings.TrimRight(name, "0123456789")):])
	unlessEmpty('U', e.Subsystem)
	devtype, _ := e.Get("DEVTYPE")
	unlessEmpty('T', devtype)
	if !e.Dev.IsZero() {
		kind := "c "
		if e.Dev.Block {
			kind = "b "
		}
		line('D', kind+e.Dev.Numbers())
	}
	index, _ := e.Get("IFINDEX")
	unlessEmpty('I', index)
	if e.Devname != "" {
		line('N', e.Devname)
		line('L', strconv.Itoa(d.priority))
	}
	for _, l := range d.links {
		line('S', l.Path)
	}
	sequence, _ := e.Get("DISKSEQ")
	unlessEmpty('Q', sequence)
	unlessEmpty('V', d.driver)
	for _, kv := range d.properties {
		line('E', kv)
	}
	return b
}
