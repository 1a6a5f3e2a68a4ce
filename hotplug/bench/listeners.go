package main

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// udevd is systemd's, and where it listens for its control: it has to be there to be measured.
const (
	udevd        = "/lib/systemd/systemd-udevd"
	udevdControl = "/run/udev/control"
)

// told is how many events the listeners of a netlink group get at once.
const told = 5000

// listeners measures how many events of a burst are lost by listeners of a netlink group: of
// the kernel's, where no sender waits for them, as with mdev; of udevd's; and of ours.
func (b *bench) listeners() error {
	b.report.section("Listeners", "events of a burst of %s that a netlink group's clients lose, which have the default buffer", count(told))
	measure := func(group uint32) ([]int, error) {
		clients, err := kerneltest.Clients(group, kerneltest.Loopback)
		if err == nil {
			err = kerneltest.Burst(told)
		}
		if err != nil {
			return nil, err
		}
		return kerneltest.Lost(clients, told), nil
	}
	const columns = "%-52s %12s %12s %7s"
	say := func(who string, lost []int) {
		b.report.note(columns, who, count(float64(lost[0])), count(float64(lost[1])), count(float64(lost[2])))
	}
	b.report.note(columns, "time that a client takes for each", "none", "100 us", "1 ms")
	if lost, err := measure(1); err != nil {
		return err
	} else {
		say("the kernel's group, as with mdev", lost)
	}
	if lost, err := b.withUdevd(func() ([]int, error) { return measure(2) }); err == nil {
		say("udevd", lost)
	} else {
		b.report.note("NOT MEASURED: udevd: %v", err)
	}
	c := contestant{name: ours, path: b.jail.program(oursFile), prefix: []string{"-O", "4"}}
	return b.withDaemon(c, world{conf: c.conf(emptyConf)}, func(*daemon) error {
		lost, err := measure(4)
		if err != nil {
			return err
		}
		say(ours+" -O 4", lost)
		b.report.limit("  of these, lost by the one that takes 100 us", figures{ours: float64(lost[1])}, count, told/100)
		return nil
	})
}

// withUdevd runs f beside systemd's udevd, with a /run of its own.
func (b *bench) withUdevd(f func() ([]int, error)) (lost []int, err error) {
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"); err != nil {
		return nil, fmt.Errorf("mount /run: %w", err)
	}
	defer unix.Unmount("/run", unix.MNT_DETACH)
	cmd := b.jail.command(contestant{path: udevd}, nil)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	for begun := time.Now(); !exists(udevdControl); time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			return nil, errors.New("it does not get ready")
		}
	}
	return f()
}
