package boot_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/initramfs/boot"
)

// TestHungDisks has more disks that do not answer than are read at once, and others that do:
// these have their names long before the time limit, whether they were there before or come
// later. Each event of the rest ends after the limit, that of a further one at once; no more
// threads read a disk that hangs; and the disks have their names as soon as they answer.
func TestHungDisks(t *testing.T) {
	const hung, opts, timeout = 12, "/sys/bus/pseudo/drivers/scsi_debug/opts", 25 // seconds, of a command
	o := boot.Options{Append: []string{fewTerminals}, Modules: []string{"scsi_debug", "sd_mod", "loop"}}
	if onHost() {
		o.Files = ext4Image(t)
	}
	boot.NewLab(t).Run(t, o, func(g *boot.Guest) {
		mountDev(g, "tmpfs")
		g.Insmod("loop")
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
		attachLoop(g, 0, "good")
		named := make(chan time.Duration, 1)
		go func() {
			for range 600 {
				if _, err := os.Lstat("/dev/disk/by-label/good"); err == nil {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			named <- took()
		}()
		stop := startLoop(g, "-S") // it warns of them, and is ready when the coldplug is over
		g.Logf("a coldplug with %d disks that hang: %v", hung, took())
		if took() < 9*time.Second || took() > time.Minute {
			g.Errorf("a coldplug took %v", took())
		}
		if after := <-named; after > 8*time.Second {
			g.Errorf("a disk that answers has its names after %v", after)
		} else {
			g.Logf("a disk that answers has its names after %v", after)
		}
		for _, disk := range disks {
			if _, err := os.Stat("/dev/" + filepath.Base(disk)); err != nil {
				g.Error(err)
			}
		}
		if found, _ := filepath.Glob("/dev/disk/by-label/disk*"); len(found) > 0 {
			g.Errorf("there are labels: %q", found)
		}
		start = time.Now()
		attachLoop(g, 1, "late")
		g.Until("the label of a disk that comes later", func() error {
			_, err := os.Lstat("/dev/disk/by-label/late")
			return err
		})
		g.Logf("a disk that comes later has its names after %v", took())
		if took() > 8*time.Second {
			g.Errorf("that took %v", took())
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

// attachLoop makes the loop device with that number a disk that holds an ext4 with the label.
func attachLoop(g *boot.Guest, n int, label string) {
	g.Helper()
	image, err := os.ReadFile("/ext4")
	if err != nil {
		g.Fatal(err)
	}
	copy(image[1024+120:], label+"\x00")
	image[1024+104] = byte(200 + n)
	node, path := fmt.Sprint("/tmp/loop", n), fmt.Sprint("/tmp/image", n)
	if err := os.WriteFile(path, image, 0o600); err != nil {
		g.Fatal(err)
	}
	if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(7, uint32(n)))); err != nil {
		g.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		g.Fatal(err)
	}
	defer file.Close()
	disk, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		g.Fatal(err)
	}
	defer disk.Close()
	if err := unix.IoctlLoopConfigure(int(disk.Fd()), &unix.LoopConfig{Fd: uint32(file.Fd())}); err != nil {
		g.Fatal(err)
	}
}
