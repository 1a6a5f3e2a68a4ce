package systemtest

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
)

// groupsOfPieces are the groups that the pieces in contrib/conf name.
const groupsOfPieces = "disk:x:6:\ndialout:x:20:\naudio:x:29:\nvideo:x:44:\ninput:x:104:\nrender:x:105:\nnetdev:x:106:\n"

// withPieces gives a jailed board the pieces of contrib/conf.
func (b *board) withPieces(groups string) {
	b.Helper()
	pieces, err := filepath.Glob("../../contrib/conf/*.conf")
	if err != nil || len(pieces) < 8 {
		b.Fatal("the pieces are not there", err)
	}
	hotplugtest.Must(b, os.MkdirAll(b.conf+".d", 0o755))
	for _, piece := range pieces {
		b.write(b.conf+".d/"+filepath.Base(piece), b.read(piece))
	}
	b.write(filepath.Dir(b.conf)+"/passwd", "root:x:0:0::/:/bin/sh\n")
	b.write(filepath.Dir(b.conf)+"/group", groups)
}

// device is short for a device with a node.
func device(devpath, subsystem, name string, major, minor uint32, vars ...string) kerneltest.Device {
	return kerneltest.Device{Devpath: devpath, Subsystem: subsystem, Devname: name, Major: major, Minor: minor, Block: subsystem == "block", Extra: vars}
}

// having returns a device with an attribute.
func having(d kerneltest.Device, attribute, value string) kerneltest.Device {
	d.Attrs = map[string]string{attribute: value + "\n"}
	return d
}

const (
	goodUUID = "ID_FS_UUID=0123abcd-0123-4567-89ab-0123456789ab"
	sdCard   = "/devices/platform/soc/mmc0/mmc0:aaaa"
	emmc     = "/devices/platform/soc/mmc1/mmc1:0001"
	usbStick = "/devices/pci0/usb1/1-1/host0/block/sda"
	ataDisk  = "/devices/pci0/ata1/host1/block/sdb"
)

// ofPieces are devices that the pieces speak of, and some that they leave alone.
var ofPieces = []kerneltest.Device{
	device("/devices/pci0/sound/card0/controlC0", "sound", "snd/controlC0", 116, 0),
	device("/devices/platform/i2c-0/input/input0/event0", "input", "input/event0", 13, 64, "ID_INPUT_TOUCHSCREEN=1"),
	device("/devices/virtual/misc/uinput", "misc", "uinput", 10, 223),
	device("/devices/pci0/drm/card0", "drm", "dri/card0", 226, 0),
	device("/devices/pci0/drm/renderD128", "drm", "dri/renderD128", 226, 128),
	device("/devices/platform/fb/graphics/fb0", "graphics", "fb0", 29, 0),
	device("/devices/platform/csi/video4linux/video0", "video4linux", "video0", 81, 0),
	device("/devices/virtual/dma_heap/system", "dma_heap", "dma_heap/system", 251, 0),
	having(device("/devices/platform/backlight/backlight/panel", "backlight", "", 0, 0), "brightness", "7"),
	device("/devices/platform/serial8250/tty/ttyS0", "tty", "ttyS0", 4, 64),
	device("/devices/virtual/tty/tty1", "tty", "tty1", 4, 1),
	device("/devices/pci0/usb1/1-2/1-2:1.0/tty/ttyACM0", "tty", "ttyACM0", 166, 0, "ID_BUS=usb", "ID_USB_INTERFACES=:020201:0a0000:"),
	device("/devices/pci0/mhi0/wwan/wwan0/wwan0at0", "wwan", "wwan0at0", 240, 0),
	device("/devices/pci0/usb1/1-3/usbmisc/cdc-wdm0", "usbmisc", "cdc-wdm0", 180, 176),
	having(device("/devices/acpi/input/input1/event1", "input", "input/event1", 13, 65, "ID_INPUT_KEY=1"), "device/name", "Power Button"),
	having(device("/devices/platform/lid/input/input2/event2", "input", "input/event2", 13, 66, "ID_INPUT_SWITCH=1"), "device/name", "Lid"),
	having(kerneltest.Device{Devpath: "/devices/platform/keys", Subsystem: "platform", Bus: true, Extra: []string{"DRIVER=gpio-keys"}}, "power/wakeup", "disabled"),
	device("/devices/pci0/net/eth0", "net", "", 0, 0, "INTERFACE=eth0", "IFINDEX=2"),
	device("/devices/pci0/net/wlan0", "net", "", 0, 0, "INTERFACE=wlan0", "IFINDEX=3"),
	device("/devices/virtual/misc/tun", "misc", "net/tun", 10, 200),
	device("/devices/virtual/misc/rfkill", "misc", "rfkill", 10, 242),
	having(kerneltest.Device{Devpath: sdCard, Subsystem: "mmc", Bus: true}, "type", "SD"),
	device(sdCard+"/block/mmcblk0", "block", "mmcblk0", 179, 0, "DEVTYPE=disk"),
	device(sdCard+"/block/mmcblk0/mmcblk0p1", "block", "mmcblk0p1", 179, 1, "DEVTYPE=partition", "ID_FS_TYPE=vfat", "ID_FS_LABEL=../$(reboot)"),
	having(kerneltest.Device{Devpath: emmc, Subsystem: "mmc", Bus: true}, "type", "MMC"),
	device(emmc+"/block/mmcblk1", "block", "mmcblk1", 179, 32, "DEVTYPE=disk"),
	device(emmc+"/block/mmcblk1/mmcblk1p1", "block", "mmcblk1p1", 179, 33, "DEVTYPE=partition", "ID_FS_TYPE=ext4"),
	having(device(usbStick, "block", "sda", 8, 0, "DEVTYPE=disk", "ID_FS_TYPE=exfat"), "removable", "1"),
	device(usbStick+"/sda1", "block", "sda1", 8, 1, "DEVTYPE=partition", "ID_FS_TYPE=btrfs"),
	having(device(ataDisk, "block", "sdb", 8, 16, "DEVTYPE=disk"), "removable", "0"),
	device(ataDisk+"/sdb1", "block", "sdb1", 8, 17, "DEVTYPE=partition", "ID_FS_TYPE=crypto_LUKS", goodUUID),
	device(ataDisk+"/sdb2", "block", "sdb2", 8, 18, "DEVTYPE=partition", "ID_FS_TYPE=crypto_LUKS", "ID_FS_UUID=../shadow"),
	device(ataDisk+"/sdb3", "block", "sdb3", 8, 19, "DEVTYPE=partition", "ID_FS_TYPE=LVM2_member"),
}

