package boot_test

import (
	_ "embed"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
	"devspool/initramfs"
	"devspool/initramfs/boot"
)

// onHost reports whether this is not the guest's side of a test.
func onHost() bool { return os.Getenv("DEVSPOOL_BOOT_GUEST") == "" }

// zoo is a machine with as many kinds of devices as QEMU has. DISK(what) stands for a
// disk's contents.
var zoo = []struct{ device, disk string }{
	{"ide-hd,bus=ide.0,serial=A-1/2,model=QEMU  DISK/x,wwn=0x5000c50012345678", "gpt"},
	{"ide-hd,bus=ide.1,serial=ata2", "ext4"},
	{"ide-cd,bus=ide.2,serial=cd1", "iso"},
	{"ide-cd,bus=ide.3", ""},
	{"virtio-scsi-pci,id=hba", ""},
	{"scsi-hd,bus=hba.0,scsi-id=1,lun=0,serial=scsi 1,wwn=0x5000c500deadbeef", "mbr"},
	{"scsi-hd,bus=hba.0,scsi-id=2,lun=300,serial=scsi2", "swap"},
	{"scsi-hd,bus=hba.0,scsi-id=3,lun=0,device_id=an id", "nothing"},
	{"scsi-cd,bus=hba.0,scsi-id=4,lun=0", ""},
	{"nvme,serial=nv me/1", "gpt"},
	{"nvme,id=nv2,serial=nvme2", ""},
	{"nvme-ns,bus=nv2,nsid=1", "ext4"},
	{"nvme-ns,bus=nv2,nsid=7,eui64=0x5000c50012345678", "nothing"},
	{"virtio-blk-pci,serial=disk1", "luks"},
	{"virtio-blk-pci,serial=../../etc/passwd", "gpt"},
	{"sdhci-pci", ""},
	{"sd-card", "mbr"},
	{"qemu-xhci,id=xhci,p2=15,p3=15", ""},
	{"usb-storage,bus=xhci.0,serial=123456", "mbr"},
	{"usb-storage,bus=xhci.0,serial=../../x", "vfat"},
	{"usb-uas,bus=xhci.0,id=uas,serial=uas1", ""},
	{"scsi-hd,bus=uas.0,scsi-id=0,lun=0", "ext4"},
	{"usb-audio,bus=xhci.0,serial=SAME,audiodev=silence", ""},
	{"usb-audio,bus=xhci.0,serial=SAME,audiodev=silence", ""},
	{"intel-hda", ""},
	{"hda-duplex,audiodev=silence", ""},
	{"usb-kbd,bus=xhci.0,serial=kbd1", ""},
	{"usb-mouse,bus=xhci.0,serial=mouse\x01", ""},
	{"usb-tablet,bus=xhci.0", ""},
	{"usb-wacom-tablet,bus=xhci.0", ""},
	{"usb-hub,bus=xhci.0,port=15", ""},
	{"usb-kbd,bus=xhci.0,port=15.2", ""},
	{"usb-serial,bus=xhci.0,always-plugged=on,serial=ser1,chardev=nil0", ""},
	{"usb-serial,bus=xhci.0,always-plugged=on,serial=ser1,chardev=nil1", ""},
	{"usb-net,bus=xhci.0", ""},
	{"virtio-keyboard-pci", ""},
	{"virtio-tablet-pci", ""},
	{"virtio-mouse-pci", ""},
	{"virtio-serial-pci", ""},
	{"virtserialport,name=org.qemu.guest_agent.0,chardev=nil2", ""},
	{"virtserialport,name=../../x y,chardev=nil3", ""},
	{"virtio-gpu-pci", ""},
	{"e1000e", ""},
	{"virtio-net-pci", ""},
}

// zooDrivers are the modules for it.
var zooDrivers = []string{
	"virtio_pci", "ahci", "virtio_scsi", "nvme", "virtio_blk", "sdhci-pci", "mmc_block", "xhci-pci", "usb-storage", "uas",
	"sd_mod", "sr_mod", "sg", "snd-usb-audio", "snd-hda-codec-generic", "snd-hda-intel",
	"usbhid", "hid-generic", "wacom", "psmouse", "virtio_input", "evdev", "joydev",
	"ftdi_sio", "virtio_console", "virtio-gpu", "e1000e", "virtio_net", "rndis_host", "cdc_ether",
}

