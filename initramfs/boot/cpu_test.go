package boot_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/initramfs"
	"devspool/initramfs/boot"
)

// persistent is what users of BusyBox mdev have for links by UUID and label: a script
// around blkid, as it is found in distributions.
const persistent = `#!/bin/sh
case $ACTION in
add|change)
	eval "$(blkid -o export "/dev/$MDEV" | sed -n "s/'//g; s/^\([A-Z]*\)=\(.*\)/\1='\2'/p")"
	for pair in "uuid/$UUID" "label/$LABEL"; do
		[ -n "${pair#*/}" ] || continue
		mkdir -p "/dev/disk/by-${pair%%/*}"
		ln -sf "../../$MDEV" "/dev/disk/by-$pair"
	done;;
esac
`

const persistentConf = "sd[a-z]+ 0:6 660 */lib/persistent\n"

// TestNamesCPU measures the CPU of names for 128 disks with an ext4 each: helpers and the
// loop, beside BusyBox mdev with a script that calls blkid for by-uuid and by-label alone.
// It is no test of what is right, and so runs only where DEVSPOOL_BENCH is set (make
// bench-names).
func TestNamesCPU(t *testing.T) {
	if onHost() && os.Getenv("DEVSPOOL_BENCH") == "" {
		t.Skip("a measurement, for DEVSPOOL_BENCH=1")
	}
	o := boot.Options{
		Memory: 768, Append: []string{fewTerminals}, Modules: []string{"scsi_debug", "sd_mod"},
		Files: []initramfs.Entry{
			initramfs.Symlink{Path: "sbin/mdev", Target: "../bin/busybox"},
			initramfs.Symlink{Path: "sbin/hotplug", Target: "devspool"},
			initramfs.Symlink{Path: "bin/sed", Target: "busybox"},
			initramfs.Symlink{Path: "bin/ln", Target: "busybox"},
			initramfs.Symlink{Path: "bin/mkdir", Target: "busybox"},
			initramfs.File{Path: "etc/mdev.conf.rival", Mode: 0o644, Text: persistentConf},
			initramfs.File{Path: "etc/group", Mode: 0o644, Text: "root:x:0:\ndisk:x:6:\n"},
			initramfs.File{Path: "etc/passwd", Mode: 0o644, Text: "root:x:0:0:root:/:/bin/sh\n"},
			initramfs.File{Path: "lib/persistent", Mode: 0o755, Text: persistent},
		},
	}
	if onHost() {
		o.Files = append(append(o.Files, withLibraries(t, need(t, "blkid"))...), ext4Image(t)...)
	}
	boot.NewLab(t).Run(t, o, func(g *boot.Guest) {
		// The kernel's own setting may be our helper: one that stays finds the /dev of the rival.
		g.Write("/proc/sys/kernel/hotplug", "\n")
		awaitNoServer(g)
		mountDev(g, "tmpfs")
		g.Insmod("sd_mod")
		g.Insmod("scsi_debug", "dev_size_mb=1", "per_host_store=1", fmt.Sprint("add_host=", stormDisks), "delay=0")
		awaitDisks(g, stormDisks)
		makeFilesystems(g)
		g.Settle()
		rival := nameAll(g, "mdev")
		for _, way := range []string{"helper", "loop"} {
			used := nameAll(g, way)
			g.Logf("CPU for the names of %d disks: %s %.2f s, busybox mdev with blkid %.2f s, ratio %.2f, target 0.25",
				stormDisks, way, used, rival, used/rival)
		}
	})
}

// ext4Image makes what makeFilesystems writes.
func ext4Image(t *testing.T) []initramfs.Entry {
	t.Helper()
	image := filepath.Join(t.TempDir(), "ext4")
	need(t, "mke2fs")
	if out, err := exec.Command("sh", "-ec", "truncate -s 1M "+image+" && mke2fs -q -t ext4 -O ^metadata_csum "+image).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return []initramfs.Entry{initramfs.File{Path: "ext4", Mode: 0o644, Source: image}}
}

// makeFilesystems writes an ext4 with an identity of its own to each disk.
func makeFilesystems(g *boot.Guest) {
	g.Helper()
	image, err := os.ReadFile("/ext4")
	if err != nil {
		g.Fatal(err)
	}
	disks, _ := filepath.Glob("/sys/block/sd*")
	for i, disk := range disks {
		const label, uuid = 1024 + 120, 1024 + 104
		copy(image[label:], fmt.Sprintf("disk%03d\x00", i))
		image[uuid] = byte(i)
		var major, minor uint32
		if _, err := fmt.Sscanf(g.Read(disk+"/dev"), "%d:%d", &major, &minor); err != nil {
			g.Fatal(err)
		}
		if err := unix.Mknod("/tmp/disk", unix.S_IFBLK|0o600, int(unix.Mkdev(major, minor))); err != nil {
			g.Fatal(err)
		}
		g.Write("/tmp/disk", string(image))
		os.Remove("/tmp/disk")
	}
}

// nameAll has one way make the nodes and links of all disks in an empty /dev, and returns
// how long that took, in seconds, without the time of this process. The machine has one
// processor, does nothing else, and counts the CPU of short-lived processes wrong: it looks
// who runs at each tick.
func nameAll(g *boot.Guest, way string) float64 {
	g.Helper()
	mountDev(g, "tmpfs")
	defer func() {
		if err := unix.Unmount("/dev", unix.MNT_DETACH); err != nil {
			g.Error(err)
		}
	}()
	helper := map[string]string{"mdev": "/sbin/mdev", "helper": "/sbin/hotplug"}[way]
	if way == "mdev" {
		if err := os.Symlink("mdev.conf.rival", "/etc/mdev.conf"); err != nil {
			g.Fatal(err)
		}
		defer os.Remove("/etc/mdev.conf")
	}
	g.Settle()
	before, own := time.Now(), ownCPU(g)
	stop := func() {}
	if helper == "" {
		stop = startLoop(g) // its coldplug has all other devices too
	} else {
		g.Write("/proc/sys/kernel/hotplug", helper)
		disks, _ := filepath.Glob("/sys/block/sd*")
		for _, disk := range disks {
			g.Write(disk+"/uevent", "add")
		}
	}
	g.Until("links of all disks", func() error {
		found, err := filepath.Glob("/dev/disk/by-[ul]*/*")
		if err == nil && len(found) != 2*stormDisks {
			err = fmt.Errorf("%d", len(found))
			time.Sleep(100 * time.Millisecond) // there is one processor for all
		}
		return err
	})
	used := (time.Since(before) - ownCPU(g) + own).Seconds()
	if theirs, _ := filepath.Glob("/dev/disk/by-*"); way == "mdev" && len(theirs) != 2 {
		g.Errorf("the rival has help: there are %q", theirs)
	}
	if helper != "" {
		g.Write("/proc/sys/kernel/hotplug", "\n")
	}
	stop()
	awaitNoServer(g)
	g.Settle()
	return used
}

// ownCPU returns the CPU time that this process has used.
func ownCPU(g *boot.Guest) time.Duration {
	g.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		g.Fatal(err)
	}
	return time.Duration(ts.Nano())
}
