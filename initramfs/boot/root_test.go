package boot_test

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/spool"
	"devspool/initramfs"
	"devspool/initramfs/boot"
)

// uuid is the root by the way that most systems name it.
const uuid = "root=UUID=" + boot.RootUUID + " rw"

// drive is QEMU's description of a disk that a device is to have.
func drive(disk string, device ...string) []string {
	return append([]string{"-drive", "file=" + disk + ",if=none,id=root,format=raw"}, device...)
}

// roots are ways to a root on Debian's kernel.
var roots = []struct {
	name string
	root boot.Root
}{
	// This one has another device, whose module hangs.
	{"virtio", boot.Root{Pack: []string{"--set", "virtio,filesystem", "--modules", "scsi_debug,sd_mod"}, Param: uuid + " rd.devspool.log=steps scsi_mod.scan=sync",
		Attach: func(disk string) []string {
			return drive(disk, "-device", "virtio-rng-pci", "-device", "virtio-blk-pci,drive=root")
		}}},
	{"nvme", boot.Root{Pack: []string{"--set", "nvme,filesystem"}, Param: "root=/dev/nvme0n1 rw rootfstype=ext4 rootflags=noatime,errors=panic",
		Attach: func(disk string) []string { return drive(disk, "-device", "nvme,drive=root,serial=x") }}},
	{"usb", boot.Root{Pack: []string{"--set", "usb,filesystem"}, Param: uuid + " rootwait",
		Attach: func(disk string) []string {
			return drive(disk, "-device", "qemu-xhci", "-device", "usb-hub", "-device", "usb-storage,drive=root")
		}}},
	{"scsi", boot.Root{Pack: []string{"--set", "scsi,virtio,filesystem"}, Param: `root=LABEL=a\x20root rw`,
		Attach: func(disk string) []string {
			return drive(disk, "-device", "virtio-scsi-pci", "-device", "scsi-hd,drive=root")
		}}},
	{"sd", boot.Root{Pack: []string{"--set", "mmc,filesystem"}, Param: uuid,
		Attach: func(disk string) []string {
			return append([]string{"-device", "sdhci-pci", "-device", "sd-card,drive=root"}, drive(disk)...)
		}}},
}

// hanging is what modprobe.d has for a device of the first machine: a module that asks a disk
// while it is loaded, and gets no answer.
const hanging = "alias virtio:d00000004v* scsi_debug\noptions scsi_debug every_nth=1 opts=4 dev_size_mb=1\n"

// goOn has the disk of the module that hangs answer, after it was seen that all else did not
// wait for it.
func goOn(g *boot.Guest) {
	const module = "/sys/module/scsi_debug/initstate"
	if state := g.Read(module); state != "coming" {
		g.Errorf("in the root, the module that was to hang is %s", state)
	}
	g.Write("/sys/bus/pseudo/drivers/scsi_debug/opts", "0")
	g.Until("the end of the module's initialization", func() error {
		if g.Read(module) != "live" {
			return os.ErrNotExist
		}
		return nil
	})
}

// TestRoots boots from an image whose /init is the program into a root on every kind of
// disk, and finds there what a system expects. A module that hangs on the first machine
// does not delay it.
func TestRoots(t *testing.T) {
	lab := boot.NewLab(t)
	for i, r := range roots {
		if i == 0 && !lab.IsGuest() {
			conf := t.TempDir() + "/hanging.conf"
			hotplugtest.WriteFile(t, conf, hanging)
			r.root.Pack = append(r.root.Pack, "--modprobe-conf", conf)
		}
		t.Run(r.name, func(t *testing.T) {
			lab.Run(t, boot.Options{Kernel: boot.QEMU, Memory: 512, Root: &r.root}, func(g *boot.Guest) {
				if i == 0 {
					goOn(g)
				}
				inRoot(g)
				// Programs expect the node there, not a link to it.
				if mounts := g.Read("/proc/self/mounts"); strings.Contains(mounts, "/dev/disk/") {
					g.Errorf("mounts: %s", mounts)
				}
				sameAsFresh(g, "in the root", "")
			})
		})
	}
}

