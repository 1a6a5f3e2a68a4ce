package boot_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"devspool/initramfs"
	"devspool/initramfs/boot"
)

// clientDrivers are the modules for the programs that were written for udevd.
var clientDrivers = []string{"virtio_pci", "virtio_blk", "dm-mod", "dm-crypt", "xts", "ecb", "raid1",
	"xhci-pci", "usbhid", "hid-generic", "virtio_input", "evdev"}

// clientDevices are keyboards, mice and tablets, and three disks.
func clientDevices(t *testing.T) (args []string) {
	dir := t.TempDir()
	for i := range 3 {
		path := filepath.Join(dir, fmt.Sprint("disk", i))
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, 48<<20); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-drive", "if=virtio,format=raw,file="+path)
	}
	args = append(args, "-device", "qemu-xhci")
	for _, device := range []string{"usb-kbd", "usb-mouse", "usb-tablet", "virtio-keyboard-pci", "virtio-mouse-pci", "virtio-tablet-pci"} {
		args = append(args, "-device", device)
	}
	return args
}

// libinputList is the program behind "libinput list-devices".
const libinputList = "/usr/libexec/libinput/libinput-list-devices"

// clientPrograms returns the programs, udevd and what they need.
func clientPrograms(t *testing.T) []initramfs.Entry {
	t.Helper()
	need(t, "libinput")
	paths := []string{libinputList}
	for _, tool := range []string{"dmsetup", "cryptsetup", "lvm", "mdadm"} {
		path, err := filepath.EvalSymlinks(need(t, tool))
		if err != nil {
			t.Fatal(err)
		}
		if path != "/sbin/"+tool && path != "/usr/sbin/"+tool {
			t.Fatalf("%s is at %s", tool, path)
		}
		paths = append(paths, "/sbin/"+tool)
	}
	found, err := filepath.Glob("/usr/share/libinput/*.quirks")
	if err != nil || len(found) == 0 {
		t.Fatalf("libinput's quirks: %v", err)
	}
	entries := append(udevd(t, paths...), initramfs.Dir{Path: "run/lock", Mode: 0o755},
		initramfs.File{Path: "etc/lvm/lvm.conf", Mode: 0o644, Text: "devices { use_devicesfile = 0 }\nbackup { backup = 0 archive = 0 }\n"})
	for _, path := range found {
		entries = append(entries, initramfs.File{Path: path[1:], Mode: 0o644, Source: path})
	}
	return entries
}

// turn is something that is made and taken away again by programs that wait for the device
// manager.
type turn struct {
	name        string
	times       int
	open, close []string
	links       []string // below /dev that are there when open returns
}

// rounds is how often the first of the turns is gone through, with no manager and under the loop.
const rounds = 5

// turns are those of device-mapper and md. The first is measured as well.
var turns = []turn{
	{"dmsetup", 20, []string{"dmsetup", "create", "a b", "--table", "0 2048 linear /dev/vda 0"}, []string{"dmsetup", "remove", "a b"},
		[]string{`mapper/a\x20b`, `disk/by-id/dm-name-a\x20b`}},
	{"cryptsetup", 10, []string{"sh", "-c", "echo x | cryptsetup open -q --type plain --cipher aes-xts-plain64 --key-size 256 --hash sha256 /dev/vda plain"},
		[]string{"cryptsetup", "close", "plain"}, []string{"mapper/plain", "disk/by-id/dm-name-plain"}},
	{"lvcreate", 10, []string{"lvm", "lvcreate", "-qq", "-y", "-l", "4", "-n", "new", "vg"}, []string{"lvm", "lvremove", "-qq", "-y", "vg/new"},
		[]string{"mapper/vg-new", "vg/new"}},
	{"vgchange", 10, []string{"lvm", "vgchange", "-qq", "-ay", "vg"}, []string{"lvm", "vgchange", "-qq", "-an", "vg"},
		[]string{"mapper/vg-first", "vg/first", "mapper/vg-sec--ond", "vg/sec-ond"}},
	{"mdadm", 10, []string{"mdadm", "--quiet", "--create", "/dev/md/raid", "--run", "--level=1", "--raid-devices=2", "--metadata=1.2", "--assume-clean",
		"--homehost=any", "--name=raid", "/dev/vdb", "missing"}, []string{"mdadm", "--quiet", "--stop", "/dev/md/raid"}, []string{"md/raid"}},
}