// contents are what the zoo's disks hold.
var contents = map[string]string{
	"nothing": `truncate -s 8M $I`,
	"ext4":    `truncate -s 8M $I && mke2fs -q -t ext4 -L 'my disk/1' $I`,
	"vfat":    `truncate -s 8M $I && mkfs.vfat -n 'A B' $I >/dev/null`,
	"swap":    `truncate -s 8M $I && mkswap -q -L swapped $I`,
	"luks":    `truncate -s 20M $I && echo pw | cryptsetup -q luksFormat --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --label vault $I -`,
	"iso":     `mkdir -p $I.d && genisoimage -quiet -V 'A DISC' -o $I $I.d`,
	"mbr": `truncate -s 32M $I && printf 'label: dos\nsize=8M\nsize=8M,type=5\nsize=4M\n' | sfdisk -q $I &&
		truncate -s 8M $I.x && mkfs.vfat -n MBR $I.x >/dev/null && dd if=$I.x of=$I bs=1M seek=1 conv=notrunc status=none`,
	"gpt": `truncate -s 32M $I && printf 'label: gpt\nsize=8M,name="my root/1"\nsize=8M,name=other\n' | sfdisk -q $I &&
		truncate -s 8M $I.x && mke2fs -q -t ext4 -L 'in side' $I.x && dd if=$I.x of=$I bs=1M seek=1 conv=notrunc status=none`,
}

// zooDevices makes the disks and returns QEMU's arguments.
func zooDevices(t *testing.T) (args []string) {
	t.Helper()
	for _, tool := range []string{"mke2fs", "mkfs.vfat", "mkswap", "cryptsetup", "genisoimage", "sfdisk"} {
		need(t, tool)
	}
	dir := t.TempDir()
	args = []string{"-audiodev", "none,id=silence"}
	for i := range 4 {
		args = append(args, "-chardev", fmt.Sprint("null,id=nil", i))
	}
	for i, d := range zoo {
		device := d.device
		if d.disk != "" {
			image := filepath.Join(dir, fmt.Sprint("disk", i))
			if out, err := exec.Command("sh", "-ec", "I="+image+"\n"+contents[d.disk]).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", d.disk, err, out)
			}
			id := fmt.Sprint("drive", i)
			args = append(args, "-drive", "if=none,format=raw,id="+id+",file="+image)
			device += ",drive=" + id
		}
		args = append(args, "-device", device)
	}
	return args
}

// need ends a test for want of a tool.
func need(t *testing.T, tool string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + tool); err != nil {
			boot.NotTested(t, t.Name(), tool)
		}
	}
	return path
}

// withLibraries returns the entries for programs of this machine, at the paths that they
// have here, with the libraries that they need.
func withLibraries(t *testing.T, paths ...string) (entries []initramfs.Entry) {
	t.Helper()
	have := map[string]bool{}
	add := func(path string) {
		if have[path] {
			return
		}
		have[path] = true
		entries = append(entries, initramfs.File{Path: path[1:], Mode: 0o755, Source: path})
	}
	for _, path := range paths {
		add(path)
		out, err := exec.Command("ldd", path).Output()
		if err != nil {
			continue // it is static, or no program
		}
		for line := range strings.Lines(string(out)) {
			for word := range strings.FieldsSeq(line) {
				if strings.HasPrefix(word, "/") {
					add(word)
				}
			}
		}
	}
	return entries
}

// udevd returns Debian's udev, without its database of hardware, and other programs.
func udevd(t *testing.T, programs ...string) (entries []initramfs.Entry) {
	t.Helper()
	need(t, "udevadm")
	programs = append(programs, "/bin/udevadm")
	for _, name := range []string{"ata_id", "scsi_id", "cdrom_id", "mtd_probe", "v4l_id", "fido_id"} {
		programs = append(programs, "/lib/udev/"+name)
	}
	entries = append(withLibraries(t, programs...), initramfs.Symlink{Path: "lib/systemd/systemd-udevd", Target: "/bin/udevadm"})
	found, err := filepath.Glob("/lib/udev/rules.d/*.rules")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		if strings.Contains(path, "80-drivers") || strings.Contains(path, "-net-setup-link") || strings.Contains(path, "net-dhcp") {
			continue // they load modules, and rename interfaces
		}
		entries = append(entries, initramfs.File{Path: path[1:], Mode: 0o644, Source: path})
	}
	return append(entries, initramfs.File{Path: "etc/passwd", Mode: 0o644, Text: "root:x:0:0:root:/:/bin/sh\n"})
}

// differences is testdata/names.txt, which says where we may differ from udevd.
//
//go:embed testdata/names.txt
var differences string

