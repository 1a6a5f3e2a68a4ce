package udevadm

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
)

var infoOptions = options{
	{'q', "query", required, "name, symlink, path, property or all"},
	{0, "property", required, "only properties of these names, by commas"},
	{0, "value", none, "only the values of properties"},
	{'p', "path", required, "the device at this path below /sys"},
	{'n', "name", required, "the device of this node or link below /dev"},
	{'r', "root", none, "names with /dev/ before them"},
	{'a', "attribute-walk", none, "attributes of the device and of those above it"},
	{'d', "device-id-of-file", required, "numbers of the device that this file lies on"},
	{'x', "export", none, "KEY='VALUE', for a shell"},
	{'P', "export-prefix", required, "as --export, with this before each key"},
	{'e', "export-db", none, "all of all devices"},
	{'c', "cleanup-db", none, "remove all records that are not to persist"},
	{'w', "wait-for-initialization", optional, "wait until the device was set up"},
	{0, "no-pager", none, "nothing: there is no pager"},
	{0, "query-all", none, ""},
}

// query is what info is asked for.
type query struct {
	kind      string
	only      []string // properties; nil for all
	value     bool
	root      bool
	export    bool
	prefix    string
	walk      bool
	wait      string // for how long; "" for not at all
	operation string // an option that needs no device
}

