package boot_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"devspool/initramfs/boot"
)

// TestHungDisks has more disks that do not answer than are read at once: each event ends
// after the time limit, that of another disk at once; no more threads read a disk that
// hangs; and the disks have their names as soon as they answer.
func TestHungDisks(t *testing.T) {
	const hung, opts, timeout = 12, "/sys/bus/pseudo/drivers/scsi_debug/opts", 25 // seconds, of a command
	o := boot.Options{Append: []string{fewTerminals}, Modules: []string{"scsi_debug", "sd_mod", "loop"}}
	if onHost() {
		o.Files = ext4Image(t)
	}
	boot.NewLab(t).Run(t, o, func(g *boot.Guest) {
		mountDev(g, "tmpfs")
		g.Insmod("sd_mod")
		g.Insmod("scsi_debug", "dev_size_mb=1", "per_host_store=1", fmt.Sprint("add_host=", hung), "delay=0")
		awaitDisks(g, hung)
		makeFilesystems(g)
		g.Settle()
		disks, _ := filepath.Glob("/sys/block/sd*")
		for _, disk := range disks {
			g.Write(disk+"/device/timeout", fmt.Sprint(timeout))
		}
		g.Write("/proc/sys/vm/drop_caches", "3")
		g.Write("/sys/bus/pseudo/drivers/scsi_debug/every_nth", "1")
		g.Write(opts, "4") // commands are not answered

		start := time.Now()
		took := func() time.Duration { return time.Since(start).Round(10 * time.Millisecond) }
		stop := startLoop(g, "-S") // it warns of them, and is ready when the coldplug is over
		g.Logf("a coldplug with %d disks that hang: %v", hung, took())
		if took() < 9*time.Second || took() > time.Minute {
			g.Errorf("a coldplug took %v", took())
		}
		for _, disk := range disks {
			if _, err := os.Stat("/dev/" + filepath.Base(disk)); err != nil {
				g.Error(err)
			}
		}
		if found, _ := filepath.Glob("/dev/disk/by-label/*"); len(found) > 0 {
			g.Errorf("there are labels: %q", found)
		}
		before := len(loopThreads(g))
		start = time.Now()
		for range 20 {
			for _, disk := range disks {
				g.Write(disk+"/uevent", "change")
			}
		}
		g.Command(program, "settle", "20")
		g.Logf("further events: %v", took())
		if took() > 30*time.Second {
			g.Errorf("further events took %v", took())
		}
		if n := len(loopThreads(g)); n > before+4 {
			g.Errorf("%d threads, before %d", n, before)
		}
		g.Write(opts, "0")
		g.Until("labels of all disks", func() error {
			found, _ := filepath.Glob("/dev/disk/by-label/disk*")
			if len(found) != hung {
				time.Sleep(100 * time.Millisecond)
				return fmt.Errorf("%d", len(found))
			}
			return nil
		})
		stop()
	})
}

// loopThreads returns the threads of the loop.
func loopThreads(g *boot.Guest) []os.DirEntry {
	g.Helper()
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range found {
		if text, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(text), program+"\x00-df") {
			if tasks, err := os.ReadDir(filepath.Dir(path) + "/task"); err == nil {
				return tasks
			}
		}
	}
	g.Error("there is no loop")
	return nil
}
