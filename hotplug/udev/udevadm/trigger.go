package udevadm

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/udev"
	"devspool/hotplug/uevent"
)

var triggerOptions = options{
	{'v', "verbose", none, "print the devices"},
	{'n', "dry-run", none, "do nothing else"},
	{'q', "quiet", none, "do not say what failed"},
	{'t', "type", required, "devices, subsystems (and drivers and modules) or all"},
	{'c', "action", required, "add, remove, change, ...; change where nothing is said"},
	{'s', "subsystem-match", required, "only devices of such a subsystem"},
	{'S', "subsystem-nomatch", required, "no devices of such a subsystem"},
	{'a', "attr-match", required, "only devices with an attribute FILE[=VALUE]"},
	{'A', "attr-nomatch", required, "no devices with an attribute FILE[=VALUE]"},
	{'p', "property-match", required, "only devices with a property KEY=VALUE"},
	{'g', "tag-match", required, "only devices with a tag"},
	{'y', "sysname-match", required, "only devices of such a name in /sys"},
	{0, "name-match", required, "only the device of this node, and those below it"},
	{'b', "parent-match", required, "only this device and those below it"},
	{0, "initialized-match", none, "only devices that were set up"},
	{0, "initialized-nomatch", none, "only devices that were not set up"},
	{'w', "settle", none, "wait until the events are handled"},
	{0, "wait-daemon", optional, "wait until the device manager answers"},
	{0, "uuid", none, "print the UUID of each event"},
	{0, "prioritized-subsystem", required, "devices of these subsystems first, by commas"},
}

// selection says which devices are meant. Of each list one pattern is to match, but of
// attributes all.
type selection struct {
	subsystems, notSubsystems []string
	attributes, notAttributes []string
	properties, tags          []string
	sysnames, roots           []string // roots are devpaths
	initialized               int      // 1 for only those that are, -1 for only those that are not
}

// request is what trigger is asked for.
type request struct {
	selection
	action                      string
	kind                        string
	first                       []string
	verbose, dry, quiet, settle bool
	uuid                        bool
}