// TestArchitectures boots other architectures from an image that the packer has made for them,
// into a root on a disk that a module drives.
func TestArchitectures(t *testing.T) {
	for _, m := range []struct {
		name   string
		kernel boot.Kernel
		disk   string
	}{
		{"arm64", boot.Arm64, "virtio-blk-pci"},
		{"armhf", boot.Arm, "virtio-blk-device"},
		{"s390x", boot.S390x, "virtio-blk-ccw"},
	} {
		t.Run(m.name, func(t *testing.T) {
			lab := boot.NewForeignLab(t, m.kernel)
			root := boot.Root{Pack: []string{"--set", "virtio", "--modules", "ext4"}, Param: uuid + " rd.devspool.log=steps scsi_mod.scan=sync",
				Attach: func(disk string) []string { return drive(disk, "-device", m.disk+",drive=root") }}
			lab.Run(t, boot.Options{Kernel: m.kernel, Memory: 512, Root: &root}, inRoot)
		})
	}
}

// luksUUID is that of the disk that is encrypted.
const luksUUID = "5bb0c2a3-7a4f-4b53-9f0e-6f2a2f0c9d11"

// shapes are roots that other disks have to be made into first.
var shapes = []struct {
	name    string
	root    boot.Root
	answers map[string]string
}{
	{"lvm on luks", boot.Root{Param: "root=/dev/vg/root rw rd.luks.uuid=" + luksUUID, Shape: `
echo -n 'a secret' >/key
cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --uuid ` + luksUUID + ` /dev/vdb /key
cryptsetup open --key-file /key /dev/vdb c
lvm pvcreate -y /dev/mapper/c
lvm vgcreate -y vg /dev/mapper/c
lvm lvcreate -y -Wn -Zn -n root -l 100%FREE vg
busybox dd if=/dev/vda of=/dev/dm-1 bs=1M conv=notrunc
lvm vgchange -an vg
cryptsetup close c`}, map[string]string{"Enter passphrase for": "a secret"}},
	{"md", boot.Root{Param: uuid, Shape: `
mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --metadata=1.2 --homehost=any --name=root /dev/vdb /dev/vdc
busybox dd if=/dev/vda of=/dev/md0 bs=1M
mdadm --stop /dev/md0`}, nil},
}

// TestShapes boots from roots on LUKS, LVM and md, which their own tools bring about.
func TestShapes(t *testing.T) {
	lab := boot.NewLab(t)
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			s.root.Pack = boot.ShapeTools
			s.root.Attach = func(disk string) []string {
				return []string{"-drive", "file=" + disk + ",if=virtio,format=raw", "-drive", "file=" + disk + ".2,if=virtio,format=raw"}
			}
			lab.Run(t, boot.Options{Kernel: boot.QEMU, Memory: 512, Root: &s.root, Answers: s.answers}, inRoot)
		})
	}
}

// TestRootUML is the same under User Mode Linux, whose kernel starts the helper for each event.
func TestRootUML(t *testing.T) {
	lab := boot.NewLab(t)
	root := boot.Root{Pack: []string{"--set", "filesystem", "--link", "sbin/hotplug:devspool"}, Param: uuid + " " + fewTerminals,
		Attach: func(disk string) []string { return []string{"ubd0=" + disk} }}
	lab.Run(t, boot.Options{Root: &root}, inRoot)
}

// TestRootByNumbers boots from the second partition of a disk, by what the kernel itself understands.
func TestRootByNumbers(t *testing.T) {
	lab := boot.NewLab(t)
	// A table of MBR: type, first sector and length of each partition, and the disk's signature.
	table := make([]byte, 512)
	for i, sectors := range [][2]uint32{{64, 64}, {2048, 128 << 11}} {
		at := table[446+16*i:]
		at[4] = 0x83
		binary.LittleEndian.PutUint32(at[8:], sectors[0])
		binary.LittleEndian.PutUint32(at[12:], sectors[1])
	}
	copy(table[440:], "\x44\x33\x22\x11")
	copy(table[510:], "\x55\xaa")
	for name, param := range map[string]string{"beside": "root=PARTUUID=11223344-01/PARTNROFF=1", "hexadecimal": "root=6202"} {
		t.Run(name, func(t *testing.T) {
			root := boot.Root{Pack: []string{"--set", "filesystem"}, Param: param + " rw " + fewTerminals, Attach: func(disk string) []string {
				system, err := os.ReadFile(disk)
				hotplugtest.Must(t, err)
				hotplugtest.WriteFile(t, disk, string(table)+strings.Repeat("\x00", 2048*512-len(table))+string(system))
				return []string{"ubd0=" + disk}
			}}
			lab.Run(t, boot.Options{Root: &root}, func(g *boot.Guest) {
				if mounts := g.Read("/proc/self/mounts"); !strings.Contains(mounts, "/dev/ubda2 / ext4") {
					g.Errorf("mounts: %s", mounts)
				}
				inRoot(g)
			})
		})
	}
}

