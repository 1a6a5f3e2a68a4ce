package identity

import "strings"

// usb is for the devices and interfaces on the bus themselves.
func (s *subject) usb() {
	if s.devtype == "usb_device" {
		s.usbID()
	}
	s.pathID(s.dev)
}

// usbTypes are the values of ID_TYPE by an interface's class.
var usbTypes = [...]struct{ class, name string }{
	{"01", "audio"}, {"03", "hid"}, {"06", "media"}, {"07", "printer"}, {"09", "hub"}, {"0e", "video"},
}

// The values of ID_TYPE by an interface's subclass, for class 08 (storage): what set of
// commands the disk takes.
var usbStorageTypes = [...]struct{ subclass, name string }{
	{"01", "rbc"}, {"02", "atapi"}, {"03", "tape"}, {"04", "floppy"}, {"06", "scsi"},
}

// usbDescription is what usbID finds, for ID_* and for ID_USB_*.
type usbDescription struct {
	model, modelText, modelID    string
	vendor, vendorText, vendorID string
	serial, revision, kind       string
	instance                     string // which of several disks that one device is
}

// usbID describes a device by the USB device that it is, or is an interface of. Where
// other properties than USB's tell of it already (ID_BUS), only ID_USB_* are added.
func (s *subject) usbID() {
	if s.usbDone || !s.onBus("usb") {
		return
	}
	s.usbDone = true
	device, iface := s.dev, (*dir)(nil)
	u := usbDescription{}
	if s.devtype != "usb_device" {
		if iface = s.usbAbove(s.dev, true); iface == nil {
			return
		}
		if device = s.usbAbove(iface, false); device == nil {
			return
		}
		if !s.describeInterface(&u, iface) {
			return
		}
	}
	var hasVendor, hasModel bool
	u.vendorID, hasVendor = device.attr("idVendor")
	u.modelID, hasModel = device.attr("idProduct")
	if !hasVendor || !hasModel {
		return
	}
	if u.vendor == "" {
		u.vendorText = valueOr(device, "manufacturer", u.vendorID)
		u.vendor = word(u.vendorText, 63)
	}
	if u.model == "" {
		u.modelText = valueOr(device, "product", u.modelID)
		u.model = word(u.modelText, 63)
	}
	if u.revision == "" {
		u.revision = word(device.value("bcdDevice"), 63)
	}
	if serial := device.value("serial"); isUSBSerial(serial) {
		u.serial = word(serial, 511)
	}
	if s.id.Get("ID_BUS") == "" {
		s.set("ID_BUS", "usb")
		s.describe("ID_", &u)
	}
	s.describe("ID_USB_", &u)
	s.setUnlessEmpty("ID_USB_INTERFACES", usbInterfaces(device.bytes("descriptors", 18+4096)))
	if iface != nil {
		s.setUnlessEmpty("ID_USB_INTERFACE_NUM", iface.value("bInterfaceNumber"))
		s.setUnlessEmpty("ID_USB_DRIVER", iface.linked("driver"))
	}
}

// usbAbove returns the next USB interface or device above. Only an interface's name has a
// colon: 1-2:1.0.
func (s *subject) usbAbove(d *dir, isInterface bool) *dir {
	for d = d.up; d != nil; d = d.up {
		if strings.Contains(d.name(), ":") == isInterface && d.readSubsystem() == "usb" {
			return d
		}
	}
	return nil
}

func valueOr(d *dir, name, other string) string {
	if value, there := d.attr(name); there {
		return value
	}
	return other
}

// isUSBSerial reports whether a serial number holds no more than it may. A wrong one is
// none: devices of one make often share it.
func isUSBSerial(serial string) bool {
	for i := range len(serial) {
		if c := serial[i]; c < 0x20 || c > 0x7f || c == ',' {
			return false
		}
	}
	return true
}

// describeInterface finds what kind of thing it is. A disk tells more of itself by SCSI.
func (s *subject) describeInterface(u *usbDescription, iface *dir) bool {
	class, there := iface.attr("bInterfaceClass")
	if !there {
		return false
	}
	u.kind = "generic"
	if class != "08" {
		for i := range usbTypes {
			if usbTypes[i].class == class {
				u.kind = usbTypes[i].name
			}
		}
		return true
	}
	subclass := iface.value("bInterfaceSubClass")
	for i := range usbStorageTypes {
		if usbStorageTypes[i].subclass == subclass {
			u.kind = usbStorageTypes[i].name
		}
	}
	if subclass != "06" && subclass != "02" {
		return true
	}
	scsi := s.scsiDevice(s.dev)
	if scsi == nil {
		return true
	}
	q := readInquiry(scsi)
	u.vendorText, u.vendor = q.vendorText, q.vendor
	u.modelText, u.model = q.modelText, q.model
	u.revision, u.kind = q.revision, q.kind
	a, _ := parseSCSI(scsi.name())
	u.instance = a.target + ":" + a.lun
	return true
}

// describe sets the properties that exist with both prefixes.
func (s *subject) describe(prefix string, u *usbDescription) {
	id := u.vendor + "_" + u.model
	if u.serial != "" {
		id += "_" + u.serial
	}
	if u.instance != "" {
		id += "-" + u.instance
	}
	s.set(prefix+"MODEL", u.model)
	s.set(prefix+"MODEL_ENC", encode(u.modelText))
	s.set(prefix+"MODEL_ID", u.modelID)
	s.set(prefix+"SERIAL", id[:min(len(id), 255)])
	s.setUnlessEmpty(prefix+"SERIAL_SHORT", u.serial)
	s.set(prefix+"VENDOR", u.vendor)
	s.set(prefix+"VENDOR_ENC", encode(u.vendorText))
	s.set(prefix+"VENDOR_ID", u.vendorID)
	s.set(prefix+"REVISION", u.revision)
	s.setUnlessEmpty(prefix+"TYPE", u.kind)
	s.setUnlessEmpty(prefix+"INSTANCE", u.instance)
}

// Offsets in a descriptor of USB (USB 2.0, 9.6), and the type of an interface's.
const (
	descriptorLength   = 0
	descriptorType     = 1
	interfaceClass     = 5
	interfaceEnd       = 9
	interfaceType      = 4
	shortestDescriptor = 3
)

// maxInterfaces bounds how many kinds of interfaces ID_USB_INTERFACES lists.
const maxInterfaces = 72

// usbInterfaces lists the classes of all interfaces in the descriptors of a device, each
// once: ":080650:".
func usbInterfaces(descriptors string) string {
	if len(descriptors) < 18 {
		return ""
	}
	var list []byte
	for rest := descriptors; len(rest) > interfaceEnd && len(list) < 7*maxInterfaces; {
		length := int(rest[descriptorLength])
		if length < shortestDescriptor || length > len(rest) {
			break
		}
		if rest[descriptorType] == interfaceType {
			kind := appendHex([]byte{':'}, rest[interfaceClass:interfaceClass+3])
			if !strings.Contains(string(list), string(kind)) {
				list = append(list, kind...)
			}
		}
		rest = rest[length:]
	}
	if len(list) == 0 {
		return ""
	}
	return string(list) + ":"
}
