package boot_test

import (
	"os"
	"path"
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
	{"virtio", boot.Root{Pack: []string{"--set", "virtio,filesystem"}, Param: uuid,
		Attach: func(disk string) []string { return drive(disk, "-device", "virtio-blk-pci,drive=root") }}},
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

// TestRoots boots from an image whose /init is the program into a root on every kind of
// disk, and finds there what a system expects.
func TestRoots(t *testing.T) {
	lab := boot.NewLab(t)
	for _, r := range roots {
		t.Run(r.name, func(t *testing.T) {
			lab.Run(t, boot.Options{Kernel: boot.QEMU, Memory: 512, Timeout: 2 * time.Minute, Root: &r.root}, inRoot)
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
	if _, err := os.Stat("/dev/disk/by-uuid/" + boot.RootUUID); err != nil {
		g.Error(err)
	}
	g.Command(program, "settle", "60")
	if out := g.Command(program, "status"); !strings.Contains(out, "as loop, pid ") {
		g.Errorf("the loop of the early boot does not answer: %s", out)
	}
	takeOver(g)
	sameAsFresh(g, "in the root", "")
}

// takeOver starts a loop, which takes the place of the early boot's.
func takeOver(g *boot.Guest) (stop func()) {
	g.Helper()
	before := loopPid(g)
	stop = startLoop(g)
	if after := loopPid(g); after == before {
		g.Errorf("the loop of the early boot, %s, still serves", before)
	}
	g.Until("the end of the early boot's loop", func() error {
		if _, err := os.Stat("/proc/" + before); err == nil && !strings.Contains(g.Read("/proc/"+before+"/stat"), ") Z ") {
			return os.ErrExist
		}
		return nil
	})
	return stop
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
detach=yes;ubda	0:6	660	@/sbin/plugger
sd.*	0:6	660	*echo "$SEQNUM $ACTION $DEVNAME" >>/run/commands
sg.*	0:6	660
`

// TestNothingLost plugs disks throughout a boot: while /init finds the root, switches to it,
// and while the system's loop takes the place of the early boot's. A client that was there
// from the early boot on gets each event once and in order, and each command runs once.
func TestNothingLost(t *testing.T) {
	lab := boot.NewLab(t)
	conf := initramfs.File{Path: "etc/mdev.conf", Mode: 0o644, Text: pluggedRules}
	root := boot.Root{Param: uuid + " " + fewTerminals, Attach: func(disk string) []string { return []string{"ubd0=" + disk} }}
	root.Pack = []string{"--set", "filesystem", "--modules", "scsi_debug,sd_mod,sg", "--program", "/bin/busybox", "--link", "bin/sh:busybox"}
	if !lab.IsGuest() {
		dir := t.TempDir()
		hotplugtest.WriteFile(t, dir+"/mdev.conf", pluggedRules)
		root.Pack = append(root.Pack, "--conf", dir+"/mdev.conf", "--file", lab.PluggerFile().Source+":sbin/plugger")
	}
	lab.Run(t, boot.Options{Memory: 384, Timeout: 3 * time.Minute, Root: &root, Files: []initramfs.Entry{conf}}, func(g *boot.Guest) {
		time.Sleep(time.Second)
		stop := takeOver(g)
		time.Sleep(time.Second)
		runs := strings.Fields(g.Read(boot.PluggerRuns))
		if len(runs) != 1 {
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
		nothingLost(g)
		sameAsFresh(g, "after all", "/etc/mdev.conf")
		stop()
	})
}

// nothingLost checks what the plugger's queue holds, and which commands ran.
func nothingLost(g *boot.Guest) {
	files, err := os.ReadDir(boot.PluggerQueue) // by name
	if err != nil {
		g.Fatal(err)
	}
	var last uint64
	disks := map[string]int{}
	for _, file := range files {
		if strings.HasPrefix(file.Name(), ".") {
			continue
		}
		p, err := spool.Parse([]byte(g.Read(boot.PluggerQueue + "/" + file.Name())))
		if err != nil {
			g.Fatalf("%s: %v", file.Name(), err)
		}
		text, _ := p.Get("SEQNUM")
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			g.Fatalf("%s: %s@%s: SEQNUM %q", file.Name(), p.Action, p.Devpath, text)
		}
		if subsystem, _ := p.Get("SUBSYSTEM"); subsystem == "block" && strings.HasPrefix(path.Base(p.Devpath), "sd") {
			disks[text+" "+p.Action+" "+path.Base(p.Devpath)]++
		}
		if last != 0 && n <= last {
			g.Errorf("event %d comes after %d", n, last)
		}
		for ; last != 0 && last+1 < n; last++ {
			g.Errorf("event %d is missing", last+1)
		}
		last = n
	}
	if end := g.Read("/sys/kernel/uevent_seqnum"); end != strconv.FormatUint(last, 10) {
		g.Errorf("the queue ends with event %d, and the kernel sent %s", last, end)
	}
	ran := map[string]int{}
	for line := range strings.Lines(g.Read("/run/commands") + "\n") {
		ran[strings.TrimSpace(line)]++
	}
	for key, n := range disks {
		if n != 1 || ran[key] != 1 && !strings.Contains(key, " change ") {
			g.Errorf("%s: %d events, %d commands", key, n, ran[key])
		}
	}
	g.Logf("%d files in the queue, %d events of disks", len(files), len(disks))
	if len(disks) < 20 {
		g.Errorf("only %d events of disks", len(disks))
	}
}
