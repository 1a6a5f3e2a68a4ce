package boot_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"devspool/initramfs"
	"devspool/initramfs/boot"
)

// wrapper is a script for /proc/sys/kernel/hotplug, which looks for the node when mdev returns.
const wrapper = `#!/bin/sh
/sbin/mdev "$1"
[ -n "$MAJOR" ] || exit 0
if [ -e "/dev/$DEVNAME" ] && grep -qx "$SEQNUM" /tmp/ran; then echo "$DEVNAME" >>/tmp/right
else echo "$DEVNAME" >>/tmp/wrong; fi
`

// The kernel starts a script that calls mdev: when mdev returns, the node is there and
// the command has run. With exec in its place the kernel waits for nobody, and the
// first of the helpers serves.
func TestScriptedHelper(t *testing.T) {
	lab := boot.NewLab(t)
	o := storms
	o.Bare = false
	o.Helper = false
	o.Files = []initramfs.Entry{
		initramfs.File{Path: "etc/mdev.conf", Mode: 0o644, Text: "SUBSYSTEM=mem;.* 0:0 666 *sleep 0.2; echo $SEQNUM >>/tmp/ran\n"},
		initramfs.File{Path: "sbin/by-call", Mode: 0o755, Text: wrapper},
		initramfs.File{Path: "sbin/by-exec", Mode: 0o755, Text: "#!/bin/sh\nexec /sbin/mdev \"$@\"\n"},
		initramfs.Symlink{Path: "sbin/mdev", Target: "devspool"},
		initramfs.Symlink{Path: "bin/grep", Target: "busybox"},
		initramfs.Symlink{Path: "bin/sleep", Target: "busybox"},
	}
	lab.Run(t, o, func(g *boot.Guest) {
		mountDev(g, "tmpfs")
		g.Write("/proc/sys/kernel/hotplug", "/sbin/by-call")
		names := []string{"null", "zero", "full", "random", "urandom", "kmsg"}
		lines := func(file string) []string {
			text, _ := os.ReadFile(file)
			return strings.Fields(string(text))
		}
		for _, name := range names {
			g.Write("/sys/class/mem/"+name+"/uevent", "add")
		}
		g.Until("all scripts", func() error {
			if n := len(lines("/tmp/right")) + len(lines("/tmp/wrong")); n < len(names) {
				return fmt.Errorf("%d of %d", n, len(names))
			}
			return nil
		})
		if wrong := lines("/tmp/wrong"); len(wrong) > 0 {
			g.Errorf("when mdev returned, not all was done for %q", wrong)
		}
		if serverPid() != 0 {
			g.Error("a helper of a script serves")
		}
		g.Write("/proc/sys/kernel/hotplug", "/sbin/by-exec")
		for _, name := range names {
			g.Write("/sys/class/mem/"+name+"/uevent", "add")
		}
		g.Until("a helper to serve", func() error {
			if serverPid() == 0 {
				return fmt.Errorf("none does")
			}
			return nil
		})
		g.Until("all commands", func() error {
			if n := len(lines("/tmp/ran")); n < 2*len(names) {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
		awaitNoServer(g)
		noComplaints(g)
	})
}

// Helpers are killed at random moments, before they hand over too, while disks come
// and go; the one that serves is spared. The next event is enough to make /dev what it
// should be.
func TestHelpersKilled(t *testing.T) {
	lab := boot.NewLab(t)
	o := storms
	lab.Run(t, o, func(g *boot.Guest) {
		g.Command(program, "-s")
		g.Insmod("sd_mod")
		g.Insmod("sg")
		g.Insmod("scsi_debug", "dev_size_mb=1", "num_tgts=24", "max_luns=1", "add_host=0")
		total := 0
		for _, step := range []struct {
			host  string
			disks int
		}{{"1", 24}, {"-1", 0}, {"1", 24}} {
			stop, killed := make(chan bool), make(chan int)
			go killHelpers(stop, killed)
			g.Write(addHost, step.host)
			awaitDisks(g, step.disks)
			close(stop)
			n := <-killed
			total += n
			g.Logf("%d helpers killed", n)
			g.Write("/sys/class/mem/null/uevent", "change")
			sameAsFresh(g, fmt.Sprint("with ", step.disks, " disks"), "")
		}
		if total == 0 {
			g.Error("no helper was killed")
		}
	})
}

// killHelpers kills a helper now and then, whatever it does, and tells how many. It
// looks at the newest processes only, or most helpers would have ended meanwhile.
func killHelpers(stop chan bool, killed chan int) {
	n := 0
	for {
		select {
		case <-stop:
			killed <- n
			return
		case <-time.After(time.Duration(rand.IntN(3000)) * time.Microsecond):
		}
		load, _ := os.ReadFile("/proc/loadavg") // its last word is the newest process
		words := strings.Fields(string(load))
		if len(words) == 0 {
			continue
		}
		newest, _ := strconv.Atoi(words[len(words)-1])
		for pid := newest; pid > max(1, newest-8); pid-- {
			if exe, _ := os.Readlink(fmt.Sprint("/proc/", pid, "/exe")); exe == program && pid != serverPid() && syscall.Kill(pid, syscall.SIGKILL) == nil {
				n++
				break
			}
		}
	}
}

// Where mdev.seq is, the server keeps the number in it, in the order of the events.
func TestHandOffInTurn(t *testing.T) {
	lab := boot.NewLab(t)
	o := storms
	o.Files = []initramfs.Entry{initramfs.File{Path: "etc/mdev.conf", Mode: 0o644, Text: "sd.* 0:6 660 *echo $SEQNUM >>/tmp/ran\n"}}
	lab.Run(t, o, func(g *boot.Guest) {
		const disks = 32
		g.Command(program, "-s")
		g.Insmod("sd_mod")
		g.Insmod("sg")
		awaitNoServer(g)
		os.Remove("/tmp/ran") // the coldplug's
		if err := os.WriteFile("/dev/mdev.seq", []byte("\n"), 0o644); err != nil {
			g.Fatal(err)
		}
		start := time.Now()
		g.Insmod("scsi_debug", "dev_size_mb=1", fmt.Sprint("num_tgts=", disks), "max_luns=1")
		awaitNodes(g, disks)
		g.Logf("%d disks after %v", disks, time.Since(start).Round(time.Millisecond))
		g.Settle()
		g.Until("the number of the last event in mdev.seq", func() error {
			last, err := strconv.Atoi(g.Read("/sys/kernel/uevent_seqnum"))
			if err != nil {
				return err
			}
			if got := g.Read("/dev/mdev.seq"); got != strconv.Itoa(last+1) {
				return fmt.Errorf("%q after event %d", got, last)
			}
			return nil
		})
		ran := strings.Fields(g.Read("/tmp/ran"))
		last := 0
		for _, word := range ran {
			n, err := strconv.Atoi(word)
			if err != nil || n <= last {
				g.Errorf("the command of event %s ran after that of %d", word, last)
			}
			last = n
		}
		if len(ran) < disks {
			g.Errorf("%d commands ran", len(ran))
		}
		noComplaints(g)
	})
}
