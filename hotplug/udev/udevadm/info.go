package udevadm

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/cli"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
)

// The options of info. --no-pager is known since scripts give it; there is no pager.
const infoOptions = "q:query= 1:property= 2:value p:path= n:name= r:root a:attribute-walk d:device-id-of-file= x:export " +
	"P:export-prefix= e:export-db c:cleanup-db w:wait-for-initialization? 3:no-pager"

// The keys in infoOptions.
const (
	infoQuery    = 'q'
	infoProperty = '1'
	infoValue    = '2'
	infoPath     = 'p'
	infoName     = 'n'
	infoRoot     = 'r'
	infoWalk     = 'a'
	infoFile     = 'd' // --device-id-of-file
	infoExport   = 'x'
	infoPrefix   = 'P'
	infoAll      = 'e' // --export-db
	infoCleanup  = 'c'
	infoWait     = 'w'
)

// info prints what the database and /sys say of devices, or exports or cleans the database. The first
// device that cannot be shown ends it.
func (t *tool) info(args []string) error {
	g, err := t.parse(args, infoOptions)
	switch {
	case err != nil:
		return err
	case g.Has(infoFile):
		return t.numbersOf(g.Last(infoFile, ""), g)
	case g.Has(infoAll):
		return t.exportDB()
	case g.Has(infoCleanup):
		return t.cleanup()
	}
	switch g.Last(infoQuery, "all") {
	case "name", "symlink", "path", "property", "all":
	default:
		return errors.New("there is no such query")
	}
	// How a name is read depends on the option: -p is below /sys, -n below /dev, and an operand may be
	// either.
	devpaths, err := t.devpaths(g.All(infoPath), g.All(infoName), g.Operands)
	if err != nil {
		return err
	}
	if len(devpaths) == 0 {
		return errNoDevice
	}
	for _, devpath := range devpaths {
		if err := t.show(devpath, g); err != nil {
			return err
		}
	}
	return nil
}

// errNoDevice is returned where a command needs a device and has none.
var errNoDevice = errors.New("name a device")

// show prints what is asked of one device.
func (t *tool) show(devpath string, g *cli.Given) error {
	if g.Has(infoWait) {
		text := g.Last(infoWait, "")
		if text == "" {
			text = "infinity"
		}
		limit, err := seconds(text)
		if err != nil {
			return err
		}
		// The device may be set up already, so its state is polled rather than its event awaited. For 0 s
		// nothing is waited for.
		if limit > 0 && !within(limit, func() bool { return t.isSetUp(devpath) }) {
			return unix.ETIMEDOUT
		}
	}
	if g.Has(infoWalk) {
		return t.walk(devpath)
	}
	d, err := t.load(devpath)
	if err != nil {
		return err
	}
	// --root concerns the names below /dev alone.
	before := ""
	if g.Has(infoRoot) {
		before = "/dev/"
	}
	text := ""
	switch g.Last(infoQuery, "all") {
	case "path":
		text = devpath + "\n"
	case "name":
		if d.Devname == "" {
			return errors.New("it has no node")
		}
		text = before + d.Devname + "\n"
	case "symlink":
		text = d.links(before) + "\n"
	case "all":
		text = d.all() + "\n"
	default:
		text = listed(d.properties(), g)
	}
	t.print(text)
	return nil
}

// listed returns the properties in the form that is asked for. Quotes in a value are
// escaped, which systemd's leaves out: its output is read by shells, and values come from devices.
func listed(properties []string, g *cli.Given) string {
	only := "," + strings.Join(g.All(infoProperty), ",") + ","
	text := ""
	for _, kv := range properties {
		key, value, _ := strings.Cut(kv, "=")
		switch {
		// The last of "KEY,KEY" is between commas too, so that no key fits a part of another.
		case g.Has(infoProperty) && !strings.Contains(only, ","+key+","):
			continue
		case g.Has(infoValue):
			kv = value
		case g.Has(infoExport) || g.Has(infoPrefix):
			kv = g.Last(infoPrefix, "") + key + "='" + strings.Join(strings.Split(value, "'"), `'\''`) + "'"
		}
		text += kv + "\n"
	}
	return text
}

// numbersOf prints the numbers of the device that a file lies on, as MAJOR:MINOR or for a shell. Links
// are followed.
func (t *tool) numbersOf(file string, g *cli.Given) error {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return sys.PathError("stat", file, err)
	}
	before, between := "", ":"
	if g.Has(infoExport) || g.Has(infoPrefix) {
		prefix := g.Last(infoPrefix, "INFO_")
		before, between = prefix+"MAJOR=", "\n"+prefix+"MINOR="
	}
	dev := uint64(st.Dev)
	t.print(before + strconv.Itoa(int(unix.Major(dev))) + between + strconv.Itoa(int(unix.Minor(dev))) + "\n")
	return nil
}