// flashRules make flash memory of a disk, and then UBI of that.
const flashRules = `
SUBSYSTEM=block;vda	0:0	660	@modprobe block2mtd block2mtd=/dev/vda,128KiB
SUBSYSTEM=mtd;mtd0	0:0	660	@modprobe ubi mtd=0
-$MODALIAS=.*	0:0	660	@modprobe -b -q "$MODALIAS"
`

// TestRootOnFlash boots from a volume of UBI, by its name.
func TestRootOnFlash(t *testing.T) {
	lab := boot.NewLab(t)
	root := boot.Root{Param: "root=ubi0:system rw", Attach: func(disk string) []string {
		dir := path.Dir(disk)
		hotplugtest.WriteFile(t, dir+"/volumes", "[system]\nmode=ubi\nimage="+dir+"/ubifs\nvol_id=0\nvol_type=dynamic\nvol_name=system\nvol_flags=autoresize\n")
		script := "mkfs.ubifs -m 1 -e 130944 -c 900 -r tree ubifs && ubinize -o disk -p 128KiB -m 1 volumes && truncate -s 128M disk"
		cmd := exec.Command("sh", "-c", script)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return []string{"-drive", "file=" + disk + ",if=virtio,format=raw"}
	}}
	if !lab.IsGuest() {
		need(t, "mkfs.ubifs")
		conf := t.TempDir() + "/conf"
		hotplugtest.WriteFile(t, conf, flashRules)
		root.Pack = []string{"--set", "virtio,filesystem", "--modules", "block2mtd,ubi", "--conf", conf}
	}
	lab.Run(t, boot.Options{Kernel: boot.QEMU, Memory: 512, Root: &root}, func(g *boot.Guest) {
		if mounts := g.Read("/proc/self/mounts"); !strings.Contains(mounts, "ubi0:system / ubifs rw") {
			g.Errorf("mounts: %s", mounts)
		}
		takeOver(g)
	})
}

// TestLoopKilled has the loop of the early boot killed on the way to the root, and again in the root.
func TestLoopKilled(t *testing.T) {
	lab := boot.NewLab(t)
	conf := t.TempDir() + "/conf"
	hotplugtest.WriteFile(t, conf, "ubda 0:0 660 @test -e /run/once || { : >/run/once; kill -9 $PPID; }\n-$MODALIAS=.* 0:0 660 @modprobe -b -q \"$MODALIAS\"\n")
	root := boot.Root{Pack: []string{"--set", "filesystem", "--conf", conf, "--program", "/bin/busybox", "--link", "bin/sh:busybox"}, Param: uuid + " " + fewTerminals,
		Attach: func(disk string) []string { return []string{"ubd0=" + disk} }}
	lab.Run(t, boot.Options{Root: &root}, func(g *boot.Guest) {
		if _, err := os.Stat("/run/once"); err != nil {
			g.Fatal(err)
		}
		g.Command("/bin/busybox", "kill", "-9", loopPid(g))
		startLoop(g)
		sameAsFresh(g, "after a loop that was killed", "")
	})
}

// TestRootOfARule boots from a node that a rule has put where LVM would have one.
func TestRootOfARule(t *testing.T) {
	lab := boot.NewLab(t)
	conf := t.TempDir() + "/conf"
	hotplugtest.WriteFile(t, conf, "ubda 0:0 660 =board/root\n-$MODALIAS=.* 0:0 660 @modprobe -b -q \"$MODALIAS\"\n")
	root := boot.Root{Pack: []string{"--set", "filesystem", "--conf", conf},
		Param:  `root=/dev/board/root rw rootflags="noatime,exec,x-y" ` + fewTerminals,
		Attach: func(disk string) []string { return []string{"ubd0=" + disk} }}
	lab.Run(t, boot.Options{Root: &root}, inRoot)
}