// The names and properties that the program gives to devices of all kinds are, one by one,
// those that Debian's udevd gives in the same machine, but for the differences that are
// listed with their reasons. Each of these must occur.
func TestNamesLikeUdevd(t *testing.T) {
	o := boot.Options{Kernel: boot.QEMU, Memory: 1024, Modules: zooDrivers,
		// The guest is to come to rest: no looking for other media.
		Append: []string{"net.ifnames=0", "block.events_dfl_poll_msecs=600000"}}
	if onHost() {
		o.Devices = zooDevices(t)
		o.Files = udevd(t)
	}
	boot.NewLab(t).Run(t, o, func(g *boot.Guest) {
		start := time.Now()
		if err := os.WriteFile("/etc/mdev.conf", []byte(g.Command(program, "--print-udev-conf")), 0o644); err != nil {
			g.Fatal(err)
		}
		since := func(what string) { g.Logf("%s: %v", what, time.Since(start).Round(100*time.Millisecond)) }
		mountDev(g, "tmpfs")
		stop := startLoop(g, "--udev")
		for _, name := range zooDrivers {
			g.Insmod(name)
		}
		since("modules")
		awaitZoo(g)
		g.Settle()
		g.Command(program, "settle", "60")
		since("our names")
		ours := ourLinks(g)
		properties := propertiesOf(g.Command(program, "info", "--export-db"))
		since("our properties")
		sameAsFresh(g, "with all devices", "")
		since("a fresh scan")
		messages, database := messageFacts(g), databaseFacts(g)
		since("our messages and database")
		stop()
		twoCards(g)
		if err := os.RemoveAll("/run/udev"); err != nil {
			g.Fatal(err)
		}
		g.Command("/lib/systemd/systemd-udevd", "--daemon")
		theirMessages, theirDatabase := messageFacts(g), databaseFacts(g)
		since("udevd")
		table := loadTable()
		table.compareLinks(g, ours, udevdLinks(g))
		table.compareProperties(g, properties, propertiesOf(g.Command("/bin/udevadm", "info", "--export-db")))
		table.compareFacts(g, "messages", messages, theirMessages, 1000)
		table.compareFacts(g, "database", database, theirDatabase, 1000)
		for _, r := range table {
			if !r.seen {
				g.Errorf("names.txt: nothing differs so: %s %s", r.side, r.pattern)
			}
		}
	})
}

// awaitZoo waits until the drivers have found all devices.
func awaitZoo(g *boot.Guest) {
	g.Helper()
	for _, want := range []struct {
		pattern string
		n       int
	}{
		{"/sys/class/block/sd*[a-z]", 8}, {"/sys/class/block/sr*", 3}, {"/sys/class/block/nvme*n*", 5}, {"/sys/class/block/vd*", 4},
		{"/sys/class/block/mmcblk?", 1}, {"/sys/class/sound/controlC*", 3}, {"/sys/class/tty/ttyUSB*", 2},
		{"/sys/class/input/event*", 10}, {"/sys/class/virtio-ports/*", 2}, {"/sys/class/drm/card?", 1},
	} {
		var found []string
		there := kerneltest.Eventually(boot.Patience/3, func() bool {
			found, _ = filepath.Glob(want.pattern)
			return len(found) >= want.n
		})
		if !there {
			g.Errorf("not %d of %s, but %q", want.n, want.pattern, found)
		}
	}
}

// twoCards checks that two sound cards of one serial number can be told apart.
func twoCards(g *boot.Guest) {
	g.Helper()
	paths, err := filepath.Glob("/dev/snd/by-path/*-usb-0:*")
	if err != nil || len(paths) != 2 {
		g.Fatalf("sound cards at USB: %q, %v", paths, err)
	}
	first, _ := os.Readlink(paths[0])
	second, _ := os.Readlink(paths[1])
	if first == second || first == "" || second == "" {
		g.Errorf("two sound cards lead to %q and %q", first, second)
	}
	if byID, err := filepath.Glob("/dev/snd/by-id/*_SAME-00"); err != nil || len(byID) != 1 {
		g.Errorf("by their serial number: %q, %v", byID, err)
	}
}

