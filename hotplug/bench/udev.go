package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// The contestants of udev beside ours.
const (
	unserved = "no --udev" // ours, which does not serve libudev's clients
	udevd252 = "udevd"
)

// udev measures what it costs a loop to serve libudev's clients, of which none is there, and
// what udevd needs for the same events.
func (b *bench) udev() error {
	all := b.contestants
	defer func() { b.contestants = all }()
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	defer unix.Unmount("/run", unix.MNT_DETACH)
	serves := contestant{name: ours, named: true, path: all[0].path, prefix: []string{"--udev"}}
	b.contestants = []contestant{serves, {name: rival, named: true, path: all[0].path}}
	events := b.opts.scaled(20_000)
	s, err := b.newStage(events)
	if err != nil {
		return err
	}
	defer s.close()
	return errors.Join(b.served(s), b.besideUdevd(s, serves))
}

// served compares the loop with and without --udev, as it is used: with names.
func (b *bench) served(s *stage) error {
	const target = 1.6
	b.report.beside(unserved, "Clients of libudev", "CPU per event of a loop with --udev, no client, least of %d runs of %s events", b.opts.rounds(), count(float64(s.events)))
	loads, err := s.loads()
	if err != nil {
		return err
	}
	for _, l := range loads {
		best, err := b.eventCPU(emptyConf, l, b.opts.rounds())
		if err != nil {
			return err
		}
		b.report.ratio(l.name, best, microseconds, target)
	}
	return nil
}

// besideUdevd compares the loop with udevd and its workers, on devices for which udevd's rules
// start nothing and load nothing.
func (b *bench) besideUdevd(s *stage, serves contestant) error {
	const target = 0.1
	b.report.beside(udevd252, "Beside udevd", "CPU per event of a loop with --udev, and of udevd with this machine's rules")
	if !exists(udevd) {
		b.report.note("NOT MEASURED: %s is not installed", udevd)
		return nil
	}
	some := *s
	some.events = s.events / 4
	all, err := sysEvents("/sys")
	if err != nil {
		return err
	}
	of := func(prefix string) []kerneltest.Event {
		return slices.DeleteFunc(slices.Clone(all), func(e kerneltest.Event) bool { return !strings.HasPrefix(e.Devpath, "/devices/virtual/"+prefix) })
	}
	for _, l := range []struct {
		name   string
		events []kerneltest.Event
	}{{"one device again and again", of("mem/null")}, {"terminals in turn", of("tty/tty")}} {
		best := figures{}
		for range b.opts.rounds() {
			cpu, err := b.playLoad(serves, emptyConf, load{l.name, "", nil, some.events, some.repeat(l.events, countDevices())})
			if err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
			best.least(ours, cpu.Seconds()/float64(some.events))
			if cpu, err = b.playUdevd(&some, l.events); err != nil {
				return fmt.Errorf("%s: udevd: %w", l.name, err)
			}
			best.least(rival, cpu.Seconds()/float64(some.events))
		}
		b.report.ratio(l.name, best, microseconds, target)
	}
	return nil
}

// playUdevd returns the CPU that udevd and its workers use for the stage's number of events. The
// workers are started before.
func (b *bench) playUdevd(s *stage, events []kerneltest.Event) (used time.Duration, err error) {
	err = b.within(world{conf: emptyConf}, func() error {
		d, err := b.startUdevd()
		if err != nil {
			return err
		}
		defer d.stop()
		play := func(many int) error {
			for i := range many {
				if err := s.send(d, i, kerneltest.Message(events[i%len(events)])); err != nil {
					return err
				}
			}
			return d.settleUdevd()
		}
		if err := play(burst); err != nil {
			return err
		}
		before, err := d.family()
		if err != nil {
			return err
		}
		if err := play(s.events); err != nil {
			return err
		}
		after, err := d.family()
		if err != nil {
			return err
		}
		used = after - before
		if sock, err := d.listening(); err != nil || sock.Drops > 0 {
			return fmt.Errorf("%d events found no room in the receive buffer (%w)", sock.Drops, err)
		}
		return s.injector.Refused()
	})
	return used, err
}

// startUdevd starts systemd's udevd, which is to find no other at the socket.
func (b *bench) startUdevd() (*daemon, error) {
	if err := os.RemoveAll(filepath.Dir(udevdControl)); err != nil {
		return nil, err
	}
	d := &daemon{cmd: b.jail.command(contestant{path: udevd}, nil), ended: make(chan struct{})}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = d.cmd.Wait()
		close(d.ended)
	}()
	for begun := time.Now(); !exists(udevdControl); time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > patience {
			d.stop()
			return nil, errors.New("it does not get ready")
		}
	}
	return d, nil
}

// settleUdevd waits until udevd has done all events that were sent.
func (d *daemon) settleUdevd() error {
	const quiet = 20 // looks in a row
	deadline := time.Now().Add(patience)
	for run := 0; run < quiet; run++ {
		if err := d.drain(0); err != nil {
			return err
		}
		if exists("/run/udev/queue") {
			run = 0
		}
		if time.Now().After(deadline) {
			return errors.New("it does not come to rest")
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// family returns the CPU time that the daemon and its children have used.
func (d *daemon) family() (used time.Duration, err error) {
	pid := d.cmd.Process.Pid
	if used, err = processCPU(pid); err != nil {
		return 0, err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	used += endedCPU(string(stat))
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, child := range strings.Fields(string(children)) {
		n, _ := strconv.Atoi(child)
		// One that has just ended is counted with the next call, among those.
		cpu, _ := processCPU(n)
		used += cpu
	}
	return used, err
}

// endedCPU returns what a file /proc/PID/stat tells of the children that the process has waited for
// (proc_pid_stat(5)): the fields 16 and 17, in hundredths of a second. What those of ours still live
// use is known better.
func endedCPU(stat string) (used time.Duration) {
	const after = 16 - 3 // the name, which may hold blanks, is field 2
	_, rest, _ := strings.Cut(stat, ") ")
	f := strings.Fields(rest)
	for i := after; i < after+2 && i < len(f); i++ {
		n, _ := strconv.Atoi(f[i])
		used += time.Duration(n) * 10 * time.Millisecond
	}
	return used
}
