package boot

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"devspool/hotplug/spool"
	"devspool/initramfs"
)

// Plugger is a program that lets disks come and go all the time, from the early boot on: in
// an image it is the test's binary under this name. It keeps a queue for events, whose path is
// PluggerQueue and its number, and ends when it is told to.
const (
	Plugger      = "plugger"
	PluggerQueue = spool.DefaultEvents + "/" + Plugger + "-"
	// PluggerRuns has for each time that it was started its number, and that of the last event before.
	PluggerRuns = "/run/plugger"
)

// PluggerFile is the entry of an image or of a root for it.
func (l *Lab) PluggerFile() initramfs.File {
	return initramfs.File{Path: "sbin/" + Plugger, Mode: 0o755, Source: l.dir + "/init"}
}

// plug is what it does. The files that it needs it opens at first: their paths lead nowhere
// when the root was switched.
func plug() {
	if len(os.Args) == 1 { // the command of a rule, which ends when the plugging has begun
		ready, tell, err := os.Pipe()
		check(err)
		cmd := exec.Command("/proc/self/exe", "stay")
		cmd.Args[0] = Plugger
		cmd.Stderr, cmd.ExtraFiles = os.Stderr, []*os.File{tell}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		check(cmd.Start())
		check(tell.Close())
		_, err = ready.Read(make([]byte, 1))
		check(err)
		os.Exit(0)
	}
	runs, err := os.OpenFile(PluggerRuns, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	check(err)
	for _, module := range []string{"sd_mod", "sg", "scsi_debug"} {
		out, err := exec.Command("/sbin/modprobe", module, "dev_size_mb=1", "num_tgts=1", "max_luns=1").CombinedOutput()
		if err != nil {
			fmt.Fprintf(os.Stderr, "modprobe %s: %v: %s\n", module, err, out)
		}
	}
	hosts, err := os.OpenFile("/sys/bus/pseudo/drivers/scsi_debug/add_host", os.O_WRONLY, 0)
	check(err)
	own := strconv.Itoa(os.Getpid())
	hidden := spool.DefaultEvents + "/.plugger-" + own
	check(os.Mkdir(hidden, 0o755))
	check(os.WriteFile(hidden+"/.nolinks", nil, 0o644))
	check(os.Rename(hidden, PluggerQueue+own))
	// Events from the next one on are for the queue.
	seqnum, err := os.ReadFile("/sys/kernel/uevent_seqnum")
	check(err)
	fmt.Fprintln(runs, os.Getpid(), string(seqnum))
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	for i := 0; ; i++ {
		select {
		case <-told:
			fmt.Fprintln(runs, "plugged", i)
			time.Sleep(time.Hour) // the queue is to stay
		case <-time.After(60 * time.Millisecond):
		}
		_, err := hosts.WriteString(strconv.Itoa(1 - 2*(i%2)))
		check(err)
		if i == 4 {
			_, err := os.NewFile(3, "ready").WriteString("\n")
			check(err)
		}
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "plugger:", err)
		os.Exit(1)
	}
}
