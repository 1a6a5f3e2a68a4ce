package identity

import "strings"

// sound: the control device of a card stands for the card. The card itself has no node;
// what it is, sound servers want to know of it.
func (s *subject) sound() {
	name := s.e.Sysname()
	switch {
	case hasDigitAfter(name, "controlC"):
		s.usbID()
		s.linkUSB("snd/by-id", "")
		s.pathID(s.dev)
		s.linkPaths("snd/by-path", "")
	case isNumbered(name, "card"):
		s.soundCard(trailingNumber(name))
	}
}

// usbName returns BUS-SERIAL of a device, or "" where it has none of both.
func (s *subject) usbName() string {
	bus, serial := s.id.Get("ID_BUS"), s.id.Get("ID_SERIAL")
	if bus == "" || serial == "" {
		return ""
	}
	return bus + "-" + serial
}

// linkUSB links a device by its serial number and the interface that it is.
func (s *subject) linkUSB(directory, infix string) {
	name := s.usbName()
	if name == "" {
		return
	}
	if n := s.id.Get("ID_USB_INTERFACE_NUM"); n != "" {
		name += "-" + infix + n
	}
	s.link(directory, name)
}

// soundCard: a card is of use once its control device is there. Sound servers wait for
// SOUND_INITIALIZED.
func (s *subject) soundCard(n string) {
	if s.e.Action != "change" && !s.dev.has("controlC"+n) {
		return
	}
	s.set("SOUND_INITIALIZED", "1")
	s.usbID()
	onUSB := s.usbDone && s.id.Get("ID_BUS") != ""
	pci := s.pciAbove()
	switch {
	case onUSB:
	case pci != nil:
		s.setPCI(pci)
	case s.onBus("platform"):
		s.set("SOUND_FORM_FACTOR", "internal")
		return
	}
	if name := s.usbName(); name != "" {
		if n := s.id.Get("ID_USB_INTERFACE_NUM"); n != "" {
			name += "-" + n
		}
		s.set("ID_ID", name)
	}
	s.pathID(s.dev)
	if s.dev.value("pcmC"+n+"D0p/pcm_class") == "modem" {
		s.set("SOUND_CLASS", "modem")
		return
	}
	s.setUnlessEmpty("SOUND_FORM_FACTOR", s.formFactor(pci, onUSB))
}

// formFactor guesses where sound comes out, as udev's rules do: by the model's name.
func (s *subject) formFactor(pci *dir, onUSB bool) string {
	if pci != nil && strings.HasPrefix(pci.name(), "0000:00:") && strings.HasPrefix(s.e.Devpath[len(pci.path):], "/sound/") {
		return "internal"
	}
	if onUSB && strings.Contains(s.id.Get("ID_USB_INTERFACES"), ":0e") {
		return "webcam"
	}
	model := s.id.Get("ID_MODEL")
	for _, form := range [...]string{"speaker", "headphone", "headset", "handset", "microphone"} {
		if strings.Contains(model, form) || strings.Contains(model, string(form[0]-'a'+'A')+form[1:]) {
			return form
		}
	}
	return ""
}

// pciAbove returns the PCI device that the device hangs at, or nil.
func (s *subject) pciAbove() *dir {
	if !s.onBus("pci") {
		return nil
	}
	return s.dev.within("pci")
}

// setPCI says which make of PCI device it is.
func (s *subject) setPCI(pci *dir) {
	s.set("ID_BUS", "pci")
	s.setUnlessEmpty("ID_VENDOR_ID", substituted(pci.value("vendor")))
	s.setUnlessEmpty("ID_MODEL_ID", substituted(pci.value("device")))
}

// serial is for ttys at USB and PCI. Those of the machine itself keep their names.
func (s *subject) serial() {
	if !s.onBus("usb") && !s.onBus("pci") {
		return
	}
	s.usbID()
	if s.id.Get("ID_BUS") == "" {
		if pci := s.pciAbove(); pci != nil {
			s.setPCI(pci)
		}
	}
	name := s.e.Sysname()
	if !hasDigitAfter(name, "ttyUSB") && !hasDigitAfter(name, "ttyACM") {
		return
	}
	port := ""
	if converter := s.dev.above("usb-serial"); converter != nil {
		if n := converter.value("port_number"); n != "" {
			port = "-port" + substituted(n)
		}
	}
	s.pathID(s.dev)
	s.linkPaths("serial/by-path", port)
	if id, n := s.usbName(), s.id.Get("ID_USB_INTERFACE_NUM"); id != "" && n != "" {
		s.link("serial/by-id", id+"-if"+n+port)
	}
}

// video is for cameras and tuners. Several nodes of one are told apart by their index.
func (s *subject) video() {
	if s.e.Dev.IsZero() {
		return
	}
	name := s.e.Sysname()
	s.usbID()
	index := substituted(s.dev.value("index"))
	isVideo := strings.HasPrefix(name, "video")
	if id := s.usbName(); id != "" && isVideo {
		s.link("v4l/by-id", id+"-video-index"+index)
	}
	if index == "" {
		return
	}
	s.pathID(s.dev)
	switch {
	case isVideo, strings.HasPrefix(name, "vbi"):
		s.linkPaths("v4l/by-path", "-video-index"+index)
	case strings.HasPrefix(name, "audio"):
		s.linkPaths("v4l/by-path", "-audio-index"+index)
	}
}

