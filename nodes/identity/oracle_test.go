package identity

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/uevent"
)

// oracleScript runs udev's rules over devices of a tree that stands for /sys, in
// namespaces of its own: neither /dev nor /run nor any interface is the machine's. It
// reads lines with an action, a devpath and the name of its file in udev's database.
const oracleScript = `
mount --make-rprivate / || exit 1
mount --bind "$1" /sys && mount -o remount,bind,ro /sys || exit 1
mount -t tmpfs none /run && mount -t tmpfs none /dev || exit 1
mkdir -p /run/udev
export SYSTEMD_DEVICE_VERIFY_SYSFS=0
while read -r action devpath id; do
	printf '=== %s\n' "$devpath"
	udevadm test -a "$action" "/sys$devpath" 2>/dev/null
	sed -n 's/^L:/LINK_PRIORITY=/p' "/run/udev/data/$id" 2>/dev/null
done
:
`

// oracle returns what udev says of each device: its properties.
func oracle(t *testing.T, sys string, events []*uevent.Event) map[string][]string {
	t.Helper()
	var asked strings.Builder
	for _, e := range events {
		id := e.ID()
		if n, is := e.Get("IFINDEX"); is {
			id = "n" + n
		}
		asked.WriteString(e.Action + " " + e.Devpath + " " + id + "\n")
	}
	return runOracle(t, oracleScript, sys, asked.String())
}

func runOracle(t *testing.T, script, argument, asked string) map[string][]string {
	t.Helper()
	hotplugtest.NeedRoot(t)
	if _, err := exec.LookPath("udevadm"); err != nil {
		line := "NOT TESTED: " + t.Name() + ": needs udevadm (Debian's udev)"
		if os.Getenv("DEVSPOOL_TEST_ALL") == "1" {
			t.Fatal(line)
		}
		t.Skip(line)
	}
	c := exec.Command("unshare", "-mn", "sh", "-c", script, "sh", argument)
	c.Stdin = strings.NewReader(asked)
	c.Stderr = os.Stderr
	out, err := c.Output()
	hotplugtest.Must(t, err)
	said := map[string][]string{}
	devpath := ""
	for _, line := range strings.Split(string(out), "\n") {
		if next, is := strings.CutPrefix(line, "=== "); is {
			devpath = next
			continue
		}
		if _, _, is := strings.Cut(line, "="); is && !strings.HasPrefix(line, " ") {
			said[devpath] = append(said[devpath], line)
		}
	}
	return said
}

// difference is a line of testdata/differences.txt: where, what and why.
type difference struct {
	side, device, what, why string
	seen                    bool
}

func loadDifferences(t *testing.T) (all []*difference) {
	t.Helper()
	for i, line := range strings.Split(hotplugtest.Contents(t, "testdata/differences.txt"), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.SplitN(line, " ", 4)
		if len(parts) != 4 {
			t.Fatalf("differences.txt:%d: %q", i+1, line)
		}
		side, mayBe := strings.CutSuffix(parts[0], "?") // by rules that are not always installed
		all = append(all, &difference{seen: mayBe, side: side, device: parts[1], what: parts[2], why: parts[3]})
	}
	return all
}

// glob matches with * for anything, slashes too.
func glob(pattern, text string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == text
	}
	text, is := strings.CutPrefix(text, first)
	if !is {
		return false
	}
	for i := 0; i <= len(text); i++ {
		if glob(rest, text[i:]) {
			return true
		}
	}
	return false
}

func explained(all []*difference, side, devpath, what string) bool {
	for _, d := range all {
		if d.side == side && glob(d.device, devpath) && glob(d.what, what) {
			d.seen = true
			return true
		}
	}
	return false
}

// items makes one list of what a device got: properties, and links as LINK=path.
func items(id *Identity) (list []string) {
	for _, l := range id.Links {
		list = append(list, "LINK="+l.Path)
		if l.Priority != 0 && !slices.Contains(list, "LINK_PRIORITY="+strconv.Itoa(l.Priority)) {
			list = append(list, "LINK_PRIORITY="+strconv.Itoa(l.Priority))
		}
	}
	return append(list, id.Properties...)
}

// udevItems is items of what udev says. What came with the event is no answer.
func udevItems(e *uevent.Event, said []string) (list []string) {
	for _, kv := range said {
		key, value, _ := strings.Cut(kv, "=")
		if key == "DEVLINKS" {
			for _, link := range strings.Fields(value) {
				list = append(list, "LINK="+strings.TrimPrefix(link, "/dev/"))
			}
			continue
		}
		if strings.HasPrefix(key, ".") || strings.HasPrefix(key, "run: ") {
			continue // not kept
		}
		if was, is := e.Get(key); is && (was == value || key == "DEVNAME") {
			continue
		}
		list = append(list, kv)
	}
	return list
}

// compare compares the two for all devices, but for the differences that are listed.
func compare(t *testing.T, name string, p *Prober, events []*uevent.Event, said map[string][]string, all []*difference) {
	t.Helper()
	for _, e := range events {
		theirs, id := udevItems(e, said[e.Devpath]), p.Identify(e)
		ours := items(id)
		for _, kv := range theirs {
			if !slices.Contains(ours, kv) && !explained(all, "udev", e.Devpath, kv) {
				t.Errorf("%s: only udev has %s %s", name, e.Devpath, kv)
			}
		}
		for _, kv := range ours {
			if strings.HasPrefix(kv, "LINK=block/") || strings.HasPrefix(kv, "LINK=char/") {
				continue // udev does not list these
			}
			if !slices.Contains(theirs, kv) && !explained(all, "ours", e.Devpath, kv) {
				t.Errorf("%s: only we have %s %s", name, e.Devpath, kv)
			}
		}
	}
}

// TestUdev compares the names on each machine with those that Debian's udev gives by its
// rules. testdata/differences.txt lists where they may differ, and why.
func TestUdev(t *testing.T) {
	all := loadDifferences(t)
	for _, m := range loadMachines(t) {
		var events []*uevent.Event
		for _, devpath := range m.devpaths {
			action := "add"
			if strings.HasPrefix(filepath.Base(devpath), "card") && strings.Contains(devpath, "/sound/") {
				action = "change" // what udev's rules have the kernel send once the controls are there
			}
			e, err := m.fs.Event(action, devpath)
			hotplugtest.Must(t, err)
			events = append(events, e)
		}
		compare(t, m.name, &Prober{Sys: m.fs.FS}, events, oracle(t, string(m.fs.FS), events), all)
	}
	for _, d := range all {
		if !d.seen {
			t.Errorf("differences.txt: nothing differs so: %s %s %s", d.side, d.device, d.what)
		}
	}
}
