package identity

import (
	"strings"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// memory holds what Identify found out, for further events of the same devices: a loop gets
// many of some devices, and to read sysfs again costs more than all else that is done for them.
// A scan has one event of each: a device is remembered from its second event on. More than
// memoryWays devices in one row take their places from each other, which only costs time.
type memory [128][memoryWays]place

const memoryWays = 4

// place is where one device is remembered.
type place struct {
	*remembered
	hash uint32 // of its devpath
}

// at returns where a memory has the device at a devpath, and whether that came before. What is there
// may be nil, or of another device; the caller may put another one there.
func (m *memory) at(devpath string) (known **remembered, again bool) {
	h := uint32(0)
	for i := max(0, len(devpath)-16); i < len(devpath); i++ { // what tells devices apart is at the end
		h = h*31 + uint32(devpath[i])
	}
	row := &m[h%uint32(len(m))]
	for i := range row {
		if row[i].hash == h {
			return &row[i].remembered, true
		}
	}
	copy(row[1:], row[:]) // the one that came first goes
	row[0] = place{hash: h}
	return &row[0].remembered, false
}

// remembered is what was found out about a device. It is never changed.
type remembered struct {
	id                 Identity
	devpath, subsystem string
	dev                uevent.Dev

	// Of a device that no rule is for only the numbers count. Of others also these:
	hasRules bool
	said     string // what its event said
}

// lasting are the subsystems of which the rules find the same as long as the event says the
// same: the devpath and the index of an interface stand for one device. What gives an interface a
// name by its address is looked at again.
const lasting = "net|pci|platform"

// holds reports whether m must still be so of the device of e.
func (m *remembered) holds(p *Prober, e *uevent.Event) bool {
	if m == nil || m.devpath != e.Devpath || m.dev != e.Dev || m.subsystem != e.Subsystem || m.hasRules && m.said != said(e) {
		return false
	}
	name := m.id.Get("ID_NET_NAME_MAC")
	if name == "" {
		return true
	}
	// No event tells that an interface has another address.
	address, err := sys.ReadAttribute(string(p.Sys) + e.Devpath + "/address")
	return err == nil && strings.HasSuffix(name, strings.ReplaceAll(strings.TrimSpace(address), ":", ""))
}

// said returns what an event says, without its number, which the kernel puts last.
func said(e *uevent.Event) string {
	text, _, _ := strings.Cut(string(e.Pack()), "\x00SEQNUM=")
	return text
}