// TestContribPieces has the pieces of contrib/conf checked, and what they plan for devices that come
// and go compared with testdata/contrib.txt. A board without their groups has all nodes, for root.
func TestContribPieces(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "")
	b.withPieces(groupsOfPieces)
	b.add(ofPieces...)
	if r := b.run("--check"); r.code != exitDone || r.stdout+r.stderr != "" {
		t.Errorf("--check: %+v", r)
	}
	var plans strings.Builder
	for _, action := range []string{"add", "remove"} {
		for _, d := range ofPieces {
			cmd := b.command("--plan", d.Devpath)
			cmd.Env = append(os.Environ(), "ACTION="+action)
			r := b.finish(cmd)
			b.must(r)
			if action == "add" || strings.Contains(r.stdout, " run") {
				plans.WriteString("-- " + action + " " + d.Devpath + "\n" + strings.ReplaceAll(r.stdout, b.conf+".d/", ""))
			}
		}
	}
	golden(t, "contrib.txt", plans.String())

	b.write(filepath.Dir(b.conf)+"/group", "root:x:0:\n")
	if r := b.run("--check"); strings.Count(r.stdout, "there is no group") != 7 || strings.Count(r.stdout, "\n") != 7 {
		t.Errorf("--check without the groups says\n%s", r.stdout)
	}
	b.write(b.conf, "$MODALIAS=.* 0:0 660\n")
	cmd := b.command("-sv")
	cmd.Env = append(os.Environ(), "PATH=/nowhere") // no command does anything
	b.must(b.finish(cmd))
	for _, d := range ofPieces {
		var st unix.Stat_t
		if d.Devname != "" {
			if err := unix.Stat(filepath.Join(b.dev, d.Devname), &st); err != nil || st.Gid != 0 {
				t.Errorf("without the groups: %s: group %d, %v", d.Devname, st.Gid, err)
			}
		}
	}
}

