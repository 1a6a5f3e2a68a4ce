package boot_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"devspool/hotplug/hotplugtest"
	"devspool/initramfs"
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
	pack := append(crowdPack, "--program", "/bin/busybox", "--file", dir+"/start:start", "--link", "bin/sh:busybox", "--dir", "sysroot")
	others := otherDevices(ext4Image(t)[0].(initramfs.File).Source)
	t.Logf("%d devices that the root does not need", strings.Count(strings.Join(others, " ")+" ", "-device "))
	measure := func(name, param string, more ...string) time.Duration {
		root := boot.Root{Param: uuid + " rd.devspool.log=steps rdinit=/start " + param, Pack: append(pack, more...),
			Attach: func(disk string) []string {
				return append([]string{"-drive", "file=" + disk + ",if=virtio,format=raw"}, others...)
			}}
		console := lab.Console(t, boot.Options{Kernel: boot.QEMU, Memory: 1024, Root: &root, Devices: counted})
		begun, mounted := seconds(t, console, `devspool-boot: begun ([0-9.]+)`), seconds(t, console, `(?:devspool-boot: mounted |devspool: )([0-9.]+)(?: ms: root is mounted)?`)
		if strings.Contains(console, " ms: root is mounted") {
			mounted = seconds(t, console, `devspool: ([0-9]+) ms: root is mounted`) / 1000
		}
		took := time.Duration((mounted - begun) * float64(time.Second))
		t.Logf("%s: %v; mounted at %.2f s", name, took.Round(10*time.Millisecond), mounted)
		return took
	}
	first := measure("root first", "", "--link", "next/init:/sbin/devspool")
	rival := measure("BusyBox", "", "--file", dir+"/rival:next/init")
	full := measure("all devices first", "rd.devspool.first=no", "--link", "next/init:/sbin/devspool")
	t.Logf("from /init to the root mounted: root first %v, all first %v, BusyBox %v; root first is %.2f of BusyBox (target 0.50), and %.2f of all first (target 0.60)",
		first, full, rival, first.Seconds()/rival.Seconds(), first.Seconds()/full.Seconds())
}

// crowd is devices of a desktop machine: USB, sound, network, and the ports that these hang on.
func crowd() (devices []string) {
	for i := range 12 {
		devices = append(devices, "-device", fmt.Sprintf("pcie-root-port,id=p%d,chassis=%d", i, i+1))
	}
	return append(devices, "-audiodev", "none,id=a", "-device", "intel-hda", "-device", "hda-duplex,audiodev=a", "-device", "qemu-xhci", "-device", "usb-hub",
		"-device", "usb-kbd", "-device", "usb-mouse", "-device", "usb-tablet", "-device", "virtio-net-pci", "-device", "e1000e", "-device", "virtio-rng-pci")
}

// someDevices are QEMU's arguments for crowd and a slow disk.
func someDevices() []string {
	return append(crowd(), "-drive", slowDrive, "-device", "virtio-blk-pci,drive=slow")
}

// slowDrive has an empty disk with a limit of bytes a second.
const slowDrive = "file=null-co://,if=none,id=slow,format=raw,bps=65536"

// otherDevices are QEMU's arguments for a hundred devices that the root does not need: disks with the
// file system in the file content, network, sound, USB below hubs, the ports of a virtual machine's
// agents. One is slow, a disk with a limit of bytes a second. Each function of a PCI slot is
// one device, so that all find room.
func otherDevices(content string) (devices []string) {
	functions := 0
	add := func(device string) { devices = append(devices, "-device", device) }
	pci := func(device string) {
		add(fmt.Sprintf("%s,addr=%x.%x,multifunction=on", device, 4+functions/8, functions%8))
		functions++
	}
	drive := func(id string) string {
		devices = append(devices, "-drive", "file="+content+",if=none,format=raw,readonly=on,id="+id)
		return ",drive=" + id
	}
	// The slow one comes first, as far as the machine has an order.
	devices = append(devices, "-drive", slowDrive)
	pci("virtio-blk-pci,drive=slow")
	for i := range 6 {
		pci("virtio-blk-pci" + drive(fmt.Sprint("v", i)))
	}
	pci("virtio-scsi-pci,id=scsi")
	for i := range 10 {
		add(fmt.Sprintf("scsi-hd,bus=scsi.0,scsi-id=%d", i) + drive(fmt.Sprint("s", i)))
	}
	for i := range 3 {
		pci(fmt.Sprintf("nvme,id=n%d,serial=n%d", i, i))
		add(fmt.Sprintf("nvme-ns,bus=n%d", i) + drive(fmt.Sprint("n", i)))
	}
	pci("virtio-serial-pci,id=ports,max_ports=31")
	for i := range 26 {
		devices = append(devices, "-chardev", fmt.Sprintf("null,id=c%d", i))
		add(fmt.Sprintf("virtserialport,bus=ports.0,chardev=c%d,name=agent.%d", i, i))
	}
	devices = append(devices, "-audiodev", "none,id=a")
	for i := range 2 {
		pci(fmt.Sprintf("intel-hda,id=h%d", i))
		add(fmt.Sprintf("hda-duplex,audiodev=a,bus=h%d.0", i))
	}
	for _, device := range []string{"virtio-net-pci", "virtio-net-pci", "virtio-net-pci", "e1000e", "e1000e", "rtl8139", "vmxnet3", "virtio-rng-pci",
		"virtio-rng-pci", "virtio-balloon-pci", "virtio-keyboard-pci", "virtio-mouse-pci", "virtio-tablet-pci", "pci-serial-4x", "sdhci-pci", "AC97,audiodev=a"} {
		pci(device)
	}
	pci("qemu-xhci,id=usb,p2=8,p3=8")
	for hub := range 4 {
		add(fmt.Sprintf("usb-hub,bus=usb.0,port=%d", hub+1))
		for i, device := range []string{"usb-kbd", "usb-mouse", "usb-tablet", "usb-wacom-tablet", "usb-storage" + drive(fmt.Sprint("u", hub)), "usb-net"} {
			add(fmt.Sprintf("%s,bus=usb.0,port=%d.%d", device, hub+1, i+1))
		}
	}
	return devices
}

