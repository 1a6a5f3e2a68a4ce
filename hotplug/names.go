//go:build !nonames

package hotplug

import (
	"strconv"

	"golang.org/x/sys/unix"

	"devspool/hotplug/control"
	"devspool/hotplug/info"
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
	return &identity.Prober{
		Sys: fs, Contents: identity.Superblocks,
		Open: func(d uevent.Dev) (fd int, err error) {
			if fd, err = opened(d); err == nil || dev == nil {
				return fd, err
			}
			return openUnnamed(dev, d) // its node is still to be made
		},
	}
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

// NewLookup returns where devspool info looks, given the directories of its command line.
func NewLookup(sysDir, devDir string) info.Lookup {
	fs := sysfs.FS(sysDir)
	p := &identity.Prober{Sys: fs, Contents: identity.Superblocks, Open: identity.OpenNodes(fs, devDir)}
	return info.Lookup{Sys: fs, Dev: devDir, Identify: p.Probe, Made: func(e *uevent.Event) (paths []string, here bool) {
		if e.Dev.IsZero() || unix.Access(devDir+"/"+nodes.Private, unix.F_OK) != nil {
			return nil, false
		}
		// Only root may ask. What others see is what the device deserves and has.
		if dev, err := nodes.Open(devDir); err == nil {
			control.Ask(dev, []string{"links", e.Devpath}, func(path string) { paths = append(paths, path) })
			dev.Close()
		}
		return paths, true
	}}
}
