package identity

import (
	"strings"
)

// namingScheme says which of systemd's schemes the names of interfaces follow: another
// one may give other names (systemd.net-naming-scheme(7)).
const namingScheme = "v252"

// Types of hardware of linux/if_arp.h.
const (
	arpEthernet   = 1
	arpInfiniband = 32
	arpSLIP       = 256
)

// maxInterfaceName is how long in bytes an alternative name of an interface may be.
const maxInterfaceName = 127

// net finds the names that an interface could be given. It gives it none.
func (s *subject) net() {
	s.pathID(s.dev)
	if driver := (&dir{s: s, path: s.dev.path + "/device"}); !s.isVirtual() {
		s.setUnlessEmpty("ID_NET_DRIVER", driver.linked("driver"))
	}
	s.nameInterface()
	if s.onBus("usb") {
		s.usbID()
	}
	if s.id.Get("ID_USB_SERIAL") == "" {
		if pci := s.pciAbove(); pci != nil {
			s.setPCI(pci)
		}
	}
}

func (s *subject) nameInterface() {
	prefix := s.interfacePrefix()
	if prefix == "" {
		return
	}
	// A VLAN and its like stands on another interface, whose names they would be.
	index, _ := s.e.Get("IFINDEX")
	if s.dev.value("iflink") != index {
		return
	}
	s.set("ID_NET_NAMING_SCHEME", namingScheme)
	s.nameByMAC(prefix)
	if s.isVirtual() {
		return
	}
	s.nameByDevicetree(prefix)
	s.nameByPlace(prefix)
	if s.onBus("usb") {
		s.nameByUSB(prefix)
	}
	if core := s.dev.within("bcma"); s.onBus("pci") && core != nil {
		if pci := core.above("pci"); pci != nil {
			_, number, _ := strings.Cut(core.name(), ":")
			s.nameByPCI(prefix, pci, specifier("b", number, "0"))
		}
	}
}

// interfacePrefix returns what names of such interfaces begin with, or "" where they have
// none.
func (s *subject) interfacePrefix() string {
	kind, _ := s.dev.unsigned("type")
	switch {
	case kind == arpInfiniband:
		return "ib"
	case kind == arpSLIP:
		return "sl"
	case kind != arpEthernet:
		return ""
	case s.devtype == "wlan":
		return "wl"
	case s.devtype == "wwan":
		return "ww"
	}
	return "en"
}

// setName sets a name unless it is too long.
func (s *subject) setName(key, name string) {
	if len(name) <= maxInterfaceName {
		s.set(key, name)
	}
}

// specifier is a part of a name, left out where it is the usual one.
func specifier(letter, number, usual string) string {
	if number == "" || number == usual {
		return ""
	}
	return letter + number
}

// nameByMAC: by the address that was burnt in, and by no other.
func (s *subject) nameByMAC(prefix string) {
	if origin, ok := s.dev.unsigned("addr_assign_type"); !ok || origin != 0 || prefix == "ib" {
		return
	}
	address := s.dev.value("address")
	digits := strings.ReplaceAll(address, ":", "")
	if len(address) != 17 || len(digits) != 12 {
		return
	}
	s.setName("ID_NET_NAME_MAC", prefix+"x"+digits)
}

// nameByDevicetree: boards number their interfaces by aliases.
func (s *subject) nameByDevicetree(prefix string) {
	if prefix != "en" {
		return
	}
	parent := s.dev.parent()
	if parent == nil || !parent.has("of_node") {
		return
	}
	s.reads++
	node, err := s.p.Sys.Find(parent.path+"/of_node", nodes)
	const base = "/firmware/devicetree/base"
	path, below := strings.CutPrefix(node, base)
	if err != nil || !below {
		return
	}
	aliases := &dir{s: s, path: base + "/aliases"}
	for _, alias := range aliases.list() {
		index, is := strings.CutPrefix(alias, "ethernet")
		if !is || aliases.value(alias) != path {
			continue
		}
		other := "ethernet"
		if index == "" {
			index, other = "0", "ethernet0"
		}
		if n, ok := number(index, 10); ok && !(n == 0 && aliases.has(other)) {
			s.setName("ID_NET_NAME_ONBOARD", prefix+"d"+decimal(n))
		}
		return
	}
}

