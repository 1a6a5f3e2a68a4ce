package attributes

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

const devpath = "/devices/pci0/usb1/1-1"

// device returns a sysfs with a device that has a few attributes, beside files that are none of its.
func device(t *testing.T) *hotplugtest.Sysfs {
	s := hotplugtest.NewSysfs(t)
	s.Add(devpath, "usb", "", "PRODUCT=46d/c52b/1211", "POWER_SUPPLY_CAPACITY=7")
	for name, text := range map[string]string{"value": "0\n", "power/control": "on\n", "1-1:1.0/x": "0\n"} {
		hotplugtest.WriteFile(t, s.Path(devpath+"/"+name), text)
	}
	hotplugtest.WriteFile(t, s.Path("/secret"), "0\n")
	hotplugtest.Must(t, os.Symlink("../../../../secret", s.Path(devpath+"/link")))
	hotplugtest.Must(t, os.Symlink("..", s.Path(devpath+"/up")))
	hotplugtest.WriteFile(t, s.Path("/devices/pci0/usb1/value"), "0\n")
	hotplugtest.Must(t, unix.Mkfifo(s.Path(devpath+"/fifo"), 0o600))
	return s
}

func event(t *testing.T, action string, vars ...string) *uevent.Event {
	return hotplugtest.NewEvent(t, append([]string{"ACTION=" + action, "DEVPATH=" + devpath, "SUBSYSTEM=usb"}, vars...)...)
}

// TestSet sets values and modes, never through a link, and never another device's.
func TestSet(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	for _, c := range []struct {
		name  string
		event *uevent.Event
		a     nodes.Attribute
		file  string // below /sys, that is looked at
		want  string // its text, or its mode and owner
		err   error
	}{
		{"value", event(t, "add"), nodes.Attribute{Path: "value", Value: "1"}, devpath + "/value", "1\n", nil},
		{"value below", event(t, "bind"), nodes.Attribute{Path: "power/control", Value: "au"}, devpath + "/power/control", "au\n", nil},
		{"another device's battery is at another level", event(t, "add", "PRODUCT=46d/c52b/1211", "POWER_SUPPLY_CAPACITY=8"), nodes.Attribute{Path: "value", Value: "1"}, devpath + "/value", "1\n", nil},
		{"mode", event(t, "add"), nodes.Attribute{Path: "value", Mode: 0o640, UID: 3, GID: 4}, devpath + "/value", "640 3 4", nil},
		{"another device", event(t, "add", "PRODUCT=46d/c52c/1211"), nodes.Attribute{Path: "value", Value: "1"}, devpath + "/value", "0\n", nil},
		{"missing", event(t, "add"), nodes.Attribute{Path: "nothing", Value: "1"}, devpath + "/value", "0\n", unix.ENOENT},
		{"missing without a driver", event(t, "add", "MODALIAS=usb:x"), nodes.Attribute{Path: "nothing", Value: "1"}, devpath + "/value", "0\n", nil},
		{"missing with a driver", event(t, "bind", "MODALIAS=usb:x", "DRIVER=y"), nodes.Attribute{Path: "nothing", Value: "1"}, devpath + "/value", "0\n", unix.ENOENT},
		{"link", event(t, "add"), nodes.Attribute{Path: "link", Value: "1"}, "/secret", "0\n", unix.ELOOP},
		{"link, mode", event(t, "add"), nodes.Attribute{Path: "link", Mode: 0o666}, "/secret", "644 0 0", unix.ELOOP},
		{"through a link", event(t, "add"), nodes.Attribute{Path: "up/value", Value: "1"}, "/devices/pci0/usb1/value", "0\n", unix.ENOTDIR},
		{"directory", event(t, "add"), nodes.Attribute{Path: "power", Mode: 0o777}, devpath + "/power", "755 0 0", unix.EISDIR},
		{"FIFO", event(t, "add"), nodes.Attribute{Path: "fifo", Value: "1"}, devpath + "/value", "0\n", unix.ENXIO},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := device(t)
			var errs []error
			hotplugtest.Within(t, "the write", func() {
				errs = Set(s.FS, &nodes.Plan{Event: c.event, Attributes: []*nodes.Attribute{&c.a}})
			})
			if c.name == "another device" {
				errs = append(errs, nil)
			}
			if len(errs) != 1 || errs[0] != c.err {
				t.Errorf("errors %v, want %v", errs, c.err)
			}
			got := hotplugtest.Contents
			if strings.Contains(c.want, " ") {
				got = modeAndOwner
			}
			if got := got(t, s.Path(c.file)); got != c.want {
				t.Errorf("%s is %q, want %q", c.file, got, c.want)
			}
		})
	}
}

func modeAndOwner(t testing.TB, path string) string {
	var st unix.Stat_t
	hotplugtest.Must(t, unix.Stat(path, &st))
	return strings.Join([]string{octal(st.Mode & 0o7777), octal(st.Uid), octal(st.Gid)}, " ")
}

func octal(n uint32) string {
	text := strings.TrimLeft(nodes.Octal(n), "0")
	if text == "" {
		return "0"
	}
	return text
}

// TestSetGone does nothing for a device that has gone, and leaves a value as it is that is right.
func TestSetGone(t *testing.T) {
	t.Parallel()
	s := device(t)
	p := &nodes.Plan{Event: event(t, "add"), Attributes: []*nodes.Attribute{{Path: "value", Value: "0"}}}
	before := modified(t, s.Path(devpath+"/value"))
	if errs := Set(s.FS, p); len(errs) != 1 || errs[0] != nil || modified(t, s.Path(devpath+"/value")) != before {
		t.Errorf("a value that is right: %v, or it was written", errs)
	}
	s.Remove(devpath)
	if errs := Set(s.FS, p); errs != nil {
		t.Errorf("a device that has gone: %v", errs)
	}
	if errs := Set("/nonexistent", p); errs != nil {
		t.Errorf("no sysfs: %v", errs)
	}
}

func modified(t *testing.T, path string) unix.Timespec {
	var st unix.Stat_t
	hotplugtest.Must(t, unix.Stat(path, &st))
	return st.Mtim
}