// onRealPieces makes a board with the pieces of contrib/conf, on which the program finds the kernel's
// /sys, and in /run an empty directory.
func onRealPieces(t *testing.T) *board {
	t.Helper()
	b := newBoard(t, "")
	etc := filepath.Join(b.dir, "etc")
	hotplugtest.Must(t, os.Mkdir(etc, 0o755))
	b.tree.Dir = "/sys"
	b.jail = kerneltest.NewJail(t, map[string]string{"/etc": etc})
	b.jail.Do(func() { hotplugtest.Must(t, unix.Mount("tmpfs", "/run", "tmpfs", 0, "")) })
	b.dev, b.conf = b.jail.Dev, filepath.Join(etc, "mdev.conf")
	b.configure("")
	b.withPieces(groupsOfPieces)
	return b
}

// TestContribCard has cards of several types mounted and unmounted, among them one whose label is
// code for a shell and one whose file system is not for strangers' cards.
func TestContribCard(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := onRealPieces(t)
	mega := int64(1 << 20)
	var disks []*loopDisk
	marks := ""
	for i, image := range [][]byte{
		kerneltest.Image(t, 4*mega, "mke2fs", `mke2fs -q -t ext4 -O ^has_journal -L '../$(>/run/x)"'\' "$I"`),
		kerneltest.Image(t, 4*mega, "mke2fs", `mke2fs -q -t ext2 -L '; reboot' "$I"`),
		kerneltest.Image(t, 20*mega, "mkfs.btrfs", `mkfs.btrfs -q -f --mixed "$I"`),
		kerneltest.Image(t, 4*mega, "mke2fs", `mke2fs -q -t ext4 -O ^has_journal "$I"`),
	} {
		d := b.newLoopDisk()
		file := filepath.Join(b.dir, "card"+strconv.Itoa(i))
		b.write(file, string(image))
		disks = append(disks, d)
		if i < 3 {
			marks += "-property=CARD:1;" + d.name + " root:disk 660\n"
		}
		d.attach(file, file)
	}
	b.write(b.conf+".d/45-cards.conf", marks)
	l := b.startLoop()
	where := func(d *loopDisk) string {
		mounts := b.read("/proc/" + strconv.Itoa(l.cmd.Process.Pid) + "/mountinfo")
		for line := range strings.Lines(mounts) {
			if f := strings.Fields(line); f[2] == "7:"+strconv.Itoa(d.number) {
				return f[4] + " " + f[5]
			}
		}
		return ""
	}
	for i, want := range []bool{true, true, false, false} {
		got := where(disks[i])
		if isMounted := strings.HasPrefix(got, "/run/media/"+disks[i].name+" ro,nosuid,nodev,noexec"); isMounted != want || !want && got != "" {
			t.Errorf("card %d is mounted at %q; the log says\n%s", i, got, l.stderr)
		}
	}
	b.leadsTo(`card/.._____run_x___`, disks[0].name)
	b.leadsTo(`card/__reboot`, disks[1].name)
	b.jail.Do(func() {
		if _, err := os.Stat("/run/x"); err == nil {
			t.Error("a label was run")
		}
	})
	// Further events mount nothing twice; on a remove what is mounted goes, and its directory.
	b.scan()
	for _, d := range disks {
		l.send(eventOf(t, "add", d.name))
		l.send(eventOf(t, "remove", d.name))
	}
	b.settle()
	for i, d := range disks {
		if got := where(d); got != "" {
			t.Errorf("after a remove card %d is mounted at %q", i, got)
		}
	}
	b.jail.Do(func() {
		if left, _ := os.ReadDir("/run/media"); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
	if text := l.stderr.String(); strings.Contains(text, "50-card.conf:") {
		t.Errorf("the log says\n%s", text)
	}
}

// TestContribNetwork has a wired interface taken up, and leaves others alone.
func TestContribNetwork(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	kerneltest.Need(t, "ip")
	b := onRealPieces(t)
	l := b.startLoop()
	kerneltest.Sh(t, "ip link add eth7 type veth peer name wlan7")
	b.settle()
	isUp := func(name string) bool {
		link, err := net.InterfaceByName(name)
		hotplugtest.Must(t, err)
		return link.Flags&net.FlagUp != 0
	}
	kerneltest.Until(t, patience, "eth7 to be up", func() bool { return isUp("eth7") })
	if isUp("wlan7") {
		t.Error("wlan7 is up")
	}
	if text := l.stderr.String(); strings.Contains(text, "40-network.conf:") {
		t.Errorf("the log says\n%s", text)
	}
}
