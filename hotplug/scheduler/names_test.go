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

func (n *named) NeedsContents(*uevent.Event) bool           { return false }
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