// run runs one of a turn's commands. One that hangs is ended, with what it waits for.
func (r *turn) run(g *boot.Guest, command []string) (took time.Duration) {
	g.Helper()
	begun := time.Now()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin = os.Stdin
	cmd.Env = append(os.Environ(), "LVM_SUPPRESS_FD_WARNINGS=1")
	hangs := time.AfterFunc(boot.Patience/3, func() { _ = cmd.Process.Kill() })
	out, err := cmd.CombinedOutput()
	if !hangs.Stop() || err != nil {
		g.Fatalf("%q: %v after %v\n%s\nsemaphores:\n%s", command, err, time.Since(begun), out, g.Read("/proc/sysvipc/sem"))
	}
	return time.Since(begun)
}

// repeat goes through all turns and returns the times of open and close together. Under a
// manager the links are looked for.
func (r *turn) repeat(g *boot.Guest, times int, managed bool) (took []time.Duration) {
	g.Helper()
	for range times {
		open := r.run(g, r.open)
		for _, link := range r.links {
			if _, err := os.Stat("/dev/" + link); err != nil && managed {
				g.Errorf("%s: when %q returns: %v", r.name, r.open, err)
			}
		}
		took = append(took, open+r.run(g, r.close))
	}
	return took
}

// cookies returns libdevmapper's semaphores.
func cookies(g *boot.Guest) (left []string) {
	for line := range strings.Lines(g.Read("/proc/sysvipc/sem")) {
		var key uint64
		if _, err := fmt.Sscan(line, &key); err == nil && key>>16 == 0x0d4d {
			left = append(left, line)
		}
	}
	return left
}

// The programs that were written for udevd work under the loop on a real kernel: those of
// device-mapper and md find their links and do not hang, however often, and libinput finds
// what it finds under udevd.
func TestStockClients(t *testing.T) {
	o := boot.Options{Kernel: boot.QEMU, Memory: 768, Modules: clientDrivers}
	if onHost() {
		o.Devices = clientDevices(t)
		o.Files = clientPrograms(t)
	}
	boot.NewLab(t).Run(t, o, func(g *boot.Guest) {
		if err := os.WriteFile("/etc/mdev.conf", []byte(g.Command(program, "--print-udev-conf")), 0o644); err != nil {
			g.Fatal(err)
		}
		mountDev(g, "devtmpfs")
		for _, name := range clientDrivers {
			g.Insmod(name)
		}
		g.Until("keyboards, mice and tablets", func() error {
			names, err := filepath.Glob("/sys/class/input/event*/device/name")
			ours := 0
			for _, name := range names {
				if strings.HasPrefix(g.Read(name), "QEMU ") {
					ours++
				}
			}
			if err == nil && ours < 6 {
				err = fmt.Errorf("there are %q", names)
			}
			return err
		})
		g.Settle()
		var alone, managed []time.Duration
		found := ""
		for round := range rounds {
			alone = append(alone, turns[0].repeat(g, turns[0].times/2, false)...)
			stop := startLoop(g, "--udev")
			managed = append(managed, turns[0].repeat(g, turns[0].times, true)...)
			if round == 0 {
				group(g)
				for _, r := range turns[1:] {
					begun := time.Now()
					r.repeat(g, r.times, true)
					g.Logf("%s: %d times in %v", r.name, r.times, time.Since(begun).Round(time.Millisecond))
				}
				found = capabilities(g)
				number := hide(g)
				stop()
				stop = startLoop(g, "--udev")
				wantHidden(g, "after a restart", number)
				turns[0].run(g, []string{"dmsetup", "remove", "hidden"})
			}
			stop()
		}
		if left := cookies(g); len(left) > 0 {
			g.Errorf("cookies are left:\n%s", strings.Join(left, ""))
		}
		g.Command("/lib/systemd/systemd-udevd", "--daemon")
		g.Command("/bin/udevadm", "trigger", "--action=add")
		g.Command("/bin/udevadm", "settle", "--timeout=120")
		rival := turns[0].repeat(g, turns[0].times, true)
		g.Logf("dmsetup create and remove, the quicker half of %d: alone %v, under devspool %v, under udevd %v; devspool is %.2f of alone (target 1.10), %.2f of udevd",
			len(managed), quick(alone), quick(managed), quick(rival), ratio(managed, alone), ratio(managed, rival))
		if theirs := capabilities(g); found != theirs {
			g.Errorf("libinput finds under devspool:\n%s\nand under udevd:\n%s", found, theirs)
		}
		for _, want := range []string{"QEMU QEMU USB Keyboard: keyboard", "QEMU QEMU USB Mouse: pointer", "QEMU QEMU USB Tablet: pointer",
			"QEMU Virtio Keyboard: keyboard", "QEMU Virtio Mouse: pointer", "QEMU Virtio Tablet: pointer"} {
			if !strings.Contains(found, want+"\n") {
				g.Errorf("libinput does not find %s, but\n%s", want, found)
			}
		}
	})
}