func (t *tool) trigger(args []string) error {
	if t.inChroot() {
		return nil
	}
	r := request{action: uevent.Change, kind: "devices"}
	below := func(name, within string) error {
		devpath, err := t.devpath(name, within)
		r.roots = append(r.roots, devpath)
		return err
	}
	var wait string
	operands, err := t.parse(args, "trigger", triggerOptions, func(name, value string) error {
		list := map[string]*[]string{
			"subsystem-match": &r.subsystems, "subsystem-nomatch": &r.notSubsystems, "attr-match": &r.attributes,
			"attr-nomatch": &r.notAttributes, "property-match": &r.properties, "tag-match": &r.tags, "sysname-match": &r.sysnames,
		}[name]
		if list != nil {
			*list = append(*list, value)
			return nil
		}
		switch name {
		case "verbose":
			r.verbose = true
		case "dry-run":
			r.dry = true
		case "quiet":
			r.quiet = true
		case "type":
			r.kind = value
			if value != "devices" && value != "subsystems" && value != "all" {
				return errors.New("there is no type " + value)
			}
		case "action":
			r.action = value
			if !knownAction(value) {
				return errors.New("there is no action " + value)
			}
		case "name-match":
			return below(value, t.dev)
		case "parent-match":
			return below(value, "")
		case "initialized-match":
			r.initialized = 1
		case "initialized-nomatch":
			r.initialized = -1
		case "settle":
			r.settle = true
		case "wait-daemon":
			if wait = value; value == "" {
				wait = "5"
			}
		case "uuid":
			r.uuid = true
		case "prioritized-subsystem":
			r.first = append(r.first, strings.Split(value, ",")...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range operands {
		if err := below(name, ""); err != nil {
			return err
		}
	}
	if wait != "" {
		limit, err := seconds(wait)
		if err != nil {
			return err
		}
		if err := t.ping(limit); err != nil {
			return errors.New("the device manager does not answer: " + err.Error())
		}
	}
	return t.request(&r)
}

func knownAction(action string) bool {
	switch action {
	case uevent.Add, uevent.Remove, uevent.Change, uevent.Move, uevent.Online, uevent.Offline, uevent.Bind, uevent.Unbind:
		return true
	}
	return false
}

// request asks the kernel for the events, and waits for them where it is to.
func (t *tool) request(r *request) error {
	devpaths := t.prioritize(t.selected(r), r.first)
	var listener *listener
	if r.settle && !r.dry {
		var err error
		if listener, err = listen(udev.Group); err != nil {
			return err
		}
		defer listener.close()
	}
	var failed error
	waiting := map[string]bool{} // UUIDs, or devpaths where the kernel knows none
	for _, devpath := range devpaths {
		if r.verbose {
			t.print(string(t.sys) + devpath + "\n")
		}
		if r.dry {
			continue
		}
		id, err := t.ask(devpath, r.action, r.settle || r.uuid)
		switch {
		case err == unix.ENOENT, err == unix.ENODEV: // it has left
		case err != nil:
			failed = errSilent
			if !r.quiet {
				t.failed("trigger: ", &os.PathError{Op: "write", Path: string(t.sys) + devpath + "/uevent", Err: err})
			}
		case r.settle && id == "":
			waiting[devpath] = true
		case r.settle:
			waiting[id] = true
		}
		if r.uuid && id != "" {
			t.print(id + "\n")
		}
	}
	for len(waiting) > 0 {
		properties, err := listener.next(-1)
		if err != nil {
			return err
		}
		for _, kv := range properties {
			key, value, _ := strings.Cut(kv, "=")
			if key == "SYNTH_UUID" || key == "DEVPATH" {
				delete(waiting, value)
			}
		}
	}
	return failed
}

// ask writes an action into a device's uevent file, with a UUID that the event will have
// as SYNTH_UUID if it is to be known again. The id is "" for a kernel before 4.13.
func (t *tool) ask(devpath, action string, known bool) (id string, err error) {
	if !known {
		return "", t.sys.Write(devpath+"/uevent", action)
	}
	id = newUUID()
	err = t.sys.Write(devpath+"/uevent", action+" "+id)
	if err == unix.EINVAL {
		return "", t.sys.Write(devpath+"/uevent", action)
	}
	return id, err
}

// newUUID returns a random UUID (version 4).
func newUUID() string {
	var b [16]byte
	unix.Getrandom(b[:], 0)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	const hex = "0123456789abcdef"
	text := make([]byte, 0, 36)
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			text = append(text, '-')
		}
		text = append(text, hex[c>>4], hex[c&15])
	}
	return string(text)
}

// selected returns the devpaths of the devices that are meant, parents before children.
func (t *tool) selected(r *request) (devpaths []string) {
	var all []string
	if r.kind != "devices" {
		all = t.subsystems()
	}
	if r.kind != "subsystems" {
		for _, d := range t.sys.Scan(sysfs.Everything) {
			all = append(all, d.Devpath)
		}
	}
	for _, devpath := range all {
		if t.meant(devpath, &r.selection) {
			devpaths = append(devpaths, devpath)
		}
	}
	return devpaths
}

// subsystems returns the devpaths of buses, of their drivers and of modules. Not all of
// them have a uevent file.
func (t *tool) subsystems() (devpaths []string) {
	list := func(dir string) []string { return sorted(sys.ReadDir(string(t.sys) + dir)) }
	for _, bus := range list("/bus") {
		bus = "/bus/" + bus
		devpaths = append(devpaths, bus)
		for i, driver := range list(bus + "/drivers") {
			if i == 0 {
				devpaths = append(devpaths, bus+"/drivers")
			}
			devpaths = append(devpaths, bus+"/drivers/"+driver)
		}
	}
	for _, module := range list("/module") {
		devpaths = append(devpaths, "/module/"+module)
	}
	return devpaths
}

// prioritize puts devices of some subsystems, and those that they lie below, before the
// others.
func (t *tool) prioritize(devpaths, subsystems []string) (ordered []string) {
	if len(subsystems) == 0 {
		return devpaths
	}
	taken := map[string]bool{}
	take := func(devpath string) {
		if !taken[devpath] {
			taken[devpath] = true
			ordered = append(ordered, devpath)
		}
	}
	for _, subsystem := range subsystems {
		for i, devpath := range devpaths {
			if t.subsystem(devpath) != subsystem {
				continue
			}
			for _, above := range devpaths[:i] {
				if strings.HasPrefix(devpath, above+"/") {
					take(above)
				}
			}
			take(devpath)
		}
	}
	for _, devpath := range devpaths {
		take(devpath)
	}
	return ordered
}

// meant reports whether a device is one of those that are asked for.
func (t *tool) meant(devpath string, s *selection) bool {
	subsystem := t.subsystem(devpath)
	if len(s.subsystems) > 0 && !anyMatches(s.subsystems, subsystem) || anyMatches(s.notSubsystems, subsystem) {
		return false
	}
	name := strings.ReplaceAll(devpath[strings.LastIndexByte(devpath, '/')+1:], "!", "/")
	if len(s.sysnames) > 0 && !anyMatches(s.sysnames, name) {
		return false
	}
	if len(s.roots) > 0 && !isBelow(devpath, s.roots) {
		return false
	}
	for _, want := range s.attributes {
		if !t.hasAttribute(devpath, want) {
			return false
		}
	}
	for _, want := range s.notAttributes {
		if t.hasAttribute(devpath, want) {
			return false
		}
	}
	if s.initialized == 0 && len(s.properties) == 0 && len(s.tags) == 0 {
		return true
	}
	d, err := t.load(devpath)
	return err == nil && (s.initialized == 0 || d.initialized == (s.initialized > 0)) && d.has(s.properties) && d.tagged(s.tags)
}

func anyMatches(patterns []string, text string) bool {
	for _, pattern := range patterns {
		if matches(pattern, text) {
			return true
		}
	}
	return false
}

func isBelow(devpath string, roots []string) bool {
	for _, root := range roots {
		if devpath == root || strings.HasPrefix(devpath, root+"/") {
			return true
		}
	}
	return false
}

// hasAttribute reports whether a device has an attribute, FILE or FILE=PATTERN.
func (t *tool) hasAttribute(devpath, want string) bool {
	file, pattern, valued := strings.Cut(want, "=")
	if file == "" || strings.Contains("/"+file+"/", "/../") {
		return false
	}
	text, err := sys.ReadAttribute(string(t.sys) + devpath + "/" + file)
	return err == nil && (!valued || matches(pattern, strings.TrimRight(text, "\r\n")))
}

// has reports whether a device has one of the properties, both parts of which are patterns.
func (d *device) has(properties []string) bool {
	if len(properties) == 0 {
		return true
	}
	for _, want := range properties {
		wantKey, pattern, _ := strings.Cut(want, "=")
		for _, kv := range d.properties() {
			key, value, _ := strings.Cut(kv, "=")
			if matches(wantKey, key) && matches(pattern, value) {
				return true
			}
		}
	}
	return false
}

func (d *device) tagged(tags []string) bool {
	if len(tags) == 0 {
		return true
	}
	for _, tag := range tags {
		if contains(d.record.Current, tag) {
			return true
		}
	}
	return false
}
