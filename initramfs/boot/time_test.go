package boot_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"devspool/initramfs"
	"devspool/initramfs/boot"
)

// TestTimeToDisks measures how long it takes from insmod of a driver with 128 disks
// until all of their nodes are there, with BusyBox mdev as the kernel's helper and
// with this program, without mdev.seq and with it. It is no test of what is right, and so runs only where
// DEVSPOOL_BENCH is set (make bench-helper).
func TestTimeToDisks(t *testing.T) {
	if os.Getenv("DEVSPOOL_BENCH") == "" && os.Getpid() != 1 && os.Getenv("DEVSPOOL_BOOT_GUEST") == "" {
		t.Skip("a measurement, for DEVSPOOL_BENCH=1")
	}
	lab := boot.NewLab(t)
	o := storms
	o.Helper, o.Bare = false, false
	o.Files = []initramfs.Entry{
		initramfs.File{Path: "etc/mdev.conf", Mode: 0o644, Text: "names=no; 0:0 660\n"}, // as the rival
		initramfs.Symlink{Path: "sbin/mdev", Target: "../bin/busybox"},
		initramfs.Symlink{Path: "sbin/hotplug", Target: "devspool"},
	}
	lab.Run(t, o, func(g *boot.Guest) {
		mountDev(g, "tmpfs")
		g.Insmod("sd_mod")
		g.Insmod("sg")
		for _, way := range []struct {
			name   string
			inTurn bool // by mdev.seq
			target float64
		}{{"", false, 0.40}, {" in the order of mdev.seq", true, 0.50}} {
			best := map[string]time.Duration{}
			for range 2 {
				for _, helper := range []string{"/sbin/mdev", "/sbin/hotplug"} {
					if way.inTurn {
						g.Settle()
						if err := os.WriteFile("/dev/mdev.seq", []byte("\n"), 0o644); err != nil {
							g.Fatal(err)
						}
					}
					g.Write("/proc/sys/kernel/hotplug", helper)
					took := timeToDisks(g)
					g.Logf("%s%s: %v", helper, way.name, took)
					if old, there := best[helper]; !there || took < old {
						best[helper] = took
					}
				}
			}
			ours, theirs := best["/sbin/hotplug"], best["/sbin/mdev"]
			g.Logf("from insmod to %d disks in /dev%s: devspool %v, busybox %v, ratio %.2f, target %.2f", stormDisks, way.name,
				ours.Round(10*time.Millisecond), theirs.Round(10*time.Millisecond), ours.Seconds()/theirs.Seconds(), way.target)
		}
	})
}

// timeToDisks loads the driver and removes it again.
func timeToDisks(g *boot.Guest) time.Duration {
	g.Helper()
	start := time.Now()
	g.Insmod("scsi_debug", "dev_size_mb=1", fmt.Sprint("num_tgts=", stormDisks), "max_luns=1")
	awaitNodes(g, stormDisks)
	took := time.Since(start)
	g.Settle()
	g.Write(addHost, "-1")
	awaitNodes(g, 0)
	g.Rmmod("scsi_debug")
	g.Settle()
	return took
}

// awaitNodes waits until /dev holds a node for each of n disks, and one for each of
// their generic devices. It looks seldom, since there is one processor for all.
func awaitNodes(g *boot.Guest, n int) {
	g.Helper()
	g.Until(fmt.Sprint("the nodes of ", n, " disks"), func() error {
		dev, err := os.Open("/dev")
		if err != nil {
			return err
		}
		defer dev.Close()
		names, err := dev.Readdirnames(-1)
		found := 0
		for _, name := range names {
			if strings.HasPrefix(name, "sd") || strings.HasPrefix(name, "sg") {
				found++
			}
		}
		if err == nil && found != 2*n {
			time.Sleep(100 * time.Millisecond)
			err = fmt.Errorf("%d nodes", found)
		}
		return err
	})
}
