//go:build !nonames

package hotplug

import (
	"strconv"

	"golang.org/x/sys/unix"

	"devspool/hotplug/scheduler"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
	"devspool/nodes/identity"
)

// HasNames tells that devices get names by what they are.
const HasNames = true

// newNames returns what says which names devices deserve. Dev is nil for a dry run.
func newNames(fs sysfs.FS, path string, dev *nodes.Dir) scheduler.Identifier {
	opened := identity.OpenNodes(fs, path)
	return prober{&identity.Prober{
		Sys: fs, Contents: identity.Superblocks,
		Open: func(d uevent.Dev) (fd int, err error) {
			if fd, err = opened(d); err == nil || dev == nil {
				return fd, err
			}
			return openUnnamed(dev, d) // its node is still to be made
		},
	}}
}

// prober gives the scheduler what package identity finds.
type prober struct{ *identity.Prober }

func (p prober) Identify(e *uevent.Event) *scheduler.Identity { return found(p.Prober.Identify(e)) }
func (p prober) Probe(e *uevent.Event) *scheduler.Identity    { return found(p.Prober.Probe(e)) }

func found(id identity.Identity) *scheduler.Identity {
	links := make([]nodes.Link, len(id.Links))
	for i, l := range id.Links {
		links[i] = nodes.Link{Path: l.Path, Priority: l.Priority, Name: true}
	}
	return &scheduler.Identity{Properties: id.Properties, Links: links, Keep: id.Keep}
}

// openUnnamed opens a disk by a node of our own, which is in the private directory for no
// longer than that takes.
func openUnnamed(dev *nodes.Dir, d uevent.Dev) (fd int, err error) {
	private, err := dev.OpenPrivate()
	if err != nil {
		return sys.None, err
	}
	defer unix.Close(private)
	name := "probe-" + strconv.Itoa(unix.Getpid()) + "-" + d.Numbers()
	if err := sys.Mknodat(private, name, unix.S_IFBLK|0o600, unix.Mkdev(d.Major, d.Minor)); err != nil && err != unix.EEXIST {
		return sys.None, err
	}
	defer sys.Unlinkat(private, name)
	return unix.Openat(private, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NOCTTY, 0)
}