// TestRootUnmountable shows what is said of a root that cannot be mounted, where several types are tried.
func TestRootUnmountable(t *testing.T) {
	lab := boot.NewLab(t)
	root := boot.Root{Pack: []string{"--set", "filesystem"},
		Param:  "root=/dev/ubda rootfstype=ext4,nothing rootflags=nothing loglevel=1 " + fewTerminals,
		Attach: func(disk string) []string { return []string{"ubd0=" + disk} }}
	want := "root=/dev/ubda (/dev/ubda) cannot be mounted, tried as ext4, nothing: invalid argument; the kernel says: ext4: Unknown parameter 'nothing'\n"
	if console := lab.Console(t, boot.Options{Root: &root}); !strings.Contains(console, want) {
		t.Error(console)
	}
}

// otherInit is an init that moves /dev, without a word to the loop.
const otherInit = `#!/bin/busybox sh
export PATH=/sbin:/bin
busybox mkdir -p /proc /sys /dev /run
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
busybox mount -t tmpfs run /run
devspool -d
devspool wait UUID=` + boot.RootUUID + ` 300
modprobe ext4
busybox mount -t ext4 /dev/disk/by-uuid/` + boot.RootUUID + ` /sysroot
for dir in dev proc sys run; do busybox mount -o move /$dir /sysroot/$dir; done
exec busybox switch_root /sysroot /sbin/init
`

// TestOtherSwitchRoot has a script and BusyBox do what /init does: the loop goes along with its
// /dev, and ends by itself when another one serves that.
func TestOtherSwitchRoot(t *testing.T) {
	lab := boot.NewLab(t)
	root := boot.Root{Param: uuid + " " + fewTerminals, Attach: func(disk string) []string { return []string{"ubd0=" + disk} }}
	if !lab.IsGuest() {
		script := t.TempDir() + "/init"
		hotplugtest.WriteFile(t, script, otherInit)
		rules := t.TempDir() + "/mdev.conf"
		hotplugtest.WriteFile(t, rules, "ubda 0:6 660 *echo $ACTION >>/run/said\n")
		root.Pack = []string{"--set", "filesystem", "--program", "/bin/busybox", "--link", "bin/sh:busybox", "--conf", rules, "--init", script, "--dir", "sysroot"}
	}
	lab.Run(t, boot.Options{Root: &root}, func(g *boot.Guest) {
		g.Until("the loop to be in this root", func() error {
			if _, err := os.Stat("/proc/" + loopPid(g) + "/root/sbin/init"); err != nil {
				return err
			}
			return nil
		})
		g.Write("/sys/class/block/ubda/uevent", "change")
		g.Command(program, "settle", "60")
		if said := g.Read("/run/said"); said != "add\nchange" {
			g.Errorf("the commands say %q", said)
		}
		inRoot(g)
	})
}

// inRoot checks what /init has left.
func inRoot(g *boot.Guest) {
	mounts := g.Read("/proc/self/mounts")
	for _, want := range []string{" / ext4 rw", " /dev devtmpfs ", " /run tmpfs ", " /sys sysfs "} {
		if !strings.Contains(mounts, want) {
			g.Errorf("no %q among the mounts:\n%s", want, mounts)
		}
	}
	if strings.Contains(mounts, "/sysroot") {
		g.Errorf("mounts: %s", mounts)
	}
	// /init may find the root by itself before the loop has named it.
	g.Until("the root's name", func() error {
		_, err := os.Stat("/dev/disk/by-uuid/" + boot.RootUUID)
		return err
	})
	g.Command(program, "settle", "60")
	if out := g.Command(program, "status"); !strings.Contains(out, "as loop, pid ") {
		g.Errorf("the loop of the early boot does not answer: %s", out)
	}
	takeOver(g)
}

