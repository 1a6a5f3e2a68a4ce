package identity

import (
	"strings"

	"devspool/hotplug/uevent"
)

// usbTypes are the values of ID_TYPE by an interface's class, and for storage (08) by its
// subclass.
const usbTypes = " 01audio 03hid 06media 07printer 09hub 0evideo 0801rbc 0802atapi 0803tape 0804floppy 0806scsi "

// usbKeys are the properties that exist with ID_ and with ID_USB_ in front.
const usbKeys = "MODEL MODEL_ENC MODEL_ID SERIAL SERIAL_SHORT VENDOR VENDOR_ENC VENDOR_ID REVISION TYPE INSTANCE"

// asksUSB reports whether usbID is asked for a device, and may have to wait. The kernel has the
// strings of a USB device read only with the device locked (usb_string_attr in
// drivers/usb/core/sysfs.c). A hub is, for as long as the devices at its ports are being set
// up; another one is while a driver that was found for it talks with it.
func asksUSB(e *uevent.Event) bool {
	if section(e) == "" || !strings.Contains(e.Devpath, "/usb") {
		return false
	}
	devtype, _ := e.Get("DEVTYPE")
	return e.Subsystem != "usb" || devtype == "usb_device"
}

// ofUSB reads a string of a USB device, see asksUSB.
func (d *dir) ofUSB(name string) (value string, there bool) {
	if d.s.depth == noWait {
		return "", false
	}
	return d.attr(name)
}

// usbID describes a device by the USB device that it is, or is an interface of. Where
// other properties than USB's tell of it already (ID_BUS), only ID_USB_* are added.
func (s *subject) usbID() {
	if s.usbDone || !strings.Contains(s.e.Devpath, "/usb") {
		return
	}
	s.usbDone = true
	device, iface := s.dev, (*dir)(nil)
	var kind, instance string
	var q inquiry
	if devtype, _ := s.e.Get("DEVTYPE"); devtype != "usb_device" {
		if iface = s.dev.usbAbove(true); iface == nil {
			return
		}
		if device = iface.usbAbove(false); device == nil {
			return
		}
		class := iface.value("bInterfaceClass")
		if class == "08" {
			class += iface.value("bInterfaceSubClass")
		}
		kind = usbType(class)
		// A disk tells more of itself by SCSI.
		if class == "0806" || class == "0802" {
			if scsi := s.scsiDevice(); scsi != nil {
				q = readInquiry(scsi)
				kind = q.kind
				// Slots of a card reader are units of one device, with one serial number.
				a := parseSCSI(scsi.name())
				instance = a[2] + ":" + a[3]
			}
		}
	}
	vendorID, modelID := device.value("idVendor"), device.value("idProduct")
	if vendorID == "" || modelID == "" {
		return
	}
	vendor, vendorText := describe(q.vendor, device, "manufacturer", vendorID)
	model, modelText := describe(q.model, device, "product", modelID)
	revision, _ := describe(q.revision, device, "bcdDevice", "")
	serial := ""
	if text, _ := device.ofUSB("serial"); isUSBSerial(text) {
		serial = word(text, 511)
	}
	id := vendor + "_" + model
	if serial != "" {
		id += "_" + serial
	}
	if instance != "" {
		id += "-" + instance
	}
	values := []string{model, encode(modelText), modelID, id[:min(len(id), 255)], serial,
		vendor, encode(vendorText), vendorID, revision, kind, instance}
	if s.id.Get("ID_BUS") == "" {
		s.set("ID_BUS", "usb")
		s.setAll("ID_", usbKeys, values)
	}
	s.setAll("ID_USB_", usbKeys, values)
	s.setAll("ID_USB_", "INTERFACES", []string{usbInterfaces(device.bytes("descriptors", 18+4096))})
	if iface != nil {
		s.setAll("ID_USB_", "INTERFACE_NUM DRIVER", []string{iface.value("bInterfaceNumber"), iface.linked("driver")})
	}
}

// usbAbove returns the next USB interface or device above. Only an interface's name has a
// colon: 1-2:1.0.
func (d *dir) usbAbove(isInterface bool) *dir {
	for d = d.up; d != nil; d = d.up {
		if (strings.IndexByte(d.name(), ':') >= 0) == isInterface && d.readSubsystem() == "usb" {
			return d
		}
	}
	return nil
}

// usbType returns what a class, with its subclass for storage, is called in ID_TYPE.
func usbType(class string) string {
	if _, rest, found := strings.Cut(usbTypes, " "+class); found && len(class) >= 2 {
		rest, _, _ = strings.Cut(rest, " ")
		if !isDigit(rest[0]) {
			return rest
		}
	}
	return "generic"
}

// describe returns what SCSI says of a device or, where it says nothing, an attribute of
// the USB device, or else what is given: as a word, and as it is.
func describe(bySCSI string, device *dir, name, other string) (asWord, text string) {
	if text = bySCSI; text == "" {
		var there bool
		if text, there = device.ofUSB(name); !there {
			text = other
		}
	}
	return word(text, 63), text
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

// Offsets in a descriptor of USB (USB 2.0, 9.6), and the type of an interface's.
const (
	descriptorLength   = 0
	descriptorType     = 1
	interfaceClass     = 5
	interfaceEnd       = 9 // the length of an interface's
	interfaceType      = 4 // what descriptorType holds for an interface
	shortestDescriptor = 3
)

// maxInterfaces bounds how many kinds of interfaces ID_USB_INTERFACES lists.
const maxInterfaces = 72

// usbInterfaces lists the classes of all interfaces in the descriptors of a device, each
// once: ":080650:".
func usbInterfaces(descriptors string) string {
	list := ""
	// 18 bytes is the device's own descriptor; the others follow it, each with its length in
	// front.
	for rest := descriptors; len(descriptors) >= 18 && len(rest) > interfaceEnd && len(list) < 7*maxInterfaces; {
		length := int(rest[descriptorLength])
		if length < shortestDescriptor || length > len(rest) {
			break
		}
		if rest[descriptorType] == interfaceType {
			if kind := ":" + hexText(rest[interfaceClass:interfaceClass+3]); !strings.Contains(list, kind) {
				list += kind
			}
		}
		rest = rest[length:]
	}
	if list != "" {
		list += ":"
	}
	return list
}