func (s *subject) drm() {
	if !s.onBus("pci") && !s.onBus("usb") && !s.onBus("platform") {
		return
	}
	s.pathID(s.dev)
	if s.e.Dev.IsZero() {
		return // a connector: card0-HDMI-A-1
	}
	for _, kind := range [...]struct{ prefix, suffix string }{
		{"card", "-card"}, {"controlD", "-control"}, {"renderD", "-render"},
	} {
		if strings.HasPrefix(s.e.Sysname(), kind.prefix) {
			s.linkPaths("dri/by-path", kind.suffix)
		}
	}
}

func (s *subject) media() {
	if s.e.Dev.IsZero() {
		return
	}
	s.pathID(s.dev)
	if strings.HasPrefix(s.e.Sysname(), "media") {
		s.linkPaths("media/by-path", "-media-controller")
	}
}

func (s *subject) gpio() {
	if !hasDigitAfter(s.e.Sysname(), "gpiochip") {
		return
	}
	s.pathID(s.dev)
	s.linkPaths("gpio/by-path", "")
	s.usbID()
	if id, n := s.usbName(), s.id.Get("ID_USB_INTERFACE_NUM"); id != "" && n != "" {
		s.link("gpio/by-id", id+"-if"+n)
	}
}

// hidraw is for devices such as security keys, below input beside what they are else.
func (s *subject) hidraw() {
	if !s.onBus("usb") {
		return
	}
	s.usbID()
	s.pathID(s.dev)
	if id := s.usbName(); id != "" {
		if n := s.id.Get("ID_USB_INTERFACE_NUM"); n != "" && n != "00" {
			id += "-if" + n
		}
		s.link("input/by-id", id+"-hidraw")
	}
	s.linkPaths("input/by-path", "-hidraw")
}

// rtc: the clock that the kernel took the time from at boot, else the first.
func (s *subject) rtc() {
	isFirst := s.e.Sysname() == "rtc0"
	if isFirst || s.dev.value("hctosys") == "1" {
		s.link("", "rtc")
	}
	if isFirst {
		s.priority = -100
	}
}

// ptp: the clocks of hypervisors, which programs look for by name.
func (s *subject) ptp() {
	switch s.dev.value("clock_name") {
	case "KVM virtual PTP":
		s.link("", "ptp_kvm")
	case "hyperv":
		s.link("", "ptp_hyperv")
	}
}

// mtd: the read-only twin of a device (mtd0ro) has the same name, and does not get it.
func (s *subject) mtd() {
	if isNumbered(s.e.Sysname(), "mtd") {
		s.link("mtd/by-name", substituted(s.dev.value("name")))
	}
}

func (s *subject) virtioPort() {
	if strings.HasPrefix(s.e.Sysname(), "vport") {
		s.link("virtio-ports", substituted(s.dev.value("name")))
	}
}

func (s *subject) infiniband() {
	if !strings.HasPrefix(s.e.Sysname(), "uverbs") {
		return
	}
	s.pathID(s.dev)
	if s.path != "" {
		s.link("infiniband/by-path", s.path)
	}
	if device := substituted(s.dev.value("ibdev")); device != "" {
		s.link("infiniband/by-ibdev", "uverbs-"+device)
	}
}

// tape is for the nodes of a drive: st0 rewinds when it is closed, nst0 does not.
func (s *subject) tape() {
	name := s.e.Sysname()
	rest, suffix := name, ""
	if strings.HasPrefix(name, "n") {
		rest, suffix = name[1:], "-nst"
	}
	if !hasDigitAfter(rest, "st") || trailingNumber(name) == "" {
		return
	}
	s.usbID()
	if scsi := s.scsiDevice(s.dev); scsi != nil && s.id.Get("ID_SERIAL") == "" {
		s.scsiID(scsi, "scsi")
	}
	s.linkTape(suffix)
	s.pathID(s.dev)
	s.linkPaths("tape/by-path", suffix)
	if suffix == "" {
		s.priority = 10
	}
}

// linkTape links by the serial numbers of the drive.
func (s *subject) linkTape(suffix string) {
	if id := s.usbName(); id != "" {
		s.link("tape/by-id", id+suffix)
	}
	if serial := s.id.Get("ID_SCSI_SERIAL"); serial != "" {
		s.link("tape/by-id", s.id.Get("ID_BUS")+"-"+serial+suffix)
	}
}

// changer is for the robots of tape libraries, of SCSI's type 8, which have a generic
// node alone.
func (s *subject) changer() {
	scsi := s.scsiDevice(s.dev)
	if scsi == nil || scsi.value("type") != "8" {
		return
	}
	s.scsiID(scsi, "scsi")
	s.linkTape("")
	if id := s.usbName(); id != "" {
		s.link("tape/by-id", id+"-changer")
	}
	s.pathID(s.dev)
	s.linkPaths("tape/by-path", "-changer")
}
