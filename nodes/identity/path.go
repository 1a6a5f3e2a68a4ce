package identity

import "strings"

// pathParts tells what devices of a subsystem add to ID_PATH: their own name or, with "#",
// the number at its end, behind the text that follows the subsystem and a blank; "T" for what
// tells devices behind one controller apart, "P" for a controller, "-" for nothing.
const pathParts = `
acpi acpi- P
amba amba- TP
ccw ccw- TP
ccwgroup ccwgroup- TP
iucv iucv- TP
pci pci- P
platform platform- TP
scm scm- TP
serio serio- #
spi cs- #
virtio  T-
xen xen- P
`

// pathWalk makes ID_PATH: what lies between a device and the root of the machine, as far
// as it stays the same from boot to boot.
type pathWalk struct {
	path, compat string // compat: with the name that ATA disks had once
	transport    bool   // a T was seen
	parent       bool   // a P was seen
}

// prepend puts a part in front, since the walk goes from the device up and the path is read
// from the root down.
func (w *pathWalk) prepend(part string) {
	if w.path != "" {
		part += "-"
	}
	w.path = part + w.path
	if w.compat != "" {
		w.compat = part + w.compat
	}
}

// pathID finds ID_PATH.
func (s *subject) pathID() {
	// A disk of NVMe with multipath is virtual too, but leads to hardware: see nvme.
	if isVirtual(s.e) && !strings.Contains(s.e.Devpath, "/nvme-subsystem/") {
		return
	}
	w := &pathWalk{}
	for d := s.base; d != nil; d = d.up {
		if d = w.step(s.base, d); d == nil {
			break
		}
	}
	// Without a known parent two devices could have one path.
	if w.path == "" || !w.parent || s.base.readSubsystem() == "block" && !w.transport {
		return
	}
	// ID_PATH goes without the revision, as links had it before there was one.
	if before, after, found := strings.Cut(w.path, "usbv"); found {
		s.set("ID_PATH_WITH_USB_REVISION", w.path)
		w.path = before + "usb" + after[1:]
	}
	s.setAll("ID_PATH", " _TAG _ATA_COMPAT", []string{w.path, pathTag(w.path), w.compat})
}

