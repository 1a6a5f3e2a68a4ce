package kerneltest

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Device is a device in a Tree.
type Device struct {
	Devpath   string // below /sys: /devices/…
	Subsystem string
	Devname   string // DEVNAME, or "" for a device without a node
	Devtype   string // DEVTYPE, or ""
	Block     bool   // a block device; otherwise a character device
	Bus       bool   // the subsystem is a bus; otherwise a class
	Major     uint32 // 0 with Minor 0 for a device without numbers
	Minor     uint32

	Extra []string          // further KEY=VALUE of the uevent file
	Attrs map[string]string // further files: path below the device's directory, content
}

// HasNumbers reports whether the device has device numbers.
func (d Device) HasNumbers() bool { return d.Major != 0 || d.Minor != 0 }

// uevent returns the lines of the device's uevent file in the kernel's order: those about the node
// come first (dev_uevent in drivers/base/core.c).
func (d Device) uevent() []string {
	var lines []string
	if d.HasNumbers() {
		lines = append(lines,
			"MAJOR="+strconv.FormatUint(uint64(d.Major), 10),
			"MINOR="+strconv.FormatUint(uint64(d.Minor), 10))
	}
	if d.Devname != "" {
		lines = append(lines, "DEVNAME="+d.Devname)
	}
	ofNode := func(kv string) bool {
		key, _, _ := strings.Cut(kv, "=")
		return key == "DEVMODE" || key == "DEVUID" || key == "DEVGID"
	}
	for _, kv := range d.Extra {
		if ofNode(kv) {
			lines = append(lines, kv)
		}
	}
	if d.Devtype != "" {
		lines = append(lines, "DEVTYPE="+d.Devtype)
	}
	return append(lines, slices.DeleteFunc(slices.Clone(d.Extra), ofNode)...)
}

// Event returns the event that the kernel would send about d.
func (d Device) Event(action string) Event {
	var vars []string
	if d.Subsystem != "" {
		vars = append(vars, "SUBSYSTEM="+d.Subsystem)
	}
	return Event{Action: action, Devpath: d.Devpath, Vars: append(vars, d.uevent()...)}
}

// Tree is a sysfs of devices that do not exist, in a directory. Its files appear and vanish in the
// kernel's order, each with its whole content at once, so it may be changed while it is read. Its
// methods may be called at the same time.
type Tree struct {
	Dir string

	mu      sync.Mutex
	devices map[string]Device
}

// NewTree makes an empty Tree in dir, which should be on a tmpfs, so that devices can be added and
// removed fast.
func NewTree(dir string) (*Tree, error) {
	t := &Tree{Dir: dir, devices: map[string]Device{}}
	for _, sub := range []string{"devices", "class", "bus", "block", "dev/block", "dev/char", "kernel", ".new"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Add puts d into the tree and returns its add event. When the kernel sends that, all files exist, as
// they do here (device_add in drivers/base/core.c).
func (t *Tree) Add(d Device) (Event, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !strings.HasPrefix(d.Devpath, "/devices/") || path.Clean(d.Devpath) != d.Devpath {
		return Event{}, fmt.Errorf("devpath %q is not below /devices", d.Devpath)
	}
	if _, there := t.devices[d.Devpath]; there {
		return Event{}, fmt.Errorf("%s: %w", d.Devpath, os.ErrExist)
	}
	for _, step := range []func(Device) error{t.addDir, t.addLinks, t.addAttrs, t.addNumbers} {
		if err := step(d); err != nil {
			return Event{}, err
		}
	}
	t.devices[d.Devpath] = d
	return d.Event("add"), nil
}

// Remove takes a device out of the tree and returns its remove event. As in the kernel, devices below it
// must be removed first.
func (t *Tree) Remove(devpath string) (Event, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, there := t.devices[devpath]
	if !there {
		return Event{}, fmt.Errorf("%s: %w", devpath, os.ErrNotExist)
	}
	for other := range t.devices {
		if strings.HasPrefix(other, devpath+"/") {
			return Event{}, fmt.Errorf("%s has %s below it", devpath, other)
		}
	}
	for _, step := range []func(Device) error{t.removeNumbers, t.removeLinks, t.removeDir} {
		if err := step(d); err != nil {
			return Event{}, err
		}
	}
	delete(t.devices, devpath)
	return d.Event("remove"), nil
}

// Devices returns the devices in the tree, sorted by devpath.
func (t *Tree) Devices() []Device {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]Device, 0, len(t.devices))
	for _, d := range t.devices {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b Device) int { return strings.Compare(a.Devpath, b.Devpath) })
	return all
}

