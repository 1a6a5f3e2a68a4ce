package udevadm

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/cli"
	"devspool/hotplug/glob"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/udev"
	"devspool/hotplug/uevent"
)

// The options of trigger, and their keys.
const triggerOptions = "v:verbose n:dry-run q:quiet t:type= c:action= s:subsystem-match= S:subsystem-nomatch= " +
	"a:attr-match= A:attr-nomatch= p:property-match= g:tag-match= y:sysname-match= 1:name-match= " +
	"b:parent-match= 2:initialized-match 3:initialized-nomatch w:settle 4:wait-daemon? 5:uuid " +
	"6:prioritized-subsystem="

// The keys in triggerOptions.
const (
	triggerVerbose        = 'v'
	triggerDry            = 'n'
	triggerQuiet          = 'q'
	triggerType           = 't'
	triggerAction         = 'c'
	triggerSubsystem      = 's'
	triggerNotSubsystem   = 'S'
	triggerAttribute      = 'a'
	triggerNotAttribute   = 'A'
	triggerProperty       = 'p'
	triggerTag            = 'g'
	triggerSysname        = 'y'
	triggerName           = '1'
	triggerParent         = 'b'
	triggerInitialized    = '2'
	triggerNotInitialized = '3'
	triggerSettle         = 'w'
	triggerDaemon         = '4' // --wait-daemon
	triggerUUID           = '5'
	triggerFirst          = '6' // --prioritized-subsystem
)

// request is what trigger is asked for. Of each list of patterns in the command line one
// is to match, but of attributes one for each name.
type request struct {
	*cli.Given
	action string   // what is written to each uevent file; one of udev.IsAction's
	roots  []string // devpaths of the devices that are meant with all below them; none for all
}

// trigger asks the kernel for an event of each device that the options choose.
func (t *tool) trigger(args []string) error {
	if t.inChroot() {
		return nil
	}
	g, err := t.parse(args, triggerOptions)
	if err != nil {
		return err
	}
	r := request{Given: g, action: g.Last(triggerAction, uevent.Change)}
	kind := g.Last(triggerType, "devices")
	if !udev.IsAction(r.action) || kind != "devices" && kind != "subsystems" && kind != "all" {
		return errors.New("there is no such action or type")
	}
	// The name of --name-match is a node's; a parent and an operand may be any path.
	udev.Add(&g.Operands, g.All(triggerParent)...)
	if r.roots, err = t.devpaths(nil, g.All(triggerName), g.Operands); err != nil {
		return err
	}
	// Without a device manager that listens the events would be lost, so its answer is waited for first.
	if g.Has(triggerDaemon) {
		text := g.Last(triggerDaemon, "")
		if text == "" {
			text = "5"
		}
		limit, err := seconds(text)
		if err == nil {
			err = t.ping(limit)
		}
		if err != nil {
			return err
		}
	}
	return t.request(&r, kind)
}

// request asks the kernel for the events, and waits for them where it is to. A device for which that
// fails costs the exit code, and not the others.
func (t *tool) request(r *request, kind string) error {
	devpaths := t.prioritize(t.selected(r, kind), r.Last(triggerFirst, ""))
	settle, dry := r.Has(triggerSettle), r.Has(triggerDry)
	var listener *listener
	if settle && !dry {
		var err error
		// Before the first request, so that no answer is missed.
		if listener, err = listen(udev.Group); err != nil {
			return err
		}
	}
	var failed error
	waiting := map[string]string{} // devpaths by their UUIDs, or by themselves where the kernel knows none
	for _, devpath := range devpaths {
		if r.Has(triggerVerbose) {
			t.print(string(t.sys) + devpath + "\n")
		}
		// After the output of -v, which shows what would be asked for.
		if dry {
			continue
		}
		id, err := t.ask(devpath, r.action, settle || r.Has(triggerUUID))
		switch {
		// A device that has left is no failure; any other is said, and the rest are asked for all the
		// same.
		case err == unix.ENOENT, err == unix.ENODEV: // it has left
		case err != nil:
			failed = errSilent
			if !r.Has(triggerQuiet) {
				t.failed("trigger: ", sys.PathError("write", string(t.sys)+devpath+"/uevent", err))
			}
		case settle && id == "":
			waiting[devpath] = devpath
		case settle:
			waiting[id] = devpath
		}
		if r.Has(triggerUUID) && id != "" {
			t.print(id + "\n")
		}
	}
	// Without a limit, as udevadm: the device manager sends a message for each event, also where a rule
	// fails.
	for len(waiting) > 0 {
		properties, err := listener.next()
		if err != nil {
			return err
		}
		for _, kv := range properties {
			key, value, _ := strings.Cut(kv, "=")
			// Other events bring UUIDs and devpaths that nothing waits for.
			devpath := waiting[value]
			if devpath == "" || key != "SYNTH_UUID" && key != "DEVPATH" {
				continue
			}
			delete(waiting, value)
			if r.Has(triggerVerbose) {
				t.print("settle " + string(t.sys) + devpath + "\n")
			}
			if r.Has(triggerUUID) && value != devpath {
				t.print("settle " + value + "\n")
			}
		}
	}
	return failed
}

// ask writes an action into a device's uevent file, with a UUID that the event will have
// as SYNTH_UUID if it is to be known again. The id is "" for a kernel before 4.13.
func (t *tool) ask(devpath, action string, known bool) (id string, err error) {
	if known {
		id = sysfs.NewUUID()
	}
	if id != "" {
		action += " " + id
	}
	return id, t.sys.Write(devpath+"/uevent", action)
}