// step adds what one device contributes, and returns where to go on above; nil for
// nowhere.
func (w *pathWalk) step(dev, d *dir) *dir {
	subsystem := d.readSubsystem()
	switch subsystem {
	case "scsi":
		w.transport = true
		return w.scsi(d)
	case "usb":
		w.transport = true
		return w.usb(d)
	case "nvme", "nvme-subsystem":
		return w.nvme(dev, d, subsystem)
	}
	_, line, found := strings.Cut(pathParts, "\n"+subsystem+" ")
	if !found || subsystem == "" {
		return d
	}
	line, _, _ = strings.Cut(line, "\n")
	before, kind, _ := strings.Cut(line, " ")
	part := d.name()
	if kind == "#" {
		part = trailingNumber(part)
	}
	if kind[len(kind)-1] != '-' {
		w.prepend(before + part)
	}
	w.transport = w.transport || kind[0] == 'T'
	w.parent = w.parent || kind[len(kind)-1] == 'P'
	// Those of the same subsystem right above add nothing: of a row of PCI devices the lowest one counts.
	return d.top()
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

// usbRevision returns v1, v2 or v3 for a root hub, or "" where it does not say.
func usbRevision(root *dir) string {
	// What hubs have there (USB 2.0, 11.23.1, and for 03 USB 3). Some root hubs of high speed
	// have 0, so the speed decides.
	switch root.value("bDeviceProtocol") {
	case "00":
		if root.value("speed") != "480" {
			return "v1"
		}
		return "v2"
	case "01", "02":
		return "v2"
	case "03":
		return "v3"
	}
	return ""
}

// nvme: the number of the namespace tells apart what lies behind one controller.
func (w *pathWalk) nvme(dev, d *dir, subsystem string) *dir {
	nsid := dev.value("nsid")
	if nsid == "" {
		return d
	}
	w.prepend("nvme-" + nsid)
	if subsystem == "nvme" {
		w.transport, w.parent = true, true
		return d.top()
	}
	// With multipath the namespace lies below the subsystem, which is virtual; the
	// controller that it was named after (nvme0n1: nvme0) is not.
	name := dev.name()
	controller := name[:max(0, strings.LastIndexByte(name, 'n'))]
	d.s.reads++
	path, err := d.s.p.Sys.Find("/class/nvme/"+controller, noNodes)
	if err != nil || strings.Contains(path, "/virtual/") {
		return nil // a namespace has this number on every machine: as for udevd there is no path
	}
	w.transport, w.parent = true, true
	return d.s.dirs(path)
}

// scsiParts are the parts of a SCSI device by its transport, which is known by what its
// path in sysfs holds: the first whose template is filled, of those after the mark. Behind the
// template, "P" is as in pathParts. {.LUN}, {.BUS} and {.TARGET} are of its address.
const scsiParts = ` ieee1394-0x{ieee1394_id} P
/rport- fc-{target>fc_transport/*/port_name}-{.LUN} P
/expander- sas-exp{expander->sas_device/*/sas_address}-phy{.PHY}-{.LUN} P
/end_device- sas-phy{.PHY}-{.LUN} P
/end_device- sas-{end_device->sas_device/*/sas_address}-{.LUN} P
/session ip-{session>connection#:0/iscsi_connection/connection#:0/persistent_address}:` +
	`{session>connection#:0/iscsi_connection/connection#:0/persistent_port}-iscsi-{session>iscsi_session/*/targetname}-{.LUN} P
/ata ata-{ata>ata_port/*/port_no}.{.PLACE} A
/vmbus_ vmbus-{.GUID}-{.LUN} -
/VMBUS vmbus-{.GUID}-{.LUN} -
`

// scsi adds what a disk's transport says of it. Where the transport is known and says too
// little, there is no path: one that is not unique is worse than none.
func (w *pathWalk) scsi(d *dir) *dir {
	s := d.s
	a := parseSCSI(d.name())
	if a == nil {
		return d
	}
	s.at = d
	s.set(".LUN", lunPart(a[3]))
	s.set(".PLACE", a[2])
	if a[1] != "0" { // behind a port multiplier
		s.set(".PLACE", a[1]+".0")
	}
	known := false
	for rest := scsiParts; rest != ""; {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		mark, line, _ := strings.Cut(line, " ")
		if !strings.Contains(d.path, mark) {
			continue
		}
		known = known || mark != ""
		template, kind, _ := strings.Cut(line, " ")
		switch {
		case strings.Contains(template, "{.PHY}"):
			// A device at a port of one line is named by the line; at a port of several by
			// its own address.
			if s.value("port->sas_port/*/num_phys") != "1" {
				continue
			}
			s.set(".PHY", s.value("end_device->sas_device/*/phy_identifier"))
		case strings.Contains(template, "{.GUID}"):
			if guid := s.guidAbove(d); guid == "" {
				continue
			} else {
				s.set(".GUID", guid)
			}
		}
		part, ok := s.expand(template, false)
		if !ok {
			continue
		}
		if kind == "A" {
			w.compat = w.path
			w.prepend(part)
			w.compat = part[:strings.IndexByte(part, '.')]
		} else {
			w.prepend(part)
		}
		w.parent = w.parent || kind == "P"
		return d
	}
	if known {
		return nil
	}
	return w.scsiHost(d, a)
}

// guidAbove returns the GUID of a virtual controller of Hyper-V.
func (s *subject) guidAbove(d *dir) string {
	if d = d.near("host"); d == nil || d.up == nil {
		return ""
	}
	guid := d.up.value("device_id")
	return strings.ReplaceAll(strings.Trim(guid, "{}"), "-", "")
}

// scsiHost: the numbers of hosts run through the machine; what counts is the place among
// those of one controller.
func (w *pathWalk) scsiHost(d *dir, a []string) *dir {
	host := d.near("host")
	if host == nil || host.up == nil {
		return nil
	}
	own, _ := number(a[0], 10)
	lowest := own
	for _, name := range host.up.list() {
		if digits, is := strings.CutPrefix(name, "host"); is {
			if n, ok := number(digits, 10); ok && n < lowest {
				lowest = n
			}
		}
	}
	w.prepend("scsi-" + decimal(own-lowest) + ":" + a[1] + ":" + a[2] + ":" + a[3])
	return host
}

// parseSCSI takes the kernel's name for a SCSI device apart: host:bus:target:lun. It
// returns nil for the name of anything else.
func parseSCSI(name string) []string {
	parts := strings.Split(name, ":")
	if len(parts) != 4 {
		return nil
	}
	for _, part := range parts {
		if part == "" || trailingNumber(part) != part {
			return nil
		}
	}
	return parts
}

// lunPart names a logical unit as the T10 standards write it.
func lunPart(lun string) string {
	n, _ := number(lun, 10)
	if n < 256 {
		return "lun-" + decimal(n)
	}
	return "lun-0x" + hex4(n) + hex4(n>>16) + "00000000"
}

// pathTag makes a tag of a path: what is neither letter nor digit nor '-' becomes '_',
// once for a run of it, and none at the ends.
func pathTag(path string) string {
	out := make([]byte, 0, len(path))
	for i := range len(path) {
		c := path[i]
		switch {
		case isAlphanumeric(c) || c == '-':
			out = append(out, c)
		case len(out) > 0 && out[len(out)-1] != '_':
			out = append(out, '_')
		}
	}
	return strings.TrimRight(string(out), "_")
}