// takeOver starts a loop, which takes the place of the early boot's.
func takeOver(g *boot.Guest) {
	g.Helper()
	before := loopPid(g)
	startLoop(g)
	if after := loopPid(g); after == before {
		g.Errorf("the loop of the early boot, %s, still serves", before)
	}
	g.Until("the end of the early boot's loop", func() error {
		if _, err := os.Stat("/proc/" + before); err == nil && !strings.Contains(g.Read("/proc/"+before+"/stat"), ") Z ") {
			return os.ErrExist
		}
		return nil
	})
}

// loopPid returns the process of the loop that serves /dev.
func loopPid(g *boot.Guest) string {
	g.Helper()
	_, rest, _ := strings.Cut(g.Command(program, "status"), ", pid ")
	pid, _, _ := strings.Cut(rest, "\n")
	return pid
}

// pluggedRules are the config of the early boot and of the system: the plugger is started by
// the root's disk, and each event of a disk has a command.
const pluggedRules = `
ubda	0:6	660	@/sbin/plugger
sd.*	0:6	660	*echo "$SEQNUM $ACTION $DEVNAME" >>/run/commands
sg.*	0:6	660
`

// TestNothingLost plugs disks throughout a boot: while /init finds the root, switches to it,
// and while the system's loop takes the place of the early boot's. A client that was there
// from the early boot on gets each event once and in order, and each command runs once.
func TestNothingLost(t *testing.T) {
	lab := boot.NewLab(t)
	files := []initramfs.Entry{
		initramfs.File{Path: "etc/mdev.conf", Mode: 0o644, Text: pluggedRules},
		initramfs.File{Path: freshConf[1:], Mode: 0o644, Text: "(ubda|sd.*|sg.*)\t0:6\t660\n"},
	}
	root := boot.Root{Param: uuid + " loglevel=1 " + fewTerminals, Attach: func(disk string) []string { return []string{"ubd0=" + disk} }}
	root.Pack = []string{"--set", "filesystem", "--modules", "scsi_debug,sd_mod,sg", "--program", "/bin/busybox", "--link", "bin/sh:busybox"}
	if !lab.IsGuest() {
		dir := t.TempDir()
		hotplugtest.WriteFile(t, dir+"/mdev.conf", pluggedRules)
		root.Pack = append(root.Pack, "--conf", dir+"/mdev.conf", "--file", lab.PluggerFile().Source+":sbin/plugger")
	}
	lab.Run(t, boot.Options{Memory: 384, Root: &root, Files: files}, func(g *boot.Guest) {
		time.Sleep(1500 * time.Millisecond)
		takeOver(g)
		time.Sleep(1500 * time.Millisecond)
		runs := strings.Fields(g.Read(boot.PluggerRuns))
		if len(runs) != 2 {
			g.Fatalf("the plugger was started as %q", runs)
		}
		g.Command("/bin/busybox", "kill", "-TERM", runs[0])
		g.Until("the plugger's end", func() error {
			if !strings.Contains(g.Read(boot.PluggerRuns), "plugged") {
				return os.ErrNotExist
			}
			return nil
		})
		g.Log(g.Read(boot.PluggerRuns))
		g.Command(program, "settle", "60")
		nothingLost(g, boot.PluggerQueue+runs[0], runs[1])
		if status := g.Command(program, "status"); !strings.Contains(status, "gaps: 0\n") {
			g.Error(status)
		}
		sameAsFresh(g, "after all", freshConf)
	})
}

