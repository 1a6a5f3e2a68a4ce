package boot_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/spool"
	"devspool/initramfs"
	"devspool/initramfs/boot"
)

// storms is the machine of a storm of helpers: its /dev is empty at first.
var storms = boot.Options{
	Helper:  true,
	Bare:    true,
	Modules: []string{"scsi_debug", "sd_mod", "sg"},
	Append:  []string{fewTerminals},
}

const stormDisks = 128

// 128 disks come at once, and go at once: the first helper does the events of all,
// each once, and in the order of their numbers: no disk is read, which takes its time.
func TestHandOff(t *testing.T) {
	lab := boot.NewLab(t)
	o := storms
	o.Files = []initramfs.Entry{initramfs.File{Path: "etc/mdev.conf", Mode: 0o644, Text: "names=no;\n"}}
	lab.Run(t, o, func(g *boot.Guest) {
		g.Command(program, "-s")
		log := startLog(g)
		queue := makeQueue(g)
		g.Insmod("sd_mod")
		g.Insmod("sg")
		start := time.Now()
		g.Insmod("scsi_debug", "dev_size_mb=1", fmt.Sprint("num_tgts=", stormDisks), "max_luns=1")
		awaitDisks(g, stormDisks)
		g.Logf("%d disks after %v", stormDisks, time.Since(start).Round(time.Millisecond))
		sameAsFresh(g, "with all disks", "")
		g.Write(addHost, "-1")
		awaitDisks(g, 0)
		sameAsFresh(g, "without disks", "")
		log.complete(g)
		log.told(g, queue)
		noComplaints(g)
	})
}

// helperLog is what helpers log of each event that they do.
type helperLog struct{ before uint64 }

// logFile is the log, to which helpers write where it is there.
const logFile = "/dev/mdev.log"

// startLog lets every event after this one be logged.
func startLog(g *boot.Guest) helperLog {
	g.Helper()
	awaitNoServer(g)
	if err := os.WriteFile(logFile, nil, 0o600); err != nil {
		g.Fatal(err)
	}
	n, err := strconv.ParseUint(g.Read("/sys/kernel/uevent_seqnum"), 10, 64)
	if err != nil {
		g.Fatal(err)
	}
	return helperLog{n}
}

// awaitNoServer waits until no helper is there any more.
func awaitNoServer(g *boot.Guest) {
	g.Helper()
	g.Until("the server to leave", func() error {
		if pid := serverPid(); pid != 0 {
			return fmt.Errorf("process %d", pid)
		}
		return nil
	})
}

// awaitRoot waits until the spool's root is there, and its file system is mounted on it.
func awaitRoot(g *boot.Guest) {
	g.Helper()
	g.Until("the root of the queues", func() error {
		if !strings.Contains(g.Read("/proc/self/mounts"), " "+spool.DefaultEvents+" ") {
			return errors.New("it is not mounted")
		}
		return nil
	})
}

// makeQueue makes a queue of this process's in the spool, as a client does.
func makeQueue(g *boot.Guest) string {
	g.Helper()
	name := "boot-" + strconv.Itoa(os.Getpid())
	hidden, live := spool.DefaultEvents+"/."+name, spool.DefaultEvents+"/"+name
	if err := os.Mkdir(hidden, 0o755); err != nil {
		g.Fatal(err)
	}
	if err := os.WriteFile(hidden+"/.nolinks", nil, 0o644); err != nil {
		g.Fatal(err)
	}
	if err := os.Rename(hidden, live); err != nil {
		g.Fatal(err)
	}
	return live
}

// told checks that the queue has every event since, once and in order.
func (l helperLog) told(g *boot.Guest, queue string) {
	g.Helper()
	files, err := os.ReadDir(queue) // by name
	if err != nil {
		g.Fatal(err)
	}
	want := l.before
	for _, file := range files {
		if strings.HasPrefix(file.Name(), ".") {
			continue
		}
		p, err := spool.Parse([]byte(g.Read(queue + "/" + file.Name())))
		if err != nil {
			g.Fatalf("%s: %v", file.Name(), err)
		}
		number, _ := p.Get("SEQNUM")
		if n, _ := strconv.ParseUint(number, 10, 64); n == want+1 {
			want = n
			continue
		}
		g.Errorf("%s: %s@%s has the number %q, want %d", file.Name(), p.Action, p.Devpath, number, want+1)
		return
	}
	if end := g.Read("/sys/kernel/uevent_seqnum"); end != strconv.FormatUint(want, 10) {
		g.Errorf("the queue ends with event %d, and the kernel sent %s", want, end)
	}
}