// nameByPlace names an interface by the bus that it hangs at without another between:
// virtio does not count as one.
func (s *subject) nameByPlace(prefix string) {
	parent := s.dev.parent()
	if parent == nil {
		return
	}
	direct := parent.readSubsystem()
	for parent != nil && parent.readSubsystem() == "virtio" {
		parent = parent.parent()
	}
	if parent == nil {
		return
	}
	switch parent.readSubsystem() {
	case "pci":
		suffix := ""
		if physical, n := s.physicalFunction(parent); physical != nil {
			parent, suffix = physical, "v"+n
		} else if label, there := parent.attr("label"); there {
			s.setName("ID_NET_LABEL_ONBOARD", label)
		}
		s.nameOnboard(prefix, parent, suffix)
		s.nameByPCI(prefix, parent, suffix)
	case "ccw", "ccwgroup":
		if bus := parent.name(); len(bus) == 8 || len(bus) == 9 {
			number := strings.TrimLeft(bus, ".0")
			if number == "" {
				number = bus[len(bus)-1:]
			}
			s.setName("ID_NET_NAME_PATH", prefix+"c"+number)
		}
	}
	switch direct {
	case "vio":
		s.nameVIO(prefix)
	case "platform":
		s.nameACPI(prefix)
	case "xen":
		if n, is := strings.CutPrefix(firstPart(s.e.Devpath, "/devices/"), "vif-"); is && trailingNumber(n) == n && (n == "0" || !strings.HasPrefix(n, "0")) {
			s.setName("ID_NET_NAME_SLOT", prefix+"X"+n)
		}
	case "netdevsim":
		if port := s.dev.value("phys_port_name"); port != "" {
			s.setName("ID_NET_NAME_PATH", prefix+"i"+trailingNumber(parent.name())+"n"+port)
		}
	}
}

// firstPart returns the first directory below another one.
func firstPart(path, below string) string {
	rest, is := strings.CutPrefix(path, below)
	if !is {
		return ""
	}
	part, _, _ := strings.Cut(rest, "/")
	return part
}

// nameVIO: the last four digits of 30000002 are the slot that the hypervisor gave it.
func (s *subject) nameVIO(prefix string) {
	slot := firstPart(s.e.Devpath, "/devices/vio/")
	if len(slot) != 8 {
		return
	}
	if n, ok := number(slot, 16); ok {
		s.setName("ID_NET_NAME_SLOT", prefix+"v"+decimal(n&0xffff))
	}
}

// nameACPI: HISI00C2:00 is a maker of three or four letters, a model and an instance.
func (s *subject) nameACPI(prefix string) {
	id, instance, _ := strings.Cut(firstPart(s.e.Devpath, "/devices/platform/"), ":")
	if len(instance) != 2 || len(id) != 7 && len(id) != 8 {
		return
	}
	maker := id[:len(id)-4]
	for i := range len(maker) {
		isDigit := maker[i] >= '0' && maker[i] <= '9'
		if !(maker[i] >= 'A' && maker[i] <= 'Z' || isDigit && len(maker) == 4) {
			return
		}
	}
	model, isModel := number(id[len(id)-4:], 16)
	n, isNumber := number(instance, 16)
	if isModel && isNumber {
		s.setName("ID_NET_NAME_PATH", prefix+"a"+strings.ToLower(maker)+shortHex(model)+"i"+decimal(n))
	}
}

// physicalFunction returns the device that a virtual function of SR-IOV is a part of, and
// its number there.
func (s *subject) physicalFunction(pci *dir) (physical *dir, n string) {
	if !pci.has("physfn") {
		return nil, ""
	}
	s.reads++
	path, err := s.p.Sys.Find(pci.path+"/physfn", nodes)
	if err != nil {
		return nil, ""
	}
	physical = s.dirs(path)
	for _, name := range physical.list() {
		if isNumbered(name, "virtfn") && physical.linked(name) == pci.name() {
			return physical, trailingNumber(name)
		}
	}
	return nil, ""
}

// maxOnboard is the highest number that firmware is believed to give an interface.
const maxOnboard = 1<<16 - 1

func (s *subject) nameOnboard(prefix string, pci *dir, suffix string) {
	n, ok := pci.unsigned("acpi_index")
	if !ok {
		n, ok = pci.unsigned("index")
	}
	if ok && n <= maxOnboard {
		s.setName("ID_NET_NAME_ONBOARD", prefix+"o"+decimal(n)+s.portSpecifier()+suffix)
	}
}

