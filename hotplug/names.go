//go:build !nonames

package hotplug

import (
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/contents"
	"devspool/hotplug/control"
	"devspool/hotplug/info"
	"devspool/hotplug/log"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
	"devspool/nodes/identity"
)

// newNames returns what says which names devices deserve. Dev is nil for a dry run.
func newNames(fs sysfs.FS, path string, dev *nodes.Dir) scheduler.Identifier {
	return newProber(fs, path, dev)
}

// newProber returns what finds names by the sysfs fs and the disks in the directory path. Where dev is
// not nil, a disk that has no node yet is opened by one that is made for that alone.
func newProber(fs sysfs.FS, path string, dev *nodes.Dir) prober {
	opened := identity.OpenNodes(fs, path)
	return prober{&identity.Prober{
		Sys: fs, Run: "/run", Contents: identity.Superblocks,
		Open: func(d uevent.Dev) (fd int, err error) {
			if fd, err = opened(d); err == nil || dev == nil {
				return fd, err
			}
			return nodes.OpenDevice(path, d) // its node is still to be made
		},
	}}
}

// prober gives the scheduler what package identity finds.
type prober struct{ *identity.Prober }

func (p prober) Identify(e *uevent.Event) *scheduler.Identity { return found(p.Prober.Identify(e)) }
func (p prober) Unread(e *uevent.Event) *scheduler.Identity   { return found(p.Prober.Unread(e)) }
func (p prober) Probe(e *uevent.Event) *scheduler.Identity    { return found(p.Prober.Probe(e)) }

// found converts id: the types differ by name only.
func found(id *identity.Identity) *scheduler.Identity { return (*scheduler.Identity)(id) }

// newWatcher returns what notices that disks are written to, or nil: that is the loop's.
func (r *runner) newWatcher() scheduler.Watcher {
	if r.way != RunLoop || r.dev == nil {
		return nil
	}
	// A loop without a watcher still works: names then change with the next event.
	w, err := contents.New(r.sys, r.log)
	if err != nil {
		r.log.Print(log.Warning, "what is written to disks goes unseen: "+err.Error())
		return nil
	}
	return w
}

// pollMedia has the kernel look for other media, unless a rule takes the names from this device
// too.
func (r *runner) pollMedia() {
	const subsystem, devpath = "module", "/module/block"
	if r.dev == nil || !r.scheduler.GivesNames(&uevent.Event{Action: uevent.Add, Devpath: devpath, Subsystem: subsystem}) {
		return
	}
	if err := contents.PollMedia(r.sys); err != nil {
		r.log.Print(log.Info, "other media go unseen: "+err.Error()) // a container's /sys is read-only
	}
}

// newCompleter returns what gives events the properties of their devices where no loop can be
// asked. Disks are read again once the kernel has sent any event: until then a wait that polls would
// read them over and over.
func newCompleter(fs sysfs.FS, dev string) func(*uevent.Event) *uevent.Event {
	p := newNames(fs, dev, nil)
	found, seqnum := map[string][]string{}, uint64(0) // properties by devpath, as of that SEQNUM
	return func(e *uevent.Event) *uevent.Event {
		if n := fs.Seqnum(); n != seqnum {
			clear(found)
			seqnum = n
		}
		properties, known := found[e.Devpath]
		if !known {
			properties = p.Probe(e).Properties
			found[e.Devpath] = properties
		}
		return e.With(properties)
	}
}

// NewLookup returns where devspool info looks, given the directories of its command line. It works
// without a loop; where one runs, root gets what the loop knows besides.
func NewLookup(sysDir, devDir string) info.Lookup {
	fs := sysfs.FS(sysDir)
	p := newProber(fs, devDir, nil)
	look := info.Lookup{Sys: fs, Dev: devDir, Serves: unix.Access(devDir+"/"+nodes.Private, unix.F_OK) == nil}
	dev, err := nodes.Open(devDir)
	look.Identify = func(e *uevent.Event) *identity.Identity {
		id := p.Prober.Probe(e)
		// An error of the loop, or of the right to ask it, leaves what was found here.
		if look.Serves && err == nil { // a loop knows more, and tells root
			_ = control.Ask(dev, []string{"identity", e.Devpath}, func(line string) { addTold(id, line) })
		}
		return id
	}
	return look
}

// addTold adds to id what a loop tells of a device in a line, unless it is there.
func addTold(id *identity.Identity, line string) {
	path, isLink := strings.CutPrefix(line, "S:")
	if key, _, _ := strings.Cut(line, "="); !isLink && id.Get(key) == "" {
		id.Properties = append(id.Properties, line)
	}
	for i := range id.Links {
		isLink = isLink && id.Links[i].Path != path
	}
	if isLink {
		id.Links = append(id.Links, nodes.Link{Path: path})
	}
}