// path returns the path of a file of the device.
func (t *Tree) path(d Device, file string) string {
	return filepath.Join(t.Dir, d.Devpath, file)
}

func (t *Tree) addDir(d Device) error {
	if err := os.MkdirAll(t.path(d, ""), 0o755); err != nil {
		return err
	}
	lines := d.uevent()
	text := strings.Join(lines, "\n")
	if len(lines) > 0 {
		text += "\n"
	}
	return t.write(t.path(d, "uevent"), text)
}

// addLinks makes the link to the subsystem and the subsystem's links to the device.
func (t *Tree) addLinks(d Device) error {
	if d.Subsystem == "" {
		return nil
	}
	home := t.subsystem(d)
	if err := os.MkdirAll(filepath.Join(t.Dir, home), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(upwards(d.Devpath)+home, t.path(d, "subsystem")); err != nil {
		return err
	}
	return t.eachLink(d, func(link string) error {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(t.Dir, link)), 0o755); err != nil {
			return err
		}
		return os.Symlink(upwards(path.Dir(link))+d.Devpath[1:], filepath.Join(t.Dir, link))
	})
}

func (t *Tree) addAttrs(d Device) error {
	for _, name := range slices.Sorted(maps.Keys(d.Attrs)) {
		if err := os.MkdirAll(filepath.Dir(t.path(d, name)), 0o755); err != nil {
			return err
		}
		if err := t.write(t.path(d, name), d.Attrs[name]); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tree) addNumbers(d Device) error {
	if !d.HasNumbers() {
		return nil
	}
	if err := t.write(t.path(d, "dev"), d.numbers()+"\n"); err != nil {
		return err
	}
	return os.Symlink("../.."+d.Devpath, filepath.Join(t.Dir, d.devLink()))
}

func (t *Tree) removeNumbers(d Device) error {
	if !d.HasNumbers() {
		return nil
	}
	if err := os.Remove(filepath.Join(t.Dir, d.devLink())); err != nil {
		return err
	}
	return os.Remove(t.path(d, "dev"))
}

func (t *Tree) removeLinks(d Device) error {
	if d.Subsystem == "" {
		return nil
	}
	err := t.eachLink(d, func(link string) error { return os.Remove(filepath.Join(t.Dir, link)) })
	if err != nil {
		return err
	}
	return os.Remove(t.path(d, "subsystem"))
}

// removeDir removes the device's directory and the directories above it that are empty then, in place of
// the kernel's glue directories.
func (t *Tree) removeDir(d Device) error {
	if err := os.RemoveAll(t.path(d, "")); err != nil {
		return err
	}
	for dir := path.Dir(d.Devpath); dir != "/devices"; dir = path.Dir(dir) {
		if os.Remove(filepath.Join(t.Dir, dir)) != nil {
			break
		}
	}
	return nil
}

// subsystem returns the subsystem's directory below the tree.
func (t *Tree) subsystem(d Device) string {
	if d.Bus {
		return "bus/" + d.Subsystem
	}
	return "class/" + d.Subsystem
}

// eachLink calls f with each link that a subsystem has to the device.
func (t *Tree) eachLink(d Device, f func(link string) error) error {
	name := path.Base(d.Devpath)
	links := []string{t.subsystem(d) + "/" + name}
	if d.Bus {
		links[0] = t.subsystem(d) + "/devices/" + name
	}
	if d.Block && d.Devtype != "partition" {
		links = append(links, "block/"+name)
	}
	for _, link := range links {
		if err := f(link); err != nil {
			return err
		}
	}
	return nil
}

// write makes a file that has its content as soon as it exists.
func (t *Tree) write(name, content string) error {
	temp := filepath.Join(t.Dir, ".new", "file")
	if err := os.WriteFile(temp, []byte(content), 0o644); err != nil {
		return err
	}
	return os.Rename(temp, name)
}

func (d Device) numbers() string {
	return strconv.FormatUint(uint64(d.Major), 10) + ":" + strconv.FormatUint(uint64(d.Minor), 10)
}

func (d Device) devLink() string {
	if d.Block {
		return "dev/block/" + d.numbers()
	}
	return "dev/char/" + d.numbers()
}

// upwards returns the "../" that lead from the directory dir to the top.
func upwards(dir string) string {
	return strings.Repeat("../", strings.Count(strings.Trim(dir, "/"), "/")+1)
}
