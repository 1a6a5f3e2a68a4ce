package boot_test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"devspool/hotplug/hotplugtest"
	"devspool/initramfs/boot"
)

// rivalInit is an init in the manner of Alpine's initramfs with BusyBox: mdev for the nodes, a
// modprobe for each modalias in /sys, twice since the first modules bring devices, and then
// the root is looked for by findfs.
const rivalInit = `#!/bin/busybox sh
export PATH=/sbin:/usr/sbin:/bin:/usr/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
busybox mdev -s
load() { busybox find /sys/devices -name modalias -exec busybox cat {} + 2>/dev/null | busybox sort -u | busybox xargs -n 1 busybox modprobe -b -q 2>/dev/null; }
for round in 1 2 3 4 5; do
	load
	busybox mdev -s
	disk=$(busybox findfs UUID=` + boot.RootUUID + ` 2>/dev/null) && break
done
busybox modprobe ext4
busybox mount -t ext4 "$disk" /sysroot
busybox cat /proc/uptime | busybox sed 's/^/devspool-boot: mounted /'
busybox poweroff -f
`

// TestTimeToRoot measures the time from the kernel's start of /init to the root mounted: by the
// program, root first and not, and by BusyBox's mdev and modprobe per alias, in the same
// image. It is no test of what is right, and so runs only where DEVSPOOL_BENCH is set
// (make bench-boot).
func TestTimeToRoot(t *testing.T) {
	if os.Getenv("DEVSPOOL_BENCH") == "" {
		t.Skip("a measurement, for DEVSPOOL_BENCH=1")
	}
	lab := boot.NewLab(t)
	dir := t.TempDir()
	hotplugtest.WriteFile(t, dir+"/rival", rivalInit)
	hotplugtest.WriteFile(t, dir+"/start", "#!/bin/busybox sh\n"+
		"/bin/busybox mount -t proc proc /proc\necho devspool-boot: begun $(/bin/busybox cat /proc/uptime)\n/bin/busybox umount /proc\nexec /next/init\n")
	hotplugtest.Must(t, os.Chmod(dir+"/rival", 0o755))
	hotplugtest.Must(t, os.Chmod(dir+"/start", 0o755))
	pack := []string{"--set", "virtio,nvme,usb,keyboard,filesystem,network", "--modules", "drivers/input,sound/core,sound/pci,sound/hda,drivers/char", "--program", "/bin/busybox",
		"--file", dir + "/start:start", "--link", "bin/sh:busybox", "--dir", "sysroot"}
	measure := func(name, param string, more ...string) time.Duration {
		root := boot.Root{Param: uuid + " rd.devspool.log=steps rdinit=/start " + param, Pack: append(pack, more...),
			Attach: func(disk string) []string {
				return append([]string{"-drive", "file=" + disk + ",if=virtio,format=raw"}, otherDevices()...)
			}}
		console := lab.Console(t, boot.Options{Kernel: boot.QEMU, Memory: 1024, Root: &root})
		begun, mounted := seconds(t, console, `devspool-boot: begun ([0-9.]+)`), seconds(t, console, `(?:devspool-boot: mounted |devspool: )([0-9.]+)(?: ms: root is mounted)?`)
		if strings.Contains(console, " ms: root is mounted") {
			mounted = seconds(t, console, `devspool: ([0-9]+) ms: root is mounted`) / 1000
		}
		took := time.Duration((mounted - begun) * float64(time.Second))
		t.Logf("%s: %v", name, took.Round(10*time.Millisecond))
		return took
	}
	first, full, rival := time.Hour, time.Hour, time.Hour
	for range 2 {
		first = min(first, measure("root first", "", "--link", "next/init:/sbin/devspool"))
		rival = min(rival, measure("BusyBox", "", "--file", dir+"/rival:next/init"))
		full = min(full, measure("all devices first", "rd.devspool.first=no", "--link", "next/init:/sbin/devspool"))
	}
	t.Logf("from /init to the root mounted: root first %v, all first %v, BusyBox %v; root first is %.2f of BusyBox (target 0.50), and %.2f of all first (target 0.60)",
		first, full, rival, first.Seconds()/rival.Seconds(), first.Seconds()/full.Seconds())
}

// otherDevices are QEMU's arguments for 100 devices that the root does not need, and one that is
// slow: an empty disk with a limit of bytes a second, and sound cards.
func otherDevices() []string {
	var others []string
	for i := range 12 {
		others = append(others, "-device", fmt.Sprintf("pcie-root-port,id=p%d,chassis=%d", i, i+1))
	}
	return append(others, "-audiodev", "none,id=a", "-device", "intel-hda", "-device", "hda-duplex,audiodev=a", "-device", "qemu-xhci", "-device", "usb-hub",
		"-device", "usb-kbd", "-device", "usb-mouse", "-device", "usb-tablet", "-device", "virtio-net-pci", "-device", "e1000e", "-device", "virtio-rng-pci",
		"-drive", "file=null-co://,if=none,id=slow,format=raw,bps=65536", "-device", "virtio-blk-pci,drive=slow")
}

// seconds returns the number that a pattern has for its group in the console's text.
func seconds(t *testing.T, console, pattern string) float64 {
	t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(console)
	if found == nil {
		t.Fatalf("no %s in:\n%s", pattern, console)
	}
	n, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