// group makes a volume group of two disks with two volumes, which are not active.
func group(g *boot.Guest) {
	g.Helper()
	for _, command := range []string{
		"vgcreate -qq -y vg /dev/vdc", "lvcreate -qq -y -an -Zn -l 2 -n first vg", "lvcreate -qq -y -an -Zn -l 2 -n sec-ond vg",
	} {
		g.Command("/sbin/lvm", strings.Fields(command)...)
	}
}

// hide makes a device that is to have no link below /dev/mapper, as the program that makes it
// says, and returns its numbers. That still holds when others ask for an event.
func hide(g *boot.Guest) (number string) {
	g.Helper()
	turns[0].run(g, []string{"dmsetup", "create", "--noudevrules", "hidden", "--table", "0 2048 linear /dev/vda 0"})
	number = strings.TrimSpace(g.Command("/sbin/dmsetup", "info", "-c", "--noheadings", "--separator", ":", "-o", "major,minor", "hidden"))
	wantHidden(g, "as it was made", number)
	for _, action := range []string{"change", "add", "change"} {
		g.Command("/bin/udevadm", "trigger", "--settle", "--action="+action, "/dev/block/"+number)
		wantHidden(g, action, number)
	}
	return number
}

// wantHidden fails the test where the loop does not know that the device is hidden.
func wantHidden(g *boot.Guest, when, number string) {
	g.Helper()
	if record := g.Read("/run/udev/data/b" + number); !strings.Contains(record, "\nE:DM_UDEV_DISABLE_DM_RULES_FLAG=1\n") || strings.Contains("\n"+record, "\nS:mapper/") {
		g.Errorf("%s, the database has of %s:\n%s", when, number, record)
	}
}

// quick returns the median of the quicker half, which what else the machine does has hardly met.
func quick(times []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(times))[len(times)/4].Round(10 * time.Microsecond)
}

func ratio(a, b []time.Duration) float64 { return float64(quick(a)) / float64(quick(b)) }

// capabilities returns what libinput says of each device, in lines "NAME: CAPABILITIES".
func capabilities(g *boot.Guest) string {
	g.Helper()
	var all []string
	name := ""
	for line := range strings.Lines(g.Command(libinputList)) {
		key, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); key {
		case "Device":
			name = value
		case "Capabilities":
			all = append(all, name+": "+value+"\n")
		}
	}
	slices.Sort(all)
	return strings.Join(all, "")
}
