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
// PluggerQueue, and ends when it is told to.
const (
	Plugger      = "plugger"
	PluggerQueue = spool.DefaultEvents + "/" + Plugger
	// PluggerRuns has a line for each time that it was started.
	PluggerRuns = "/run/plugger"
)

// PluggerFile is the entry of an image or of a root for it.
func (l *Lab) PluggerFile() initramfs.File {
	return initramfs.File{Path: "sbin/" + Plugger, Mode: 0o755, Source: l.dir + "/init"}
}

// plug is what it does. The files that it needs it opens at first: their paths lead nowhere
// when the root was switched.
func plug() {
	runs, err := os.OpenFile(PluggerRuns, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	check(err)
	fmt.Fprintln(runs, os.Getpid())
	for _, module := range []string{"sd_mod", "sg", "scsi_debug"} {
		out, err := exec.Command("/sbin/modprobe", module, "dev_size_mb=1", "num_tgts=1", "max_luns=1").CombinedOutput()
		if err != nil {
			fmt.Fprintf(os.Stderr, "modprobe %s: %v: %s\n", module, err, out)
		}
	}
	hosts, err := os.OpenFile("/sys/bus/pseudo/drivers/scsi_debug/add_host", os.O_WRONLY, 0)
	check(err)
	hidden := spool.DefaultEvents + "/." + Plugger
	check(os.Mkdir(hidden, 0o755))
	check(os.WriteFile(hidden+"/.nolinks", nil, 0o644))
	check(os.Rename(hidden, PluggerQueue))
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	for i := 0; ; i++ {
		select {
		case <-told:
			fmt.Fprintln(runs, "plugged", i)
			select {} // the queue is to stay
		case <-time.After(15 * time.Millisecond):
		}
		_, err := hosts.WriteString(strconv.Itoa(1 - 2*(i%2)))
		check(err)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "plugger:", err)
		os.Exit(1)
	}
}
