package identity

import (
	"strings"

	"golang.org/x/sys/unix"
)

// namingScheme says which of systemd's schemes the names of interfaces follow: another
// one may give other names (systemd.net-naming-scheme(7)).
const namingScheme = "v252"

// Types of hardware of linux/if_arp.h.
const (
	arpEthernet   = "1"
	arpInfiniband = "32"
	arpSLIP       = "256"
)

// net finds the names that an interface could be given. It gives it none.
func (s *subject) net() {
	prefix := ""
	switch devtype, _ := s.e.Get("DEVTYPE"); s.dev.value("type") {
	case arpEthernet:
		prefix = "en"
		// The hardware type of these is Ethernet's too.
		switch devtype {
		case "wlan":
			prefix = "wl"
		case "wwan":
			prefix = "ww"
		}
	case arpInfiniband:
		prefix = "ib"
	case arpSLIP:
		prefix = "sl"
	}
	if !isVirtual(s.e) {
		s.setAll("ID_NET_", "DRIVER", []string{(&dir{s: s, path: s.dev.path + "/device"}).linked("driver")})
	}
	// A VLAN and its like stands on another interface, whose names they would be.
	if index, _ := s.e.Get("IFINDEX"); prefix == "" || s.dev.value("iflink") != index {
		return
	}
	s.set("ID_NET_NAMING_SCHEME", namingScheme)
	// By the address that was burnt in, and by no other.
	// 0 is NET_ADDR_PERM of linux/netdevice.h. An address of InfiniBand, of 20 bytes, makes no name.
	if prefix != "ib" && s.dev.value("addr_assign_type") == "0" {
		if address := s.dev.value("address"); len(address) == 17 {
			s.set("ID_NET_NAME_MAC", prefix+"x"+strings.ReplaceAll(address, ":", ""))
		}
	}
	if !isVirtual(s.e) {
		s.nameByPlace(prefix)
	}
}

// specifier is a part of a name, left out where it is the usual one.
func specifier(letter, number, usual string) string {
	if number == "" || number == usual {
		return ""
	}
	return letter + number
}

// nameByPlace names an interface by the bus that it hangs at without another between:
// virtio does not count as one. USB is named with the PCI device that it hangs at.
func (s *subject) nameByPlace(prefix string) {
	parent := s.dev.parent()
	if parent == nil {
		return
	}
	if prefix == "en" {
		s.nameByDevicetree(parent)
	}
	if parent.readSubsystem() == "virtio" {
		parent = parent.top().parent()
	}
	if parent == nil {
		return
	}
	switch bus := parent.name(); parent.readSubsystem() {
	case "pci":
		suffix := ""
		if physical, n := parent.physicalFunction(); physical != nil {
			parent, suffix = physical, "v"+n
		} else {
			s.setAll("ID_NET_", "LABEL_ONBOARD", []string{parent.value("label")})
		}
		// Firmware numbers what is on the board.
		n := valueOr(parent, "acpi_index", "index")
		if i, ok := number(n, 10); ok && i < 1<<16 {
			s.set("ID_NET_NAME_ONBOARD", prefix+"o"+n+s.portSpecifier()+suffix)
		}
		s.nameByPCI(prefix, parent, suffix)
	case "ccw", "ccwgroup":
		if rest := strings.TrimLeft(bus, ".0"); rest != "" { // 0.0.f5f0 gives f5f0
			s.set("ID_NET_NAME_PATH", prefix+"c"+rest)
		}
	default:
		if iface := s.dev.usbAbove(true); iface != nil {
			s.nameByUSB(prefix, iface)
		}
	}
}

// valueOr reads an attribute, or where it is not there another.
func valueOr(d *dir, name, other string) string {
	if value, there := d.attr(name); there {
		return value
	}
	return d.value(other)
}

// nameByDevicetree: boards number their interfaces by aliases.
func (s *subject) nameByDevicetree(parent *dir) {
	const base = "/firmware/devicetree/base"
	s.reads++
	node, err := s.p.Sys.Find(parent.path+"/of_node", noNodes)
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
		other := "ethernet" // which means the same as ethernet0
		if index == "" {
			index, other = "0", "ethernet0"
		}
		if trailingNumber(index) == index && !(index == "0" && aliases.has(other)) {
			s.set("ID_NET_NAME_ONBOARD", "end"+index)
		}
		return
	}
}

