package identity

import (
	"strings"
	"sync"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// memory holds what Identify found out, for further events of the same devices: a loop gets
// many of some devices, and to read sysfs again costs more than all else that is done for them.
type memory struct {
	mu      sync.Mutex // guards devices
	devices map[string]*remembered
}

// maxRemembered is of how many devices a memory holds something. One more makes it forget them
// all.
const maxRemembered = 1024

// remembered is what was found out about a device. It is never changed.
type remembered struct {
	id        Identity
	dev       uevent.Dev
	subsystem string

	// Of a device that no rule is for only the numbers count. Of others also these:
	hasRules bool
	said     string // what its event said
}

// lasting are the subsystems of which the rules find the same as long as the event says the
// same: the devpath and the index of an interface stand for one device. What gives an interface a
// name by its address is looked at again.
const lasting = "net|pci|platform"

// recall returns what is remembered of the device of e, if it must still be so, or nil.
func (p *Prober) recall(e *uevent.Event) *Identity {
	p.memory.mu.Lock()
	m := p.memory.devices[e.Devpath]
	p.memory.mu.Unlock()
	if m == nil || m.dev != e.Dev || m.subsystem != e.Subsystem {
		return nil
	}
	if m.hasRules && (m.said != said(e) || !p.hasAddress(e, m.id.Get("ID_NET_NAME_MAC"))) {
		return nil
	}
	return &m.id
}

// remember keeps what m says of the device of e.
func (p *Prober) remember(e *uevent.Event, m *remembered) {
	p.memory.mu.Lock()
	if n := len(p.memory.devices); n == 0 || n == maxRemembered {
		p.memory.devices = map[string]*remembered{}
	}
	p.memory.devices[e.Devpath] = m
	p.memory.mu.Unlock()
}

// hasAddress reports whether a network interface still has the address that gave it a name, if
// one did: its owner may change it.
func (p *Prober) hasAddress(e *uevent.Event, name string) bool {
	if name == "" {
		return true
	}
	address, err := sys.ReadAttribute(string(p.Sys) + e.Devpath + "/address")
	return err == nil && strings.HasSuffix(name, strings.ReplaceAll(strings.TrimSpace(address), ":", ""))
}

// said returns what an event says, without its number, which the kernel puts last.
func said(e *uevent.Event) string {
	text, _, _ := strings.Cut(string(e.Pack()), "\x00SEQNUM=")
	return text
}
