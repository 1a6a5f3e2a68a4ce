package systemtest

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// floors lists the packages of the program from the ground up. A package may import
// those on lower floors only; docs/architecture.md says what each is for.
var floors = [][]string{
	{"hotplug/uevent", "hotplug/sys", "hotplug/handoff", "hotplug/cli", "hotplug/glob", "conf/ere", "nodes/identity/superblock"},
	{"hotplug/log", "hotplug/procfs", "hotplug/pieces", "nodes/journal"},
	{"hotplug/sysfs"},
	{"nodes", "hotplug/netlink", "hotplug/contents", "hotplug/firmware", "hotplug/daemon", "hotplug/spool"},
	{"conf", "hotplug/attributes", "hotplug/command", "hotplug/modules", "hotplug/spool/broker", "nodes/identity"},
	{"hotplug/scheduler", "hotplug/reload", "hotplug/spool/applet", "hotplug/info", "hotplug/udev", "hotplug/modules/modprobe"},
	{"hotplug/coldplug", "hotplug/eventlog", "hotplug/sink", "hotplug/udev/udevadm"},
	{"hotplug/control"},
	{"hotplug/loop", "hotplug/helper", "initramfs/pid1"},
	{"hotplug"},
	{"hotplug/applets"},
	{"."},
}

// tools are packages that are no part of the program: nothing in it imports them.
var tools = []string{"hotplug/bench", "hotplug/hotplugtest", "hotplug/hotplugtest/board", "hotplug/kerneltest", "hotplug/kerneltest/build", "hotplug/kerneltest/build/striplines", "hotplug/systemtest", "initramfs", "initramfs/boot", "initramfs/mkinitramfs"}

// TestArrows shows that imports between packages run downward, and that the table
// of floors names every package.
func TestArrows(t *testing.T) {
	for _, tags := range []string{"", "nospool", "nonames", "noudev", "noboot", "nospool,nonames,noudev,noboot"} {
		checkArrows(t, tags)
	}
}

// TestArchitecture shows that docs/architecture.md says of every package what it is for.
func TestArchitecture(t *testing.T) {
	text, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, floor := range floors {
		for _, name := range floor {
			if name != "." && !strings.Contains(string(text), "\n| `"+name+"` |") {
				t.Errorf("no row of its table is about %s", name)
			}
		}
	}
}

func checkArrows(t *testing.T, tags string) {
	t.Helper()
	out, err := exec.Command("go", "list", "-tags="+tags, "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "devspool/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		from := room(words[0])
		if slices.Contains(tools, from) {
			continue
		}
		high := floorOf(from)
		if high < 0 {
			t.Errorf("package %s stands on no floor: add it to the table in hotplug/systemtest/rooms_test.go and to docs/architecture.md", from)
			continue
		}
		for _, path := range words[1:] {
			if path != "devspool" && !strings.HasPrefix(path, "devspool/") {
				continue
			}
			to := room(path)
			switch low := floorOf(to); {
			case slices.Contains(tools, to):
				t.Errorf("%s imports %s, which is for tests only", from, to)
			case low >= high:
				t.Errorf("%s (floor %d) imports %s (floor %d): arrows run downward. Move what both need to a floor below, "+
					"or let %s take a function or an interface that the package above passes in", from, high+1, to, low+1, from)
			}
		}
	}
}

// room returns a package's path below the module, or "." for its root.
func room(path string) string {
	if path == "devspool" {
		return "."
	}
	return strings.TrimPrefix(path, "devspool/")
}

func floorOf(room string) int {
	return slices.IndexFunc(floors, func(floor []string) bool { return slices.Contains(floor, room) })
}