// counted has QEMU count time by instructions: what else this machine does plays no part then.
// There is one processor, which is unkind to what does several things at once.
var counted = []string{"-icount", "shift=2,sleep=on", "-smp", "1"}

// crowdPack has what crowd asks for.
var crowdPack = []string{"--set", "virtio,nvme,usb,mmc,keyboard,filesystem,network", "--modules", "drivers/input,sound/core,sound/pci,sound/hda,drivers/char"}

// modulesInit has the modules loaded that all devices ask for: WAY does it, for the aliases in
// the file list, and the positional parameters. The end is that of the last module, which the
// kernel asks for by itself when the driver of the sound card has found a codec.
const modulesInit = `#!/bin/busybox sh
export PATH=/kmod:/sbin:/usr/sbin:/bin:/usr/bin
busybox mkdir -p /kmod /dev /proc /sys
for kmod in /bin/kmod /usr/bin/kmod; do [ ! -x $kmod ] || busybox ln -sf $kmod /kmod/modprobe; done
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
busybox find /sys/devices -name modalias -exec busybox cat {} + 2>/dev/null | busybox sort -u >/list
IFS='
'
set -- $(busybox cat /list)
devspool modprobe -a -D -b -q -- "$@" | busybox awk '!seen[$0]++' >/order
unset IFS
echo devspool-boot: begun $(busybox cat /proc/uptime)
WAY
for i in $(busybox seq 500); do busybox grep -q ^snd_hda_codec_generic /proc/modules && break; busybox usleep 10000; done
echo devspool-boot: ended $(busybox cat /proc/uptime)
echo devspool-boot: loaded $(busybox wc -l </proc/modules)
busybox poweroff -f
`

// TestTimeToModules measures how long it takes to load all modules that a machine with USB,
// sound and NVMe asks for: by the program, by kmod's modprobe, once for all aliases and
// once for each, and by a program that only has the kernel load them, one after the other: with one
// processor nothing can save what that takes. As TestTimeToRoot it is a measurement (make bench-boot).
func TestTimeToModules(t *testing.T) {
	if os.Getenv("DEVSPOOL_BENCH") == "" {
		t.Skip("a measurement, for DEVSPOOL_BENCH=1")
	}
	lab := boot.NewLab(t)
	floor := t.TempDir() + "/finit"
	build := exec.Command("go", "build", "-o", floor, "./testdata/finit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// Several modules are loaded at a time where there is more than one processor. QEMU has no count
	// of instructions for two, and the clock tells of this machine's other work too: least of three.
	for _, machine := range []struct {
		name    string
		devices []string
		rounds  int
	}{{"two processors, by the clock", nil, 3}, {"one processor, by its instructions", counted, 1}} {
		measureOnce := func(name, way string) time.Duration {
			script := t.TempDir() + "/init"
			hotplugtest.WriteFile(t, script, strings.ReplaceAll(modulesInit, "WAY", way))
			root := boot.Root{Param: uuid, Pack: append(slices.Clone(crowdPack), "--program", "/bin/busybox,kmod", "--init", script, "--file", floor+":finit"),
				Attach: func(disk string) []string {
					return append(crowd(), "-drive", "file="+disk+",if=none,id=nvme,format=raw", "-device", "nvme,drive=nvme,serial=x")
				}}
			console := lab.Console(t, boot.Options{Kernel: boot.QEMU, Memory: 1024, Root: &root, Devices: machine.devices})
			took := seconds(t, console, `devspool-boot: ended ([0-9.]+)`) - seconds(t, console, `devspool-boot: begun ([0-9.]+)`)
			t.Logf("%s: %.2f s, %.0f modules", name, took, seconds(t, console, `devspool-boot: loaded ([0-9]+)`))
			return time.Duration(took * float64(time.Second))
		}
		measure := func(name, way string) time.Duration {
			least := measureOnce(name, way)
			for range machine.rounds - 1 {
				least = min(least, measureOnce(name, way))
			}
			return least
		}
		least := measure("the kernel alone", "/finit /order")
		ours := measure("devspool modprobe -a", `devspool modprobe -a -b -q -- "$@"`)
		together := measure("kmod's modprobe -a", `modprobe -a -b -q -- "$@"`)
		each := measure("kmod's modprobe for each alias", `for alias; do modprobe -b -q -- "$alias"; done`)
		t.Logf("all modules, %s: devspool %v, modprobe -a %v, modprobe for each %v, the kernel alone %v; devspool is %.2f of modprobe -a (target 1.00), and %.2f of one for each (target 0.40; the kernel alone, one after the other, is %.2f)",
			machine.name, ours, together, each, least, ours.Seconds()/together.Seconds(), ours.Seconds()/each.Seconds(), least.Seconds()/each.Seconds())
	}
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
