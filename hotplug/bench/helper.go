package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"devspool/hotplug/kerneltest"
)

// helper measures processes that are started as a kernel starts its helper: a
// single one, and a storm of them.
func (b *bench) helper() error {
	events := b.opts.scaled(1000)
	dir := filepath.Join(b.jail.tree(), "helper")
	tree, err := kerneltest.NewTree(dir)
	if err != nil {
		return err
	}
	for i := range events {
		if _, err := tree.Add(made(i)); err != nil {
			return err
		}
	}
	b.report.section("Helper", "a process for each event, least of %d runs of %d", b.opts.rounds(), events)
	return errors.Join(b.processes(dir, events), b.helperStorms(dir, events))
}

// processes measures how long one process takes, from its fork to its end: ours,
// which hands an event over, and others.
func (b *bench) processes(sys string, n int) error {
	best := figures{}
	others := []contestant{{name: emptyCFile, path: b.jail.program(emptyCFile)}}
	for _, c := range b.contestants {
		if c.name == rival {
			others = append(others, contestant{name: "busybox true", path: c.path, prefix: []string{"true"}})
		}
	}
	for range b.opts.rounds() {
		for _, c := range others {
			if _, err := os.Stat(c.path); err != nil {
				continue // no compiler: said at the start
			}
			took, err := b.sequence(c, n)
			if err != nil {
				return err
			}
			best.least(c.name, took)
		}
		for _, with := range []struct{ name, conf string }{{"empty", emptyConf}, {"90", largeConf}} {
			for _, c := range b.contestants {
				err := b.within(world{conf: c.conf(with.conf), sys: sys}, func() error {
					took, err := b.sequence(c, n)
					best.least(c.name+" "+with.name, took)
					return err
				})
				if err != nil {
					return err
				}
			}
		}
	}
	// A process that hands over reads no config, so that it is the same with any number of
	// rules.
	handoff := best[ours+" empty"]
	beside := func(label, name string, target float64) {
		f := figures{ours: handoff}
		if v, measured := best[name]; measured {
			f[rival] = v
		}
		b.report.ratio(label, f, microseconds, target)
	}
	beside("a hand-off beside an empty static C program", emptyCFile, 0.9)
	beside("a hand-off beside busybox true", "busybox true", 0)
	beside("a hand-off beside busybox mdev, no rules", rival+" empty", 0)
	beside("a hand-off beside busybox mdev, 90 rules", rival+" 90", 0)
	return nil
}

// sequence starts n processes one after the other and returns how long one takes.
// One more before them may stay to serve them.
func (b *bench) sequence(c contestant, n int) (seconds float64, err error) {
	first, err := b.fork(c, 0)
	if err != nil {
		return 0, err
	}
	if err := awaitFIFO(c); err != nil {
		return 0, err
	}
	start := time.Now()
	for i := 1; i < n; i++ {
		pid, err := b.fork(c, i)
		if err != nil {
			return 0, err
		}
		if err := reap(pid); err != nil {
			return 0, err
		}
	}
	seconds = time.Since(start).Seconds() / float64(n-1)
	return seconds, reap(first)
}

// awaitFIFO waits until the first of our helpers serves.
func awaitFIFO(c contestant) error {
	for end := time.Now().Add(patience); c.name == ours; time.Sleep(time.Millisecond) {
		if _, err := os.Stat("/dev/.devspool/helper"); err == nil {
			return nil
		}
		if time.Now().After(end) {
			return errors.New("the first helper does not serve")
		}
	}
	return nil
}

// fork starts the helper of event i with as little ado as can be.
func (b *bench) fork(c contestant, i int) (pid int, err error) {
	// The build for this takes any parent for the kernel. In the program itself an event is
	// handed over only by a child of the kernel's own thread, which nothing here can be.
	if c.name == ours {
		c.path = b.jail.program(helperFile)
	}
	e := made(i).Event("add")
	null := b.jail.null.Fd()
	return syscall.ForkExec(c.path, append([]string{c.path}, c.args(e.Subsystem())...),
		&syscall.ProcAttr{Env: e.Environ(uint64(i + 1)), Files: []uintptr{null, null, null}})
}

// reap waits for a process, whose failure is one of the measurement: a helper that did nothing
// is not fast.
func reap(pid int) error {
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
			continue
		case err == nil && status != 0:
			return fmt.Errorf("helper: status %x", status)
		}
		return err
	}
}

// helperStorms measures the CPU of all processes of a storm: of the one that stays
// to serve the others, too.
func (b *bench) helperStorms(sys string, n int) error {
	for _, with := range []struct {
		name, conf string
		target     float64
	}{{"no rules", emptyConf, 0.9}, {"90 rules", largeConf, 0.5}} {
		best, memory := figures{}, figures{}
		err := b.interleave(b.opts.rounds(), func(c contestant) error {
			return b.within(world{conf: c.conf(with.conf), sys: sys}, func() error {
				cpu, resident, err := b.helperStorm(c, n)
				best.least(c.name, cpu)
				memory.most(c.name, resident)
				return err
			})
		})
		if err != nil {
			return err
		}
		b.report.ratio("a storm, CPU of all processes, "+with.name, best, milliseconds, with.target)
		b.report.limit("  memory of the one that stays (VmHWM)", figures{ours: memory[ours]}, mebibytes, 5<<20)
	}
	return nil
}

// helperStorm starts the helpers, some at once, and waits for all.
func (b *bench) helperStorm(c contestant, n int) (cpu, resident float64, err error) {
	const atOnce = 8
	before, err := cpuOfChildren()
	if err != nil {
		return 0, 0, err
	}
	first, err := b.fork(c, 0)
	if err != nil {
		return 0, 0, err
	}
	var pids []int
	for i := 1; i < n; i++ {
		pid, err := b.fork(c, i)
		if err != nil {
			return 0, 0, err
		}
		if pids = append(pids, pid); len(pids) == atOnce {
			if err := reap(pids[0]); err != nil {
				return 0, 0, err
			}
			pids = pids[1:]
		}
	}
	for _, pid := range pids {
		if err := reap(pid); err != nil {
			return 0, 0, err
		}
	}
	// Ours lingers after the last event and can be asked. A rival has ended, and its status has
	// no such line.
	if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", first)); err == nil {
		resident = statusBytes(string(status), "VmHWM")
	}
	if err := reap(first); err != nil {
		return 0, 0, err
	}
	after, err := cpuOfChildren()
	if err != nil {
		return 0, 0, err
	}
	return after - before, resident, checkNodes(n)
}

// cpuOfChildren returns what all processes used that were waited for.
func cpuOfChildren() (float64, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &r); err != nil {
		return 0, err
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()).Seconds(), nil
}