// complete checks that every event since was done once, and in order.
func (l helperLog) complete(g *boot.Guest) {
	g.Helper()
	awaitNoServer(g)
	done := map[uint64]int{}
	last := uint64(0)
	for line := range strings.Lines(g.Read(logFile) + "\n") {
		if strings.Contains(line, "in vain") {
			g.Logf("the log: %s", line)
		}
		if !strings.Contains(line, ": done: ") {
			continue
		}
		number, _, _ := strings.Cut(line, " ")
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			g.Fatalf("the log says %q", line)
		}
		if done[n]++; n < last {
			g.Errorf("event %d was done after %d", n, last)
		}
		last = max(last, n)
	}
	end, err := strconv.ParseUint(g.Read("/sys/kernel/uevent_seqnum"), 10, 64)
	if err != nil {
		g.Fatal(err)
	}
	for n := l.before + 1; n <= end; n++ {
		if done[n] != 1 {
			g.Errorf("event %d was done %d times", n, done[n])
		}
	}
	g.Logf("%d events", end-l.before)
}

// serverPid returns the process that holds the server's lock, or 0.
func serverPid() int { return kerneltest.FlockHolder("/dev/.devspool/server") }

// The server is killed again and again while disks come and go. The next event
// after that is enough to make /dev what it should be.
func TestServerKilled(t *testing.T) {
	lab := boot.NewLab(t)
	lab.Run(t, storms, func(g *boot.Guest) {
		g.Command(program, "-s")
		g.Insmod("sd_mod")
		g.Insmod("sg")
		stop := make(chan bool)
		killed := make(chan int)
		go killServers(stop, killed)
		g.Insmod("scsi_debug", "dev_size_mb=1", fmt.Sprint("num_tgts=", stormDisks), "max_luns=1")
		awaitDisks(g, stormDisks)
		close(stop)
		g.Logf("%d servers killed while disks came", <-killed)
		g.Write("/sys/class/mem/null/uevent", "change")
		sameAsFresh(g, "with all disks", "")

		stop = make(chan bool)
		go killServers(stop, killed)
		g.Write(addHost, "-1")
		awaitDisks(g, 0)
		close(stop)
		g.Logf("%d servers killed while disks went", <-killed)
		g.Write("/sys/class/mem/null/uevent", "change")
		sameAsFresh(g, "without disks", "")
	})
}

// killServers kills servers until it is told to stop, and tells how many.
func killServers(stop chan bool, killed chan int) {
	n := 0
	for {
		select {
		case <-stop:
			killed <- n
			return
		case <-time.After(50 * time.Millisecond):
			if pid := serverPid(); pid != 0 && syscall.Kill(pid, syscall.SIGKILL) == nil {
				n++
			}
		}
	}
}

// The end of what the kernel's helpers do can be waited for, though none stays: each
// event's command takes its time, and settle returns after the last of them.
func TestSettleHelpers(t *testing.T) {
	lab := boot.NewLab(t)
	o := storms
	o.Files = append(o.Files, initramfs.File{Path: "etc/mdev.conf", Mode: 0o644,
		Text: "SUBSYSTEM=mem;.* 0:0 666 *sleep 0.3; echo $SEQNUM >>/tmp/said\n"})
	lab.Run(t, o, func(g *boot.Guest) {
		g.Command(program, "settle")
		g.Command(program, "settle", "--quiet", "0")
		for round := range 4 {
			if round == 2 {
				awaitNoServer(g)
				g.Logf("between storms status says:\n%s", g.Command(program, "status"))
			}
			if err := os.RemoveAll("/tmp/said"); err != nil {
				g.Fatal(err)
			}
			for _, name := range []string{"null", "zero", "full"} {
				g.Write("/sys/class/mem/"+name+"/uevent", "change")
			}
			quiet := []string{"0", "0.2"}[round%2]
			g.Command(program, "settle", "--quiet", quiet)
			if got := strings.Fields(g.Read("/tmp/said")); len(got) != 3 {
				g.Errorf("round %d: when settle returned, the commands had said %q", round, got)
			}
		}
		awaitNoServer(g)
		g.Insmod("sd_mod")
		g.Command(program, "-s")
		wait := exec.Command(program, "wait", "/dev/sda", "60")
		if err := wait.Start(); err != nil {
			g.Fatal(err)
		}
		g.Insmod("scsi_debug", "dev_size_mb=1", "max_luns=1")
		if err := wait.Wait(); err != nil {
			g.Errorf("wait: %v", err)
		}
		g.Command(program, "settle")
		if err := likeFresh(g, ""); err != nil {
			g.Errorf("after settle: %v", err)
		}
		noComplaints(g)
	})
}