// nothingLost checks what the plugger's queue holds, and which commands ran. Events that have
// nothing to do with each other may be done in another order; those of one device may not.
func nothingLost(g *boot.Guest, queue, before string) {
	files, err := os.ReadDir(queue) // by name
	if err != nil {
		g.Fatal(err)
	}
	number := func(text string) uint64 {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			g.Fatalf("SEQNUM %q", text)
		}
		return n
	}
	times, last, disks := map[uint64]int{}, map[string]uint64{}, map[string]bool{}
	for _, file := range files {
		if strings.HasPrefix(file.Name(), ".") {
			continue
		}
		p, err := spool.Parse([]byte(g.Read(queue + "/" + file.Name())))
		if err != nil {
			g.Fatalf("%s: %v", file.Name(), err)
		}
		text, ofKernel := p.Get("SEQNUM")
		n := uint64(0)
		if ofKernel {
			n = number(text)
			times[n]++
		}
		if was, there := last[p.Devpath]; there && n <= was {
			g.Errorf("%s@%s: event %d comes after %d", p.Action, p.Devpath, n, was)
		}
		last[p.Devpath] = n
		if subsystem, _ := p.Get("SUBSYSTEM"); subsystem == "block" && strings.HasPrefix(path.Base(p.Devpath), "sd") && p.Action != "change" {
			disks[text+" "+p.Action+" "+path.Base(p.Devpath)] = true
		}
	}
	for n, end := number(before)+1, number(g.Read("/sys/kernel/uevent_seqnum")); n <= end; n++ {
		if times[n] != 1 {
			g.Errorf("event %d came %d times", n, times[n])
		}
	}
	ran := map[string]int{}
	for line := range strings.Lines(g.Read("/run/commands") + "\n") {
		ran[strings.TrimSpace(line)]++
	}
	for key := range disks {
		if ran[key] != 1 {
			g.Errorf("%s: %d commands", key, ran[key])
		}
	}
	for key, n := range ran {
		if n != 1 {
			g.Errorf("%s: %d commands", key, n)
		}
	}
	g.Logf("%d files in the queue, %d events of disks, %d commands", len(files), len(disks), len(ran))
	if len(disks) < 20 {
		g.Errorf("only %d events of disks", len(disks))
	}
}

// TestRootMissing shows what is said of a root that does not come, and when, though a module hangs
// in its initialization; and that it is said where the kernel has opened no console.
func TestRootMissing(t *testing.T) {
	lab := boot.NewLab(t)
	dir := t.TempDir()
	hotplugtest.WriteFile(t, dir+"/hanging.conf", "alias platform:uml-blkdev scsi_debug\noptions scsi_debug every_nth=1 opts=4 dev_size_mb=1\n")
	// As the kernel starts /init where the image has no /dev/console.
	hotplugtest.WriteFile(t, dir+"/start", "#!/bin/busybox sh\nexec /sbin/devspool init <&- >&- 2>&-\n")
	hotplugtest.Must(t, os.Chmod(dir+"/start", 0o755))
	root := boot.Root{Param: "root=LABEL=nowhere rd.devspool.timeout=2 loglevel=1 scsi_mod.scan=sync " + fewTerminals,
		Pack:   []string{"--modules", "loop,scsi_debug,sd_mod", "--modprobe-conf", dir + "/hanging.conf", "--program", "/bin/busybox", "--file", dir + "/start:start"},
		Attach: func(disk string) []string { return []string{"ubd0=" + disk} }}
	start := time.Now()
	console := lab.Console(t, boot.Options{Root: &root})
	took := time.Since(start)
	want := regexp.MustCompile(`devspool: root=LABEL=nowhere did not come within \d s; disks that came: ubda; modules that failed: none; ` +
		`still loading: scsi_debug; [0-9.]+ s for /devices/platform/uml-blkdev\S*\n` +
		`devspool: panic= is given, so there is no shell: panic in 10 s\n`)
	if !want.MatchString(console) || took > 2*time.Minute {
		t.Errorf("after %v, %q is not in:\n%s", took, want, console)
	}
	root.Param = "root=98:16 rd.devspool.timeout=1 rd.devspool.log=x loglevel=1 rdinit=/start " + fewTerminals // and not the 98:0 of User Mode Linux
	root.Pack = append([]string{"--dir", "lib/modules/5.0-other"}, root.Pack[4:]...)                           // no module of this kernel
	console = lab.Console(t, boot.Options{Root: &root})
	for _, want := range []string{"root=98:16 did not come within 1 s", `devspool: rd.devspool.log: "x" is none of: steps info` + "\n",
		"; the image has modules of 5.0-other and none of this kernel, "} {
		if !strings.Contains(console, want) {
			t.Errorf("no %q in:\n%s", want, console)
		}
	}
	if strings.Contains(console, "modprobe") {
		t.Errorf("without modules there is nothing to be loaded:\n%s", console)
	}
	root.Param = "root=nfs:10.0.0.1:/x loglevel=1 " + fewTerminals
	console = lab.Console(t, boot.Options{Root: &root})
	if !strings.Contains(console, `no disk's name: "nfs:10.0.0.1:/x"`) || strings.Contains(console, "--first") {
		t.Error(console)
	}
}
