//go:build !nonames

package scheduler_test

import (
	"os"
	"path/filepath"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/hotplugtest/board"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
	"devspool/nodes/identity"
)

// named gives each device the links that it holds, beside the one by its numbers.
type named struct{ links []string }

func (n *named) Identify(e *uevent.Event) *scheduler.Identity {
	id := &scheduler.Identity{Links: []nodes.Link{{Path: "char/" + e.Dev.Numbers()}}}
	for _, path := range n.links {
		id.Links = append(id.Links, nodes.Link{Path: path})
	}
	return id
}

func (n *named) NeedsContents(*uevent.Event) bool                             { return false }
func (n *named) Lasting(*uevent.Event, func(*uevent.Event) []string) []string { return nil }

func (n *named) Unread(e *uevent.Event) *scheduler.Identity { return n.Identify(e) }
func (n *named) Probe(e *uevent.Event) *scheduler.Identity  { return n.Identify(e) }

// TestNamedLate shows that a device that is no disk gets a name that its driver learns after
// the add, such as that of a virtio port, by the change event that tells so; and loses it.
func TestNamedLate(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "# none\n")
	var names named
	b.Sys.FS = sysfs.FS("/sys") // names come from the kernel's own
	b.Start(b.Text, func(o *scheduler.Options) { o.Names = &names })
	event := func(action string) *uevent.Event {
		return hotplugtest.NewEvent(t, "ACTION="+action, "DEVPATH=/devices/virtual/mem/null", "SUBSYSTEM=mem", "MAJOR=1", "MINOR=3", "DEVNAME=null")
	}
	for _, step := range []struct {
		action, link string
		there        bool
	}{{"add", "ports/late", false}, {"change", "ports/late", true}, {"change", "ports/later", true}, {"change", "", false}} {
		if step.there {
			names.links = []string{step.link}
		} else {
			names.links = nil
		}
		b.Run(event(step.action))
		found, _ := filepath.Glob(b.Dir + "/ports/*")
		if step.there != (len(found) == 1) || step.there && found[0] != filepath.Join(b.Dir, step.link) {
			t.Errorf("after %s with the name %q: %q", step.action, step.link, found)
		}
		if _, err := os.Stat(b.Dir + "/char/1:3"); err != nil {
			t.Error(err)
		}
	}
}

// mapped remembers the flags of device-mapper that events had when they came to it.
type mapped struct {
	identity.Prober
	properties []string // what devices are given, where not nil
	seen       string
}

func (m *mapped) Identify(e *uevent.Event) *scheduler.Identity {
	m.seen, _ = e.Get("DM_UDEV_DISABLE_DISK_RULES_FLAG")
	if m.seen == "" {
		m.seen, _ = e.Get("DM_UDEV_DISABLE_OTHER_RULES_FLAG")
	}
	id := (*scheduler.Identity)(m.Prober.Identify(e))
	if m.properties != nil {
		id.Properties = m.properties
	}
	return id
}

func (m *mapped) NeedsContents(*uevent.Event) bool           { return false }
func (m *mapped) Unread(e *uevent.Event) *scheduler.Identity { return m.Identify(e) }
func (m *mapped) Probe(e *uevent.Event) *scheduler.Identity  { return m.Identify(e) }

// TestMapperFlags shows that what a program of device-mapper said with its change of a device still
// holds for an event that is of no such change, and what an earlier process knew of that too; and
// that other devices do not get such flags.
func TestMapperFlags(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	const primary, disk = "DM_UDEV_PRIMARY_SOURCE_FLAG=1", "DM_UDEV_DISABLE_DISK_RULES_FLAG=1"
	const other = "DM_UDEV_DISABLE_OTHER_RULES_FLAG=1"
	for _, c := range []struct {
		name, devname  string
		before, stored []string // of an earlier event here, and before the loop began
		cookie         string
		want           string
	}{
		{"kept", "dm-7", []string{primary, disk}, nil, "", "1"},
		{"stored", "dm-7", nil, []string{primary, disk}, "", "1"},
		{"here prevails", "dm-7", []string{primary}, []string{primary, disk}, "", ""},
		{"said anew", "dm-7", []string{primary, disk}, nil, "DM_COOKIE=4194304", ""},
		{"not by a program", "dm-7", []string{disk}, nil, "", ""},
		{"before a wipe", "dm-7", []string{primary, other, "DM_NOSCAN=1"}, nil, "", ""},
		{"stored before a wipe", "dm-7", nil, []string{primary, other, "DM_NOSCAN=1"}, "", ""},
		{"not for the wipe alone", "dm-7", []string{primary, other, "DM_NOSCAN=1", "DM_DISABLE_OTHER_RULES_FLAG_OLD=1"}, nil, "", "1"},
		{"disks before a wipe", "dm-7", []string{primary, disk, "DM_NOSCAN=1"}, nil, "", "1"},
		{"no mapper", "sda", []string{primary, disk}, nil, "", ""},
	} {
		b := board.New(t, "# none\n")
		m := mapped{Prober: identity.Prober{Sys: "/sys", Run: t.TempDir()}}
		b.Sys.FS = sysfs.FS("/sys") // names come from the kernel's own
		b.Start(b.Text, func(o *scheduler.Options) {
			o.Names, o.Stored = &m, func(*uevent.Event) []string { return c.stored }
		})
		vars := []string{"ACTION=change", "DEVPATH=/devices/virtual/mem/null", "SUBSYSTEM=block", "MAJOR=1", "MINOR=3", "DEVNAME=" + c.devname}
		if c.before != nil {
			m.properties = c.before
			b.Run(hotplugtest.NewEvent(t, append(vars, "DM_COOKIE=1")...))
		}
		if c.cookie != "" {
			vars = append(vars, c.cookie)
		}
		m.properties = nil
		for range 2 { // what holds for one holds for the next
			m.seen = "nothing"
			b.Run(hotplugtest.NewEvent(t, vars...))
			if m.seen != c.want {
				t.Errorf("%s: the flag is %q, want %q", c.name, m.seen, c.want)
			}
		}
	}
}