// selected returns the devpaths of the devices that are meant, parents before children.
func (t *tool) selected(r *request, kind string) (devpaths []string) {
	var all []string
	if kind != "devices" {
		all = t.subsystems()
	}
	if kind != "subsystems" {
		for _, d := range t.sys.Scan(sysfs.Everything) {
			udev.Add(&all, d.Devpath)
		}
	}
	for _, devpath := range all {
		// A link to a device of another network namespace leads nowhere.
		if t.exists(devpath) && t.meant(devpath, r) {
			udev.Add(&devpaths, devpath)
		}
	}
	return devpaths
}

// subsystems returns the devpaths of buses, of their drivers and of modules. Not all of
// them have a uevent file.
func (t *tool) subsystems() (devpaths []string) {
	for _, bus := range t.list("/bus") {
		udev.Add(&devpaths, bus)
		if drivers := t.list(bus + "/drivers"); len(drivers) > 0 {
			udev.Add(&devpaths, bus+"/drivers")
			udev.Add(&devpaths, drivers...)
		}
	}
	udev.Add(&devpaths, t.list("/module")...)
	return devpaths
}

// list returns the paths of what is in a directory of /sys, in order.
func (t *tool) list(dir string) []string {
	names := sys.ReadDir(string(t.sys) + dir)
	sys.Sort(names)
	for i := range names {
		names[i] = dir + "/" + names[i]
	}
	return names
}

// prioritize puts devices of some subsystems, and those that they lie below, before the
// others: their events are done first, as a boot wants it of those that the root needs.
func (t *tool) prioritize(devpaths []string, subsystems string) (ordered []string) {
	first := strings.Split(subsystems, ",")
	ranks := map[string]int{} // by devpath: how early a device comes
	for _, devpath := range devpaths {
		at := slices.Index(first, t.subsystem(devpath))
		if subsystems == "" || at < 0 {
			continue
		}
		for above := devpath; above != ""; above = above[:strings.LastIndexByte(above, '/')] {
			ranks[above] = max(ranks[above], len(first)-at)
		}
	}
	for rank := len(first); rank >= 0; rank-- {
		// A scan lists parents before their children, and so they stay.
		for _, devpath := range devpaths {
			if ranks[devpath] == rank {
				udev.Add(&ordered, devpath)
			}
		}
	}
	return ordered
}

// meant reports whether a device is one of those that are asked for.
func (t *tool) meant(devpath string, r *request) bool {
	// Cheap questions come first: there may be thousands of devices.
	one := func(key byte, text string) bool { return !r.Has(key) || anyMatches(r.All(key), text) }
	subsystem := t.subsystem(devpath)
	if !one(triggerSubsystem, subsystem) || anyMatches(r.All(triggerNotSubsystem), subsystem) ||
		!one(triggerSysname, sysname(devpath)) || len(r.roots) > 0 && !isBelow(devpath, r.roots) {
		return false
	}
	wanted := r.All(triggerAttribute)
	for _, want := range wanted {
		if !t.hasAttribute(devpath, want, wanted) {
			return false
		}
	}
	for _, want := range r.All(triggerNotAttribute) {
		if t.hasAttribute(devpath, want, []string{want}) {
			return false
		}
	}
	initialized, not := r.Has(triggerInitialized), r.Has(triggerNotInitialized)
	if !initialized && !not && !r.Has(triggerProperty) && !r.Has(triggerTag) {
		return true
	}
	// The database is read only where it is asked about: that takes most of the time.
	d, err := t.load(devpath)
	if err != nil || initialized && !d.initialized || not && d.initialized || !d.has(r.All(triggerProperty)) {
		return false
	}
	// A tag that it had once does, too.
	tagged := !r.Has(triggerTag)
	for _, tag := range r.All(triggerTag) {
		tagged = tagged || slices.Contains(d.record.Tags, tag)
	}
	return tagged
}

// anyMatches reports whether text matches one of some patterns.
func anyMatches(patterns []string, text string) bool {
	for _, pattern := range patterns {
		if glob.Match(pattern, text, false) {
			return true
		}
	}
	return false
}

// isBelow reports whether a device is one of roots, or lies below one. Roots are whole devpaths: sda is not
// taken for the beginning of sdaa.
func isBelow(devpath string, roots []string) bool {
	for _, root := range roots {
		if strings.HasPrefix(devpath+"/", root+"/") {
			return true
		}
	}
	return false
}

// hasAttribute reports whether a device has the attribute that want names, FILE or FILE=PATTERN, as one
// of wanted allows. Of a link, such as driver, the value is the last name of where it leads. The
// newline at a value's end is not compared. What cannot be read is not there.
func (t *tool) hasAttribute(devpath, want string, wanted []string) bool {
	file, _, _ := strings.Cut(want, "=")
	// The path must not lead out of the device's directory.
	if file == "" || strings.Contains("/"+file+"/", "/../") {
		return false
	}
	path := string(t.sys) + devpath + "/" + file
	text, err := sys.ReadLink(path)
	if err == nil {
		text = text[strings.LastIndexByte(text, '/')+1:]
	} else if text, err = sys.ReadAttribute(path); err != nil {
		return false
	}
	for _, other := range wanted {
		name, pattern, valued := strings.Cut(other, "=")
		if name == file && (!valued || glob.Match(pattern, strings.TrimRight(text, "\r\n"), false)) {
			return true
		}
	}
	return false
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
			if glob.Match(wantKey, key, false) && glob.Match(pattern, value, false) {
				return true
			}
		}
	}
	return false
}
