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
	dir      sys.FileID // its directory. The kernel gives that of a later device another inode.
	said     string     // what its event said
	address  string     // of a network interface
}

// lasting are the subsystems of which the rules read nothing that changes while the device is
// there, but for the address of an interface.
const lasting = "backlight|drm|hidraw|media|net|pci|platform|rfkill|tty|usb|video4linux"

// recall returns what is remembered of the device of e, if it must still be so, or nil.
func (p *Prober) recall(e *uevent.Event) *Identity {
	p.memory.mu.Lock()
	m := p.memory.devices[e.Devpath]
	p.memory.mu.Unlock()
	if m == nil || m.dev != e.Dev || m.subsystem != e.Subsystem {
		return nil
	}
	if m.hasRules && (m.said != said(e) || m.dir != p.dirOf(e) || m.address != p.addressOf(e)) {
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

// dirOf identifies the directory of the device of e.
func (p *Prober) dirOf(e *uevent.Event) sys.FileID { return sys.FileIDOf(string(p.Sys) + e.Devpath) }

// addressOf returns the address of a network interface, which its owner may change.
func (p *Prober) addressOf(e *uevent.Event) (address string) {
	if e.Subsystem == "net" {
		address, _ = sys.ReadAttribute(string(p.Sys) + e.Devpath + "/address")
	}
	return address
}

// said returns what an event says, without its number, which the kernel puts last.
func said(e *uevent.Event) string {
	text, _, _ := strings.Cut(string(e.Pack()), "\x00SEQNUM=")
	return text
}
