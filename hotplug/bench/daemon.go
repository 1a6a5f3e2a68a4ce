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

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/netlink"
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
		d, err := b.start(c, w.realm)
		if err != nil {
			return err
		}
		defer d.stop()
		if err := d.settle(); err != nil {
			return err
		}
		if w.realm != nil {
			if err := d.hearOnlyNodes(); err != nil {
				return err
			}
		}
		return f(d)
	})
}

// start starts c's loop, in a realm unless that is nil.
func (b *bench) start(c contestant, in *realm) (*daemon, error) {
	d := &daemon{cmd: b.jail.command(c, c.args("-df")), ended: make(chan struct{})}
	start := d.cmd.Start
	if in != nil {
		start = func() error { return in.within(d.cmd.Start) }
	}
	if err := start(); err != nil {
		return nil, err
	}
	go func() {
		_ = d.cmd.Wait() // how it ended is of no interest, since stop kills it
		close(d.ended)
	}()
	return d, nil
}

// stop ends the daemon. All that it has to say was asked before.
func (d *daemon) stop() {
	d.cmd.Process.Kill()
	<-d.ended
}

// cpu returns the CPU time that the daemon has used.
func (d *daemon) cpu() (time.Duration, error) {
	used, err := processCPU(d.cmd.Process.Pid)
	if err != nil {
		return 0, fmt.Errorf("read the daemon's clock (has it ended?): %w", err)
	}
	return used, nil
}

// processCPU returns the CPU time that a process has used, threads that have ended included, by its
// own clock: it counts nanoseconds where rusage counts ticks.
func processCPU(pid int) (time.Duration, error) {
	const cpuclockSched = 2 // include/linux/posix-timers.h
	var ts unix.Timespec
	err := unix.ClockGettime(int32(^pid)<<3|cpuclockSched, &ts)
	return time.Duration(ts.Nano()), err
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
		sock, err := d.listening()
		if err != nil {
			return err
		}
		// The clock alone would not do: a daemon that waits for a processor uses none.
		if run++; sock.Groups == 0 || sock.Waiting > 0 || now-last > still || d.waits() {
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
		sock, err := d.listening()
		switch {
		case err != nil:
			return err
		case sock.Groups == 0:
			return errors.New("the daemon does not listen any more")
		case sock.Waiting <= limit:
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

// listening finds the socket in the daemon's network namespace, where nobody else
// listens for the kernel's group. There is none, but the zero one, when the daemon has died.
func (d *daemon) listening() (kerneltest.UeventSocket, error) {
	all, err := kerneltest.UeventSockets(strconv.Itoa(d.cmd.Process.Pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EINVAL) {
		err = nil
	}
	for _, s := range all {
		if s.Groups&netlink.KernelGroup != 0 {
			return s, err
		}
	}
	return kerneltest.UeventSocket{}, err
}

// meanwhile stops the daemon while f has the kernel tell of something: so it finds
// all of that at once, however fast the rest of the machine is.
func (d *daemon) meanwhile(f func() error) error {
	if err := d.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		return err
	}
	return errors.Join(f(), d.cmd.Process.Signal(unix.SIGCONT))
}

// hearOnlyNodes has the kernel keep from the daemon what it tells of a realm's
// devices that have no node: four events of five.
func (d *daemon) hearOnlyNodes() error {
	const (
		// Where the devpath of a tap differs from its network device's, and its queues':
		// /devices/virtual/net/mv000001/macvtap/tap5
		at   = len("/devices/virtual/net/mv000001/")
		mark = 'm'
	)
	// A classic BPF program over the message: its first byte says which action it is, and where
	// it is this one, the byte that tells a tap from the other devices decides. next is how
	// many instructions to skip for another action.
	keep := func(action string, next uint8) []unix.SockFilter {
		return []unix.SockFilter{
			{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 0},
			{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(action[0]), Jf: next},
			{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: uint32(len(action) + at)},
			{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: mark, Jf: 1},
			{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 20},
			{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		}
	}
	filter := append(keep("add@", 4), keep("remove@", 3)...)
	sock, err := d.socket()
	if err != nil {
		return err
	}
	defer unix.Close(sock)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return os.NewSyscallError("setsockopt", unix.SetsockoptSockFprog(sock, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program))
}

// socket returns a descriptor of the socket that the daemon listens with.
func (d *daemon) socket() (int, error) {
	sock, err := d.listening()
	if err != nil {
		return -1, err
	}
	dir := fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid)
	files, err := os.ReadDir(dir)
	if err != nil {
		return -1, err
	}
	for _, file := range files {
		if to, _ := os.Readlink(filepath.Join(dir, file.Name())); to != "socket:["+sock.Inode+"]" {
			continue
		}
		process, err := unix.PidfdOpen(d.cmd.Process.Pid, 0)
		if err != nil {
			return -1, os.NewSyscallError("pidfd_open", err)
		}
		defer unix.Close(process)
		fd, _ := strconv.Atoi(file.Name())
		got, err := unix.PidfdGetfd(process, fd, 0)
		return got, os.NewSyscallError("pidfd_getfd", err)
	}
	return -1, errors.New("the daemon has no socket that listens to the kernel")
}