// physicalFunction returns the device that a virtual function of SR-IOV is a part of, and
// its number there.
func (pci *dir) physicalFunction() (physical *dir, n string) {
	// Only a virtual function has this link.
	of := pci.linked("physfn")
	if of == "" {
		return nil, ""
	}
	physical = pci.s.dirs(pci.path[:strings.LastIndexByte(pci.path, '/')+1] + of)
	for _, name := range physical.list() {
		if match("virtfn#", name) && physical.linked(name) == pci.name() {
			return physical, trailingNumber(name)
		}
	}
	return nil, ""
}

// portSpecifier tells the ports of one device apart.
func (s *subject) portSpecifier() string {
	if port := s.dev.value("phys_port_name"); port != "" {
		return "n" + port
	}
	return specifier("d", s.dev.value("dev_port"), "0")
}

// hexToDecimal writes a part of an address, or "" where it is none.
func hexToDecimal(text string) string {
	n, ok := number(text, 16)
	if !ok {
		return ""
	}
	return decimal(n)
}

// nameByPCI names an interface by the address of its PCI device (0000:00:1f.6), and by
// the slot that it is plugged into where the firmware tells.
func (s *subject) nameByPCI(prefix string, pci *dir, suffix string) {
	parts := strings.Split(strings.ReplaceAll(pci.name(), ".", ":"), ":")
	if len(parts) != 4 {
		return
	}
	bus, slot, function := hexToDecimal(parts[1]), hexToDecimal(parts[2]), parts[3]
	if pci.value("ari_enabled") == "1" {
		// A function has 8 bits then, of which 5 are written as the slot.
		f, _ := number(function, 10)
		high, _ := number(slot, 10)
		function = decimal(f + high*8)
	}
	usual := "0"
	if pci.isMultifunction() {
		usual = ""
	}
	domain := specifier("P", hexToDecimal(parts[0]), "0")
	tail := specifier("f", function, usual) + s.portSpecifier() + suffix
	s.set("ID_NET_NAME_PATH", prefix+domain+"p"+bus+"s"+slot+tail)
	hotplug, anyDomain := s.hotplugSlot(pci)
	if anyDomain {
		domain = ""
	}
	if hotplug != "" {
		s.set("ID_NET_NAME_SLOT", prefix+domain+"s"+hotplug+tail)
	}
}

// isMultifunction reads the bit in the configuration space.
func (pci *dir) isMultifunction() bool {
	const headerType = 14
	pci.s.reads++
	// One byte and no more: each word is asked of the device, which takes long.
	var config [1]byte
	fd, err := unix.Open(string(pci.s.p.Sys)+pci.path+"/config", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	n, _ := unix.Pread(fd, config[:], headerType)
	unix.Close(fd)
	return n == 1 && config[0]&0x80 != 0
}

// hotplugSlot returns the number of the slot that a device or a bridge above it is in, or
// "". On s390 it is the function's own number, whatever the domain.
func (s *subject) hotplugSlot(pci *dir) (slot string, anyDomain bool) {
	slots := &dir{s: s, path: "/bus/pci/slots"}
	names := slots.list()
	for d := pci; d != nil && len(names) > 0; d = d.up.within("pci") {
		if id, ok := number(d.value("function_id"), 0); ok && id > 0 {
			return decimal(id), true
		}
		for _, name := range names {
			address := slots.value(name + "/address")
			// A slot's address has no function (0000:00:1c), since all functions of a device
			// are in it. Slots with names that are no numbers give no short names.
			if trailingNumber(name) != name || address == "" || !strings.HasPrefix(d.name(), address) {
				continue
			}
			// Behind a bridge there may be several devices, of which each would have the
			// name; the functions of one are told apart.
			if match("pci:*sc04*", d.value("modalias")) && !pci.isMultifunction() {
				return "", false
			}
			return name, false
		}
	}
	return "", false
}

// nameByUSB adds the ports of USB to the place of the controller: 1-2.3:1.0 is u2u3.
func (s *subject) nameByUSB(prefix string, iface *dir) {
	_, place, _ := strings.Cut(iface.name(), "-")
	ports, rest, _ := strings.Cut(place, ":")
	configuration, number, _ := strings.Cut(rest, ".")
	suffix := "u" + strings.ReplaceAll(ports, ".", "u") + specifier("c", configuration, "1") + specifier("i", number, "0")
	if pci := iface.within("pci"); pci != nil {
		s.nameByPCI(prefix, pci, suffix)
	} else {
		s.set("ID_NET_NAME_PATH", prefix+suffix)
	}
}
