package identity

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
)

// liveScript runs udev's rules over this machine's own devices; for disks, nodes are made
// in a /dev that is the script's alone.
const liveScript = `
mount --make-rprivate / || exit 1
mount --bind /sys /sys && mount -o remount,bind,ro /sys || exit 1
mount -t tmpfs none /run && mount -t tmpfs none "$1" && mount --bind "$1" /dev || exit 1
mkdir -p /run/udev
while read -r action devpath id name; do
	case $id in b*) numbers=${id#b}; mknod "/dev/$name" b ${numbers%:*} ${numbers#*:};; esac
	printf '=== %s\n' "$devpath"
	udevadm test -a "$action" "/sys$devpath" 2>/dev/null
	sed -n 's/^L:/LINK_PRIORITY=/p' "/run/udev/data/$id" 2>/dev/null
done
:
`

// attachLoop makes a loop device with a partition table and file systems, and takes it
// down after the test.
func attachLoop(t *testing.T) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "a disk.img")
	hotplugtest.Must(t, os.WriteFile(image, nil, 0o600))
	hotplugtest.Must(t, os.Truncate(image, 64<<20))
	for _, c := range []struct {
		input string
		words []string
	}{
		{"label: gpt\nsize=16M, name=\"my root/1\", type=L\nsize=16M, name=swap\n", []string{"sfdisk", "-q", image}},
	} {
		run(t, c.input, c.words...)
	}
	part := filepath.Join(t.TempDir(), "ext4.img")
	hotplugtest.Must(t, os.WriteFile(part, nil, 0o600))
	hotplugtest.Must(t, os.Truncate(part, 16<<20))
	run(t, "", "mkfs.ext4", "-q", "-F", "-L", "a b/c", part)
	run(t, "", "dd", "if="+part, "of="+image, "bs=1M", "seek=1", "conv=notrunc", "status=none")
	node := strings.TrimSpace(run(t, "", "losetup", "-f", "--show", image))
	t.Cleanup(func() {
		run(t, "", "partx", "-d", node)
		run(t, "", "losetup", "-d", node)
	})
	run(t, "", "partx", "-u", node) // a kernel may know no partition tables
	return filepath.Base(node)
}

func run(t *testing.T, input string, words ...string) string {
	t.Helper()
	if _, err := exec.LookPath(words[0]); err != nil {
		line := "NOT TESTED: " + t.Name() + ": needs " + words[0]
		if os.Getenv("DEVSPOOL_TEST_ALL") == "1" {
			t.Fatal(line)
		}
		t.Skip(line)
	}
	c := exec.Command(words[0], words[1:]...)
	c.Stdin = strings.NewReader(input)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", words, err, out)
	}
	return string(out)
}

// TestUdevHere compares names and contents of this machine's devices, and of a loop device
// with a table and an ext4, with what udev says of them.
func TestUdevHere(t *testing.T) {
	hotplugtest.NeedRoot(t)
	loop := attachLoop(t)
	sys := sysfs.FS("/sys")
	hotplugtest.Eventually(t, "partitions of "+loop, func() bool { return sys.Exists("/class/block/" + loop + "p2") })
	found, err := sys.Events("add", "", "/dev")
	hotplugtest.Must(t, err)
	var events []*uevent.Event
	for _, e := range found {
		if name := e.Sysname(); strings.HasPrefix(name, "loop") && !strings.HasPrefix(name, loop) {
			continue // of other tests that run at the same time
		}
		if e.Subsystem != "net" || !strings.Contains(e.Devpath, "/virtual/") {
			events = append(events, e)
		}
	}
	dev := t.TempDir()
	var asked strings.Builder
	for _, e := range events {
		id := e.ID()
		if n, is := e.Get("IFINDEX"); is {
			id = "n" + n
		}
		asked.WriteString(e.Action + " " + e.Devpath + " " + id + " " + e.Devname + "\n")
		if e.Subsystem == "block" {
			run(t, "", "mknod", dev+"/"+e.Devname, "b", strconv.Itoa(int(e.Dev.Major)), strconv.Itoa(int(e.Dev.Minor)))
		}
	}
	said := runOracle(t, liveScript, t.TempDir(), asked.String())
	p := &Prober{Sys: sys, Open: OpenNodes(sys, dev), Contents: Superblocks}
	all := loadDifferences(t)
	for _, e := range events {
		theirs, ours := udevItems(e, said[e.Devpath]), items(p.Probe(e))
		for _, kv := range theirs {
			if !slices.Contains(ours, kv) && !explained(all, "udev", e.Devpath, kv) {
				t.Errorf("only udev has %s %s", e.Devpath, kv)
			}
		}
		for _, kv := range ours {
			if !strings.HasPrefix(kv, "LINK=block/") && !strings.HasPrefix(kv, "LINK=char/") &&
				!slices.Contains(theirs, kv) && !explained(all, "ours", e.Devpath, kv) {
				t.Errorf("only we have %s %s", e.Devpath, kv)
			}
		}
		if e.Sysname() == loop+"p1" && !slices.Contains(ours, `LINK=disk/by-label/a\x20b\x2fc`) {
			t.Errorf("no label in %q", ours)
		}
	}
}

// TestReads counts reads of sysfs: a device without names costs none or one, and all of
// this machine's devices cost less than half of what reading their events did, which is at
// least four reads each: the link, two attributes, the subsystem.
func TestReads(t *testing.T) {
	sys := sysfs.FS("/sys")
	events, err := sys.Events("add", "", "/dev")
	hotplugtest.Must(t, err)
	p := &Prober{Sys: sys}
	total, without, dear := 0, 0, 0
	start := time.Now()
	for _, e := range events {
		s := p.identify(e, sysfsOnly)
		total += s.reads
		names := len(s.id.Properties)
		for _, l := range s.id.Links {
			if !strings.HasPrefix(l.Path, "block/") && !strings.HasPrefix(l.Path, "char/") {
				names++
			}
		}
		if names == 0 {
			without++
			if s.reads > 1 {
				dear++
				t.Logf("%d reads for %s, which has no names", s.reads, e.Devpath)
			}
		}
	}
	t.Logf("%d devices, %d without names: %d reads, %v", len(events), without, total, time.Since(start))
	if dear > 0 {
		t.Errorf("%d devices without names cost more than one read", dear)
	}
	if total > 2*len(events) {
		t.Errorf("%d reads for %d devices", total, len(events))
	}
}

// BenchmarkIdentify is one coldplug of this machine's devices without and with names.
func BenchmarkIdentify(b *testing.B) {
	sys := sysfs.FS("/sys")
	p := &Prober{Sys: sys}
	for _, names := range []bool{false, true} {
		b.Run(map[bool]string{false: "read", true: "names"}[names], func(b *testing.B) {
			for b.Loop() {
				events, _ := sys.Events("add", "", "/dev")
				for _, e := range events {
					if names {
						p.Identify(e)
					}
				}
			}
		})
	}
}