func (t *tool) info(args []string) error {
	q := query{kind: "all"}
	var devpaths []string
	var file string
	add := func(name, within string) error {
		devpath, err := t.devpath(name, within)
		devpaths = append(devpaths, devpath)
		return err
	}
	operands, err := t.parse(args, "info", infoOptions, func(name, value string) error {
		switch name {
		case "query":
			q.kind = value
			switch value {
			case "name", "symlink", "path", "property", "all", "env":
			default:
				return errors.New("there is no query " + value)
			}
		case "property":
			q.only = append(q.only, strings.Split(value, ",")...)
		case "value":
			q.value = true
		case "path":
			return add(value, string(t.sys))
		case "name":
			return add(value, t.dev)
		case "root":
			q.root = true
		case "attribute-walk":
			q.walk = true
		case "device-id-of-file":
			q.operation, file = name, value
		case "export-db", "cleanup-db":
			q.operation = name
		case "export":
			q.export = true
		case "export-prefix":
			q.export, q.prefix = true, value
		case "wait-for-initialization":
			if q.wait = value; value == "" {
				q.wait = "infinity"
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	switch q.operation {
	case "device-id-of-file":
		return t.numbersOf(file)
	case "export-db":
		return t.exportDB()
	case "cleanup-db":
		return t.cleanup()
	}
	for _, name := range operands {
		if err := add(name, ""); err != nil {
			return err
		}
	}
	if len(devpaths) == 0 {
		return errors.New("name a device")
	}
	for _, devpath := range devpaths {
		if err := t.show(devpath, &q); err != nil {
			return err
		}
	}
	return nil
}

// show prints what is asked of one device.
func (t *tool) show(devpath string, q *query) error {
	if q.wait != "" {
		limit, err := seconds(q.wait)
		if err != nil {
			return err
		}
		if !within(limit, func() bool { d, err := t.load(devpath); return err == nil && d.initialized }) {
			return unix.ETIMEDOUT
		}
	}
	if q.walk {
		return t.walk(devpath)
	}
	d, err := t.load(devpath)
	if err != nil {
		return &os.PathError{Op: "no device", Path: devpath, Err: err}
	}
	before := ""
	if q.root {
		before = "/dev/"
	}
	switch q.kind {
	case "path":
		t.print(devpath + "\n")
	case "name":
		if d.Devname == "" {
			return errors.New("no node belongs to " + devpath)
		}
		t.print(before + d.Devname + "\n")
	case "symlink":
		t.print(d.links(" ", before) + "\n")
	case "all":
		t.print(d.all() + "\n")
	default:
		t.print(q.properties(d))
	}
	return nil
}

func (q *query) properties(d *device) string {
	text := ""
	for _, kv := range d.properties() {
		key, value, _ := strings.Cut(kv, "=")
		if q.only != nil && !contains(q.only, key) {
			continue
		}
		switch {
		case q.value:
			text += value + "\n"
		case q.export:
			text += q.prefix + key + "='" + strings.ReplaceAll(value, "'", `'\''`) + "'\n"
		default:
			text += kv + "\n"
		}
	}
	return text
}

func contains(list []string, text string) bool {
	for _, s := range list {
		if s == text {
			return true
		}
	}
	return false
}

func (t *tool) numbersOf(file string) error {
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		return &os.PathError{Op: "stat", Path: file, Err: err}
	}
	dev := uint64(st.Dev)
	t.print(strconv.Itoa(int(unix.Major(dev))) + ":" + strconv.Itoa(int(unix.Minor(dev))) + "\n")
	return nil
}

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
	if err := needRoot(); err != nil {
		return err
	}
	kept := map[string]bool{}
	t.clear("data", func(id string, st *unix.Stat_t) bool {
		kept[id] = st.Mode&unix.S_ISVTX != 0
		return !kept[id]
	})
	every := func(string, *unix.Stat_t) bool { return true }
	for _, dir := range []string{"tags", "links"} {
		for _, name := range sys.ReadDir(t.run + "/" + dir) {
			t.clear(dir+"/"+name, func(id string, _ *unix.Stat_t) bool { return !kept[id] })
		}
	}
	for _, name := range sys.ReadDir(t.run + "/static_node-tags") {
		t.clear("static_node-tags/"+name, every)
	}
	t.clear("watch", every)
	unix.Unlink(t.run + "/queue")
	return nil
}

// clear removes those files in a directory of udev's that remove approves of.
func (t *tool) clear(dir string, remove func(name string, st *unix.Stat_t) bool) {
	fd, err := unix.Open(t.run+"/"+dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	for _, name := range sys.List(fd) {
		var st unix.Stat_t
		if unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && remove(name, &st) {
			unix.Unlinkat(fd, name, 0)
		}
	}
}

// walk prints a device and those above it as keys of udev's rules.
func (t *tool) walk(devpath string) error {
	t.print("\nThe device first, then each that it lies below. A rule may combine the device's keys\n" +
		"with those of one device above it.\n\n")
	what, many := "  looking at device '", ""
	for ; devpath != ""; devpath = t.above(devpath) {
		d, err := t.load(devpath)
		if err != nil {
			return err
		}
		t.print(what + devpath + "':\n" +
			"    KERNEL" + many + "==\"" + d.sysname() + "\"\n" +
			"    SUBSYSTEM" + many + "==\"" + d.Subsystem + "\"\n" +
			"    DRIVER" + many + "==\"" + d.driver + "\"\n" +
			t.attributes(string(t.sys)+devpath, "", many) + "\n")
		what, many = "  looking at parent device '", "S"
	}
	return nil
}

// attributes returns a line for each attribute whose value can be printed. Directories
// that are devices of their own are left out.
func (t *tool) attributes(dir, below, many string) string {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	names := sys.List(fd)
	unix.Close(fd)
	text := ""
	for _, name := range sorted(names) {
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
		case "uevent", "dev", "modalias", "resource":
			continue
		}
		value := "(not readable)"
		if st.Mode&0o444 != 0 {
			if value, err = sys.ReadAttribute(path); err != nil {
				continue
			}
		}
		value = strings.TrimRight(value, "\r\n")
		if strings.HasPrefix(value, "/") || uevent.Printable(value) != value {
			continue
		}
		text += "    ATTR" + many + "{" + below + name + "}==\"" + value + "\"\n"
	}
	return text
}

// sorted returns names in order. (They are few; what the packages for that bring is not.)
func sorted(names []string) []string {
	for i := range names {
		for j := i; j > 0 && names[j] < names[j-1]; j-- {
			names[j], names[j-1] = names[j-1], names[j]
		}
	}
	return names
}