// ourLinks returns where each link below /dev leads: "b8:0".
func ourLinks(g *boot.Guest) map[string]string {
	g.Helper()
	all, err := boot.TakeSnapshot("/dev")
	if err != nil {
		g.Fatal(err)
	}
	links := map[string]string{}
	for path, what := range all {
		if !strings.HasPrefix(what, "-> ") {
			continue
		}
		var st unix.Stat_t
		if err := unix.Stat("/dev/"+path, &st); err != nil {
			g.Errorf("%s dangles: %v", path, err)
			continue
		}
		kind := "c"
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			kind = "b"
		}
		links[path] = fmt.Sprintf("%s%d:%d", kind, unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	return links
}

// udevdLinks returns the devices that udevd would lead each link to: of those that claim
// it the ones with the highest priority.
func udevdLinks(g *boot.Guest) map[string][]string {
	g.Helper()
	files, err := filepath.Glob("/run/udev/data/[bc]*")
	if err != nil {
		g.Fatal(err)
	}
	links, best := map[string][]string{}, map[string]int{}
	for _, file := range files {
		priority := 0
		var paths []string
		for line := range strings.Lines(g.Read(file)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			switch key {
			case "S":
				paths = append(paths, value)
			case "L":
				if priority, err = strconv.Atoi(value); err != nil {
					g.Fatal(err)
				}
			}
		}
		for _, path := range paths {
			if old, claimed := best[path]; claimed && priority < old {
				continue
			} else if claimed && priority > old {
				links[path] = nil
			}
			best[path] = priority
			links[path] = append(links[path], filepath.Base(file))
		}
	}
	return links
}

// table is what names.txt says.
type table []*row

// row explains a difference: who has it, ours or udev, and what.
type row struct {
	side, pattern string
	seen          bool
}

func loadTable() (all table) {
	for text := range strings.Lines(differences) {
		if f := strings.Fields(text); len(f) > 2 && f[0] != "#" {
			all = append(all, &row{side: f[0], pattern: f[1]})
		}
	}
	return all
}

// explains reports whether a row says why only one side has something.
func (all table) explains(side, what string) bool {
	found := false
	for _, r := range all {
		if r.side == side && kerneltest.Glob(r.pattern, what) {
			r.seen, found = true, true
		}
	}
	return found
}

// compareLinks compares link by link.
func (all table) compareLinks(g *boot.Guest, ours map[string]string, theirs map[string][]string) {
	g.Helper()
	same := 0
	for _, path := range slices.Sorted(maps.Keys(ours)) {
		claimants := theirs[path]
		switch {
		case claimants == nil && !all.explains("ours", path):
			g.Errorf("only we have %s (%s)", path, ours[path])
		case claimants != nil && !slices.Contains(claimants, ours[path]):
			g.Errorf("%s leads to %s, with udev to %q", path, ours[path], claimants)
		case claimants != nil:
			same++
		}
	}
	for _, path := range slices.Sorted(maps.Keys(theirs)) {
		if ours[path] == "" && !all.explains("udev", path) {
			g.Errorf("only udev has %s (%q)", path, theirs[path])
		}
	}
	g.Logf("%d links are the same", same)
	if same < 150 {
		g.Errorf("only %d links are the same", same)
	}
}

// ownKeys are properties that tell of udevd's own work.
const ownKeys = " DEVLINKS TAGS CURRENT_TAGS USEC_INITIALIZED "

// propertiesOf returns what info --export-db tells of each device: SUBSYSTEM:KEY=VALUE,
// by devpath.
func propertiesOf(info string) map[string][]string {
	found := map[string][]string{}
	for part := range strings.SplitSeq(info, "\n\n") {
		var devpath, subsystem string
		var all []string
		for line := range strings.Lines(part) {
			line = strings.TrimSuffix(line, "\n")
			kind, value, _ := strings.Cut(line, ": ")
			if kind != "E" {
				continue
			}
			key, text, _ := strings.Cut(value, "=")
			switch key {
			case "DEVPATH":
				devpath = text
			case "SUBSYSTEM":
				subsystem = text
			}
			if !strings.Contains(ownKeys, " "+key+" ") {
				all = append(all, value)
			}
		}
		for i := range all {
			all[i] = subsystem + ":" + all[i]
		}
		if devpath != "" {
			found[devpath] = all
		}
	}
	return found
}

// compareProperties compares those of each device.
func (all table) compareProperties(g *boot.Guest, ours, theirs map[string][]string) {
	g.Helper()
	same := 0
	for _, devpath := range slices.Sorted(maps.Keys(theirs)) {
		if ours[devpath] == nil {
			g.Errorf("devspool info does not know %s", devpath)
			continue
		}
		for _, what := range theirs[devpath] {
			if slices.Contains(ours[devpath], what) {
				same++
			} else if !all.explains("udev", what) {
				g.Errorf("only udev says %s of %s", what, devpath)
			}
		}
		for _, what := range ours[devpath] {
			if !slices.Contains(theirs[devpath], what) && !all.explains("ours", what) {
				g.Errorf("only we say %s of %s", what, devpath)
			}
		}
	}
	g.Logf("%d properties of %d devices are the same", same, len(theirs))
	if same < 3000 {
		g.Errorf("only %d properties are the same", same)
	}
}
