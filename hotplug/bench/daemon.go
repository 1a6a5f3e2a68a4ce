package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// daemon is a contestant's loop at work.
type daemon struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
}

// patience is how long a daemon may take for whatever is waited for.
const patience = 60 * time.Second

// withDaemon runs f beside c's loop, which has done its coldplug and is idle.
func (b *bench) withDaemon(c contestant, w world, f func(*daemon) error) error {
	return b.within(w, func() error {
		d, err := b.start(c)
		if err != nil {
			return err
		}
		defer d.stop()
		if err := d.settle(); err != nil {
			return err
		}
		return f(d)
	})
}

func (b *bench) start(c contestant) (*daemon, error) {
	d := &daemon{cmd: b.jail.command(c, c.args("-df")), ended: make(chan struct{})}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		d.cmd.Wait() // how it ended is of no interest, since stop kills it
		close(d.ended)
	}()
	return d, nil
}

// stop ends the daemon. All that it has to say was asked before.
func (d *daemon) stop() {
	d.cmd.Process.Kill()
	<-d.ended
}

// cpu returns the CPU time that the daemon has used, threads that have ended
// included, by the process's own clock: it counts nanoseconds where rusage counts ticks.
func (d *daemon) cpu() (time.Duration, error) {
	const cpuclockSched = 2 // include/linux/posix-timers.h
	clock := int32(^d.cmd.Process.Pid)<<3 | cpuclockSched
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		return 0, fmt.Errorf("read the daemon's clock (has it ended?): %w", err)
	}
	return time.Duration(ts.Nano()), nil
}

// settle waits until the daemon has read all that was sent and done all that it
// does about it: an empty receive buffer, and a clock that stands still for a while.
func (d *daemon) settle() error {
	const (
		pause = time.Millisecond
		quiet = 20                    // so many pauses
		still = 20 * time.Microsecond // a runtime's timers may move the clock by as much
	)
	deadline := time.Now().Add(patience)
	last, run := time.Duration(-1), 0
	for run < quiet {
		if time.Now().After(deadline) {
			return errors.New("the daemon does not come to rest")
		}
		time.Sleep(pause)
		now, err := d.cpu()
		if err != nil {
			return err
		}
		sock, err := listening()
		if err != nil {
			return err
		}
		if run++; !sock.bound || sock.waiting > 0 || now-last > still || d.waits() {
			run, last = 0, now
		}
	}
	return nil
}

// waits reports whether a thread of the daemon has something to do, and merely does
// not get a processor.
func (d *daemon) waits() bool {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", d.cmd.Process.Pid))
	for _, stat := range stats {
		text, _ := os.ReadFile(stat)
		if _, state, _ := strings.Cut(string(text), ") "); strings.HasPrefix(state, "R") {
			return true
		}
	}
	return false
}

// drain waits until no more than limit bytes wait in the daemon's receive buffer.
func (d *daemon) drain(limit int) error {
	deadline := time.Now().Add(patience)
	for {
		sock, err := listening()
		switch {
		case err != nil:
			return err
		case !sock.bound:
			return errors.New("the daemon does not listen any more")
		case sock.waiting <= limit:
			return nil
		case time.Now().After(deadline):
			return errors.New("the daemon does not read its socket")
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// memory is what /proc says of a process, in bytes.
type memory struct {
	resident  float64 // VmRSS
	anonymous float64 // RssAnon: what no file backs, so what is really its own
	peak      float64 // VmHWM
}

func (d *daemon) memory() (memory, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(d.cmd.Process.Pid) + "/status")
	if err != nil {
		return memory{}, err
	}
	return memory{
		resident:  statusBytes(string(text), "VmRSS"),
		anonymous: statusBytes(string(text), "RssAnon"),
		peak:      statusBytes(string(text), "VmHWM"),
	}, nil
}

// statusBytes finds a line such as "VmRSS:	 1234 kB" in the text of a status file.
func statusBytes(text, key string) float64 {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			return float64(n << 10)
		}
	}
	return 0
}

// socket is what is known of the one that listens for uevents.
type socket struct {
	bound   bool
	waiting int // bytes in the receive buffer
	drops   int // messages that found no room in it
	inode   string
}

// listening finds the socket in this network namespace, where only the daemon
// that is being measured listens for the kernel's group.
func listening() (socket, error) {
	text, err := os.ReadFile("/proc/net/netlink")
	if err != nil {
		return socket{}, err
	}
	return parseNetlink(string(text)), nil
}

// parseNetlink reads the lines of /proc/net/netlink (netlink_native_seq_show in
// net/netlink/af_netlink.c).
func parseNetlink(text string) socket {
	const (
		protocol = 1
		group    = 3
		rmem     = 4
		drops    = 8
		inode    = 9
	)
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) <= inode || f[protocol] != strconv.Itoa(unix.NETLINK_KOBJECT_UEVENT) {
			continue
		}
		mask, err := strconv.ParseUint(f[group], 16, 32)
		if err != nil || mask&1 == 0 {
			continue
		}
		s := socket{bound: true, inode: f[inode]}
		s.waiting, _ = strconv.Atoi(f[rmem])
		s.drops, _ = strconv.Atoi(f[drops])
		return s
	}
	return socket{}
}
