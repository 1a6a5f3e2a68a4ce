package identity

import "strings"

// scsiAddress is what the kernel names a SCSI device by: host:bus:target:lun.
type scsiAddress struct{ host, bus, target, lun string }

func parseSCSI(name string) (a scsiAddress, ok bool) {
	parts := strings.SplitN(name, ":", 5)
	if len(parts) != 4 {
		return a, false
	}
	for _, part := range parts {
		if part == "" || trailingNumber(part) != part {
			return a, false
		}
	}
	return scsiAddress{parts[0], parts[1], parts[2], parts[3]}, true
}

// isSCSIDevice tells a device from a host or a target, by its name.
func isSCSIDevice(d *dir) bool {
	_, ok := parseSCSI(d.name())
	return ok
}

// scsiTransports tells what finds the part of a SCSI device, by what its path in sysfs
// holds: the transports have no subsystem there.
var scsiTransports = [...]struct {
	mark   string
	parent bool // the part says all, whatever lies above
	part   func(d *dir, a scsiAddress) (part string)
}{
	{"/rport-", true, fibreChannelPart},
	{"/end_device-", true, sasPart},
	{"/session", true, iscsiPart},
	{"/ata", false, ataPart},
	{"/vmbus_", false, vmbusPart},
	{"/VMBUS", false, vmbusPart},
}

func (w *pathWalk) scsi(d *dir) *dir {
	a, ok := parseSCSI(d.name())
	if !ok {
		return d
	}
	if id, there := d.attr("ieee1394_id"); there {
		w.prepend("ieee1394-0x" + id)
		w.parent = true
		return d.top()
	}
	for i := range scsiTransports {
		t := &scsiTransports[i]
		if !strings.Contains(d.path, t.mark) {
			continue
		}
		part := t.part(d, a)
		w.parent = w.parent || t.parent
		if part == "" {
			return nil
		}
		if t.mark == "/ata" {
			w.compat = join(part[:strings.IndexByte(part, '.')], w.path)
			w.path = join(part, w.path)
			return d
		}
		w.prepend(part)
		return d
	}
	return w.scsiHost(d, a)
}

// scsiHost: the numbers of hosts run through the machine; what counts is the place among
// those of one controller.
func (w *pathWalk) scsiHost(d *dir, a scsiAddress) *dir {
	host := scsiAbove(d, "host")
	if host == nil || host.up == nil {
		return nil
	}
	own, _ := number(a.host, 10)
	lowest := own
	for _, name := range host.up.list() {
		if digits, is := strings.CutPrefix(name, "host"); is {
			if n, ok := number(digits, 10); ok && n < lowest {
				lowest = n
			}
		}
	}
	w.prepend("scsi-" + decimal(own-lowest) + ":" + a.bus + ":" + a.target + ":" + a.lun)
	return host
}

// scsiAbove returns the SCSI host or target above a device.
func scsiAbove(d *dir, kind string) *dir {
	for d = d.up; d != nil; d = d.up {
		if hasDigitAfter(d.name(), kind) && d.readSubsystem() == "scsi" {
			return d
		}
	}
	return nil
}

// lunPart names a logical unit as the T10 standards write it.
func lunPart(a scsiAddress) string {
	n, _ := number(a.lun, 10)
	if n < 256 {
		return "lun-" + decimal(n)
	}
	return "lun-0x" + hex4(n) + hex4(n>>16) + "00000000"
}

// hex4 writes the low 16 bits as four digits.
func hex4(n uint64) string {
	return string([]byte{lowerHex[n>>12&15], lowerHex[n>>8&15], lowerHex[n>>4&15], lowerHex[n&15]})
}

func fibreChannelPart(d *dir, a scsiAddress) string {
	target := scsiAbove(d, "target")
	if target == nil {
		return ""
	}
	port, ok := d.s.class("fc_transport", target.name()).attr("port_name")
	if !ok {
		return ""
	}
	return "fc-" + port + "-" + lunPart(a)
}

// sasPart: a device at a port of one line is named by the line, of the host or of an
// expander; one at a port of several by its own address.
func sasPart(d *dir, a scsiAddress) string {
	target := scsiAbove(d, "target")
	if target == nil {
		return ""
	}
	end := target.parent()
	if end == nil {
		return ""
	}
	device := d.s.class("sas_device", end.name())
	port := end.parent()
	if port == nil {
		return ""
	}
	lines, ok := d.s.class("sas_port", port.name()).attr("num_phys")
	if !ok {
		return ""
	}
	if lines != "1" {
		address, ok := device.attr("sas_address")
		if !ok {
			return ""
		}
		return "sas-" + address + "-" + lunPart(a)
	}
	line, ok := device.attr("phy_identifier")
	above := port.parent()
	if !ok || above == nil {
		return ""
	}
	if address, is := d.s.class("sas_device", above.name()).attr("sas_address"); is {
		return "sas-exp" + address + "-phy" + line + "-" + lunPart(a)
	}
	return "sas-phy" + line + "-" + lunPart(a)
}

func iscsiPart(d *dir, a scsiAddress) string {
	session := d.up
	for session != nil && !strings.HasPrefix(session.name(), "session") {
		session = session.up
	}
	if session == nil {
		return ""
	}
	target, hasTarget := d.s.class("iscsi_session", session.name()).attr("targetname")
	connection := d.s.class("iscsi_connection", "connection"+trailingNumber(session.name())+":0")
	address, hasAddress := connection.attr("persistent_address")
	port, hasPort := connection.attr("persistent_port")
	if !hasTarget || !hasAddress || !hasPort {
		return ""
	}
	return "ip-" + address + ":" + port + "-iscsi-" + target + "-" + lunPart(a)
}

// ataPart: a bus other than 0 is a place at a port multiplier; else the target tells
// master and slave apart.
func ataPart(d *dir, a scsiAddress) string {
	host := scsiAbove(d, "host")
	if host == nil {
		return ""
	}
	port := host.parent()
	if port == nil {
		return ""
	}
	number, ok := d.s.class("ata_port", port.name()).attr("port_no")
	switch {
	case !ok || strings.Contains(number, "."):
		return ""
	case a.bus != "0":
		return "ata-" + number + "." + a.bus + ".0"
	}
	return "ata-" + number + "." + a.target
}

// vmbusPart: a virtual disk of Hyper-V, by the GUID of its controller.
func vmbusPart(d *dir, a scsiAddress) string {
	host := scsiAbove(d, "host")
	if host == nil {
		return ""
	}
	bus := host.parent()
	if bus == nil {
		return ""
	}
	guid := bus.value("device_id")
	if len(guid) < 37 || guid[0] != '{' || guid[len(guid)-1] != '}' {
		return ""
	}
	return "vmbus-" + strings.ReplaceAll(guid[1:len(guid)-1], "-", "") + "-" + lunPart(a)
}