// portSpecifier tells the ports of one device apart.
func (s *subject) portSpecifier() string {
	if port := s.dev.value("phys_port_name"); port != "" {
		return "n" + port
	}
	n, _ := s.dev.unsigned("dev_port")
	return specifier("d", decimal(n), "0")
}

// pciAddress reads 0000:00:1f.6.
func pciAddress(name string) (domain, bus, slot, function uint64, ok bool) {
	parts := strings.Split(name, ":")
	if len(parts) != 3 {
		return 0, 0, 0, 0, false
	}
	place, last, found := strings.Cut(parts[2], ".")
	domain, okDomain := number(parts[0], 16)
	bus, okBus := number(parts[1], 16)
	slot, okSlot := number(place, 16)
	function, okFunction := number(last, 10)
	return domain, bus, slot, function, found && okDomain && okBus && okSlot && okFunction
}

// nameByPCI names an interface by the address of its PCI device, and by the slot that it
// is plugged into where the firmware tells.
func (s *subject) nameByPCI(prefix string, pci *dir, suffix string) {
	domain, bus, slot, function, ok := pciAddress(pci.name())
	if !ok {
		return
	}
	if on, _ := pci.unsigned("ari_enabled"); on == 1 {
		function += slot * 8 // which then has 8 bits, of which 5 are written as the slot
	}
	of := specifier("f", decimal(function), "0")
	if of == "" && isMultifunction(pci) {
		of = "f0"
	}
	in := specifier("P", decimal(domain), "0")
	tail := of + s.portSpecifier() + suffix
	s.setName("ID_NET_NAME_PATH", prefix+in+"p"+decimal(bus)+"s"+decimal(slot)+tail)
	hotplug, anyDomain := s.hotplugSlot(pci)
	if hotplug == "" {
		return
	}
	if anyDomain {
		in = ""
	}
	s.setName("ID_NET_NAME_SLOT", prefix+in+"s"+hotplug+tail)
}

// isMultifunction reads the bit in the configuration space.
func isMultifunction(pci *dir) bool {
	const headerType = 14
	config := pci.bytes("config", headerType+1)
	return len(config) > headerType && config[headerType]&0x80 != 0
}

// hotplugSlot returns the number of the slot that a device or a bridge above it is in, or
// "". On s390 it is the function's own number, whatever the domain.
func (s *subject) hotplugSlot(pci *dir) (slot string, anyDomain bool) {
	slots := &dir{s: s, path: "/bus/pci/slots"}
	names := slots.list()
	if len(names) == 0 {
		return "", false
	}
	for d := pci; d != nil; d = d.above("pci") {
		if id, ok := d.unsigned("function_id"); ok && id > 0 {
			name := hex4(id>>16) + hex4(id)
			if !slots.has(name) {
				return "", false
			}
			return decimal(id), true
		}
		for _, name := range names {
			n, isNumber := number(name, 10)
			if !isNumber || n == 0 {
				continue
			}
			address := slots.value(name + "/address")
			if address == "" || !strings.HasPrefix(d.name(), address) {
				continue
			}
			// Behind a bridge there may be several devices, of which each would have the
			// name; the functions of one are told apart.
			if isBridge(d) && !isMultifunction(pci) {
				return "", false
			}
			return decimal(n), false
		}
	}
	return "", false
}

// isBridge looks at the device's class as its modalias has it.
func isBridge(pci *dir) bool {
	alias := pci.value("modalias")
	at := strings.LastIndexByte(alias, 's')
	return strings.HasPrefix(alias, "pci:") && at >= 0 && strings.HasPrefix(alias[at:], "sc04")
}

// nameByUSB adds the ports of USB to the place of the controller: 1-2.3:1.0 is u2u3.
func (s *subject) nameByUSB(prefix string) {
	iface := s.usbAbove(s.dev, true)
	if iface == nil {
		return
	}
	_, place, _ := strings.Cut(iface.name(), "-")
	ports, rest, found := strings.Cut(place, ":")
	configuration, number, foundNumber := strings.Cut(rest, ".")
	if !found || !foundNumber {
		return
	}
	suffix := "u" + strings.ReplaceAll(ports, ".", "u") + specifier("c", configuration, "1") + specifier("i", number, "0")
	if pci := iface.above("pci"); pci != nil {
		s.nameByPCI(prefix, pci, suffix)
	} else {
		s.setName("ID_NET_NAME_PATH", prefix+suffix)
	}
}
