package identity

import "strings"

// pathWalk makes ID_PATH: what lies between a device and the root of the machine, as far
// as it stays the same from boot to boot.
type pathWalk struct {
	path, compat string // compat: with the name that ATA disks had once
	transport    bool   // a part was seen that tells of devices behind one controller apart
	parent       bool   // a part was seen that names the controller itself
}

func (w *pathWalk) prepend(part string) {
	w.path = join(part, w.path)
	if w.compat != "" {
		w.compat = join(part, w.compat)
	}
}

func join(part, path string) string {
	if path == "" {
		return part
	}
	return part + "-" + path
}

// pathParts tells what devices of a subsystem add to a path where it is their own name.
// One that has no name here adds nothing.
var pathParts = [...]struct {
	subsystem, prefix string
	transport, parent bool
}{
	{"acpi", "acpi-", false, true},
	{"amba", "amba-", true, true},
	{"ccw", "ccw-", true, true},
	{"ccwgroup", "ccwgroup-", true, true},
	{"iucv", "iucv-", true, true},
	{"pci", "pci-", false, true},
	{"platform", "platform-", true, true},
	{"scm", "scm-", true, true},
	{"virtio", "", true, false},
	{"xen", "xen-", false, true},
}

// pathID finds ID_PATH of the device whose directory is given: the subject's own, or for
// a partition its disk's.
func (s *subject) pathID(dev *dir) {
	if s.path != "" || s.isVirtual() && !strings.Contains(s.e.Devpath, "/nvme-subsystem/") {
		return
	}
	w := &pathWalk{}
	for d := dev; d != nil; d = d.up {
		if d = w.step(dev, d); d == nil {
			break
		}
	}
	// Without a known parent two devices could have one path.
	if w.path == "" || !w.parent || dev.readSubsystem() == "block" && !w.transport {
		return
	}
	s.path = w.path
	if before, after, found := strings.Cut(w.path, "usbv"); found && len(after) > 1 && after[1] == '-' {
		s.revised = w.path
		s.path = before + "usb" + after[1:]
		s.set("ID_PATH_WITH_USB_REVISION", s.revised)
	}
	s.set("ID_PATH", s.path)
	s.set("ID_PATH_TAG", pathTag(s.path))
	s.ataCompat = w.compat
	s.setUnlessEmpty("ID_PATH_ATA_COMPAT", w.compat)
}

// linkPaths links a device by its path.
func (s *subject) linkPaths(directory, suffix string) {
	if s.path != "" {
		s.link(directory, s.path+suffix)
	}
	if s.revised != "" {
		s.link(directory, s.revised+suffix)
	}
}

func (s *subject) pathOnly() { s.pathID(s.dev) }

// step adds what one device contributes, and returns where to go on above; nil for
// nowhere.
func (w *pathWalk) step(dev, d *dir) *dir {
	subsystem := d.readSubsystem()
	switch subsystem {
	case "":
		return d
	case "scsi_tape":
		w.tape(d)
		return d
	case "scsi":
		w.transport = true
		return w.scsi(d)
	case "usb":
		w.transport = true
		return w.usb(d)
	case "nvme", "nvme-subsystem":
		return w.nvme(dev, d, subsystem)
	case "cciss":
		w.transport = true
		if _, disk, found := strings.Cut(d.name(), "d"); found {
			w.prepend("cciss-disk" + disk[:len(disk)-len(strings.TrimLeft(disk, "0123456789"))])
		}
		return d.top()
	case "bcma":
		w.transport = true
		if _, core, found := strings.Cut(d.name(), ":"); found {
			w.prepend("bcma-" + core)
		}
		return d
	case "serio":
		if n := trailingNumber(d.name()); n != "" {
			w.prepend("serio-" + n)
			return d.top()
		}
		return d
	case "spi":
		if n := trailingNumber(d.name()); n != "" {
			w.prepend("cs-" + n)
			return d.top()
		}
		return d
	case "ap":
		w.transport, w.parent = true, true
		kind, hasKind := d.attr("type")
		functions, hasFunctions := d.attr("ap_functions")
		if hasKind && hasFunctions {
			w.prepend("ap-" + kind + "-" + functions)
		} else {
			w.prepend("ap-" + d.name())
		}
		return d.top()
	}
	for i := range pathParts {
		p := &pathParts[i]
		if p.subsystem != subsystem {
			continue
		}
		if p.prefix != "" {
			w.prepend(p.prefix + d.name())
		}
		w.transport = w.transport || p.transport
		w.parent = w.parent || p.parent
		return d.top()
	}
	return d
}

// usb: the number of the bus may be another after each boot, the ports below it are not.
// So it stands as 0. The protocol of the root hub tells the two buses of one controller
// apart that a port can be on.
func (w *pathWalk) usb(d *dir) *dir {
	_, port, found := strings.Cut(d.name(), "-")
	if !found {
		return d
	}
	d = d.top()
	w.prepend("usb" + usbRevision(d) + "-0:" + port)
	return d
}

func usbRevision(root *dir) string {
	protocol, ok := number(root.value("bDeviceProtocol"), 16)
	switch {
	case !ok || protocol > 3:
		return ""
	case protocol == 3:
		return "v3"
	case protocol == 0 && root.value("speed") != "480":
		return "v1"
	}
	return "v2"
}

func (w *pathWalk) nvme(dev, d *dir, subsystem string) *dir {
	nsid, ok := dev.attr("nsid")
	if !ok {
		return d
	}
	w.prepend("nvme-" + nsid)
	w.transport, w.parent = true, true
	if subsystem == "nvme" {
		return d.top()
	}
	// With multipath the namespace lies below the subsystem, which is virtual; the
	// controller that it was named after is not.
	name := dev.name()
	end := len("nvme")
	for end < len(name) && name[end] != 'n' {
		end++
	}
	target := d.s.realDirs("nvme", name[:min(end, len(name))])
	if target == nil {
		w.path = ""
		return nil
	}
	return target
}

// realDirs returns the directories of a device of a class where it really lies, or nil
// where it is virtual.
func (s *subject) realDirs(class, name string) *dir {
	s.reads++
	devpath, err := s.p.Sys.Find("/class/"+class+"/"+name, nodes)
	if err != nil || !strings.HasPrefix(devpath, "/devices/") || strings.HasPrefix(devpath, "/devices/virtual/") {
		return nil
	}
	return s.dirs(devpath)
}

// tape is one of the nodes of one drive: with or without rewinding, and of a mode.
func (w *pathWalk) tape(d *dir) {
	rest, _ := strings.CutPrefix(d.name(), "n")
	mode, isTape := strings.CutPrefix(rest, "st")
	if w.path != "" || !isTape || mode == "" {
		return
	}
	// The digits of the drive may change, the letter of the mode may not.
	if c := mode[0]; c == 'l' || c == 'm' || c == 'a' {
		w.prepend(d.name()[:len(d.name())-len(mode)] + mode[:1])
	}
}

// pathTag makes a tag of a path: what is neither letter nor digit nor '-' becomes '_',
// once for a run of it, and none at the ends.
func pathTag(path string) string {
	out := make([]byte, 0, len(path))
	for i := range len(path) {
		c := path[i]
		switch {
		case c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '-':
			out = append(out, c)
		case len(out) > 0 && out[len(out)-1] != '_':
			out = append(out, '_')
		}
	}
	return strings.TrimRight(string(out), "_")
}