// exportDB prints all devices, those without a record too.
func (t *tool) exportDB() error {
	for _, at := range t.sys.Scan(sysfs.Everything) {
		if d, err := t.load(at.Devpath); err == nil {
			t.print(d.all() + "\n")
		}
	}
	return nil
}

// cleanup removes what an initramfs leaves in the database, but for records that are to
// persist: they have the sticky bit.
func (t *tool) cleanup() error {
	if unix.Geteuid() != 0 {
		return unix.EPERM
	}
	// Which records stay is known when data was looked at; the other directories go by that.
	kept := map[string]bool{}
	t.clear("data", kept)
	for _, dir := range [...]string{"tags", "links", "static_node-tags"} { // in the last are no names of records
		for _, name := range sys.ReadDir(t.run + "/" + dir) {
			t.clear(dir+"/"+name, kept)
		}
	}
	// udevd's links between devices and their inotify watches.
	t.clear("watch", nil)
	// The queue is the early boot's, and nothing would take it away.
	unix.Unlink(t.run + "/queue")
	return nil
}

// clear removes the files in a directory of udev's but those of records that are kept. In data it sees
// which are: they have the sticky bit, by systemd's OPTIONS+="db_persist", which an initramfs says of
// disks that it has activated and the real system must go on with.
func (t *tool) clear(dir string, kept map[string]bool) {
	// Names come from a directory that is opened once, and no link is followed: what is removed lies
	// in udev's directory.
	fd, err := unix.Open(t.run+"/"+dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	for _, name := range sys.List(fd) {
		var st unix.Stat_t
		if dir == "data" && unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_ISVTX != 0 {
			kept[name] = true
		}
		if !kept[name] {
			unix.Unlinkat(fd, name, 0)
		}
	}
	unix.Close(fd)
}

// walk prints a device and those above it as keys of udev's rules.
func (t *tool) walk(devpath string) error {
	t.print("\nThe device first, then each that it lies below. A rule may combine the device's keys\n" +
		"with those of one device above it.\n\n")
	// The keys for a parent end in S: KERNELS, SUBSYSTEMS, DRIVERS, ATTRS.
	what, many := "  looking at device '", ""
	for ; devpath != ""; devpath = t.above(devpath) {
		d, err := t.load(devpath)
		if err != nil {
			return err
		}
		t.print(what + devpath + "':\n" +
			"    KERNEL" + many + "==\"" + sysname(d.Devpath) + "\"\n" +
			"    SUBSYSTEM" + many + "==\"" + d.Subsystem + "\"\n" +
			"    DRIVER" + many + "==\"" + d.driver + "\"\n" +
			t.attributes(string(t.sys)+devpath, "", many) + "\n")
		what, many = "  looking at parent device '", "S"
	}
	return nil
}

// attributes returns a line for each attribute whose value can be printed. Directories
// that are devices of their own are left out, and links, which lead to other devices. Below is the path
// from the device's directory to dir, with a slash behind it, and many the S of a parent's keys.
func (t *tool) attributes(dir, below, many string) string {
	names := sys.ReadDir(dir)
	sys.Sort(names)
	text := ""
	for _, name := range names {
		var st unix.Stat_t
		path := dir + "/" + name
		if unix.Lstat(path, &st) != nil {
			continue
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			if !sys.Exists(unix.AT_FDCWD, path+"/uevent") {
				text += t.attributes(path, below+name+"/", many)
			}
			continue
		case unix.S_IFREG:
		default:
			continue
		}
		switch name {
		// Rules match these by the event's properties, or not at all.
		case "uevent", "dev", "modalias", "resource":
			continue
		}
		value := "(not readable)"
		// An attribute that is only for writing has no value to show.
		if st.Mode&0o444 != 0 {
			var err error
			if value, err = sys.ReadAttribute(path); err != nil {
				continue
			}
		}
		value = strings.TrimRight(value, "\r\n")
		// Paths are of no use in a rule, and other bytes could confuse the terminal.
		if strings.HasPrefix(value, "/") || uevent.Printable(value) != value {
			continue
		}
		text += "    ATTR" + many + "{" + below + name + "}==\"" + value + "\"\n"
	}
	return text
}
