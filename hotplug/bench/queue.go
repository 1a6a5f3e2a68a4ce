package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"devspool/hotplug/kerneltest"
)

// What the queue's measurements consist of.
const (
	waiters     = 1_000                  // devices whose command takes its time
	waitersTime = 100 * time.Millisecond // so long
	waitersJobs = 16                     // so many of them at once
	latencies   = 200                    // events whose latency is taken
	queued      = 100_000                // events that are queued at once
)

// queue measures what commands that run or hang cost the others. There is no
// rival: mdev's loop waits for each command.
func (b *bench) queue() error {
	b.report.section("Queue", "the loop while commands run")
	s, err := b.newStage(max(b.opts.scaled(20_000), waiters))
	if err != nil {
		return err
	}
	defer s.close()
	for _, part := range []func(*stage) error{b.parallel, b.latency, b.behind, b.backlog} {
		if err := part(s); err != nil {
			return err
		}
	}
	return nil
}

// only runs f beside our own loop, on /sys as the stage has it.
func (b *bench) only(w world, s *stage, options []string, f func(*daemon) error) error {
	c := b.contestants[0]
	if c.name != ours {
		return errors.New("devspool is not the first contestant")
	}
	c.prefix = options
	return b.withDaemon(c, w, func(d *daemon) error {
		return over("/sys", s.full, func() error { return f(d) })
	})
}

// parallel measures how long many commands take that sleep.
func (b *bench) parallel(s *stage) error {
	log := filepath.Join(b.jail.dir, "slept")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		return err
	}
	conf := fmt.Sprintf("bench.* 0:0 660 @sleep %v; echo $MDEV >>%s\n", waitersTime.Seconds(), log)
	return b.only(world{conf: conf, sys: s.empty}, s, []string{"-j", strconv.Itoa(waitersJobs)}, func(*daemon) error {
		start := time.Now()
		for i := range waiters {
			if err := s.injector.Write(kerneltest.Message(made(i).Event("add"))); err != nil {
				return err
			}
		}
		if n := awaitLines(log, waiters); n != waiters {
			return fmt.Errorf("%d of %d commands ran", n, waiters)
		}
		best := (waitersTime * waiters / waitersJobs).Seconds()
		took := time.Since(start).Seconds()
		b.report.limit(fmt.Sprintf("%d commands of %v, -j %d: time over the least possible", waiters, waitersTime, waitersJobs),
			figures{ours: took / best}, hundredths, 1.3)
		return nil
	})
}

// latency measures how long an event takes while another device's command hangs.
func (b *bench) latency(s *stage) error {
	conf := "bench100000 0:0 660 @sleep 1000\nbench1.* 0:0 660 @touch $MDEV.ran\n.* 0:0 660\n"
	return b.only(world{conf: conf, sys: s.empty}, s, nil, func(*daemon) error {
		// Only the jail's processes are seen here, so the name is enough. The command outlives
		// the daemon, which is killed.
		defer func() { _ = exec.Command("pkill", "-f", "sleep 1000").Run() }()
		if err := s.injector.Write(kerneltest.Message(made(0).Event("add"))); err != nil {
			return err
		}
		if !awaitFile("/dev/" + made(0).Devname) {
			return errors.New("the first event was not handled")
		}
		var nodes, commands []float64
		for i := 1; i <= latencies; i++ {
			start := time.Now()
			if err := s.injector.Write(kerneltest.Message(made(i).Event("add"))); err != nil {
				return err
			}
			node := "/dev/" + made(i).Devname
			if !awaitFile(node) {
				return errors.New("no node: " + node)
			}
			nodes = append(nodes, time.Since(start).Seconds())
			if !awaitFile(node + ".ran") {
				return errors.New("no command ran: " + node)
			}
			commands = append(commands, time.Since(start).Seconds())
		}
		b.report.limit("behind a hung command: event to node, median", figures{ours: median(nodes)}, milliseconds, 5e-3)
		b.report.limit("behind a hung command: event to another's command done, median", figures{ours: median(commands)}, milliseconds, 5e-3)
		return nil
	})
}

// behind measures what it costs an event that others are under way.
func (b *bench) behind(s *stage) error {
	conf := "hung 0:0 660 *sleep 1000\n" + fiftyConf
	defer func() { _ = exec.Command("pkill", "-f", "sleep 1000").Run() }()
	hung := kerneltest.Event{Action: "change", Devpath: "/devices/virtual/hung", Vars: []string{"SUBSYSTEM=bench", "DEVNAME=hung"}}
	cost := func(first *kerneltest.Event) (float64, error) {
		var least float64
		for range b.opts.rounds() {
			err := b.only(world{conf: conf, sys: s.empty}, s, nil, func(d *daemon) error {
				if first != nil {
					if err := s.injector.Write(kerneltest.Message(*first)); err != nil {
						return err
					}
					if err := d.settle(); err != nil {
						return err
					}
				}
				before, err := d.cpu()
				if err != nil {
					return err
				}
				if err := s.newOnes(d); err != nil {
					return err
				}
				after, err := d.cpu()
				if each := (after - before).Seconds() / float64(s.events); least == 0 || each < least {
					least = each
				}
				return err
			})
			if err != nil {
				return 0, err
			}
		}
		return least, nil
	}
	free, err := cost(nil)
	if err != nil {
		return err
	}
	queue, err := cost(&hung)
	if err != nil {
		return err
	}
	b.report.limit("CPU an event with a command under way, over that with none", figures{ours: queue / free}, hundredths, 1.1)
	return nil
}

// quietEnough is after how long an idle loop has given back its memory.
const quietEnough = 2 * time.Second

// backlog measures what is left of the memory that a long queue took.
func (b *bench) backlog(s *stage) error {
	return b.only(world{conf: fiftyConf, sys: s.empty}, s, nil, func(d *daemon) error {
		if err := s.newOnes(d); err != nil {
			return err
		}
		time.Sleep(quietEnough)
		idle, err := d.memory()
		if err != nil {
			return err
		}
		if err := b.ctl("stop"); err != nil {
			return err
		}
		events := queued
		for i := range events {
			if err := s.send(d, i, kerneltest.Message(made(i%s.events).Event("add"))); err != nil {
				return err
			}
		}
		if err := d.settle(); err != nil {
			return err
		}
		full, err := d.memory()
		if err != nil {
			return err
		}
		if err := b.ctl("start"); err != nil {
			return err
		}
		if err := s.settled(d, s.events); err != nil {
			return err
		}
		// The memory goes when the loop has been idle for a while, so this waits for it.
		left := full
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			if left, err = d.memory(); err != nil {
				return err
			}
			if left.resident-idle.resident < 1<<20 {
				break
			}
		}
		b.report.note("with %s events queued it took %s", count(float64(events)), mebibytes(full.resident))
		b.report.limit("memory kept after that, over the idle loop's", figures{ours: left.resident - idle.resident}, mebibytes, 2<<20)
		return nil
	})
}

// ctl steers our loop.
func (b *bench) ctl(word string) error {
	c := b.contestants[0]
	cmd := b.jail.command(c, []string{"ctl", word})
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("ctl %s: %w", word, err)
	}
	return nil
}

// awaitFile waits for a file without sleeping, so that little is added to what is measured.
func awaitFile(path string) bool {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if _, err := os.Lstat(path); err == nil {
			return true
		}
		time.Sleep(20 * time.Microsecond)
	}
	return false
}

// median sorts the values and returns the middle one, which a few disturbed runs do not move.
func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

func hundredths(n float64) string { return strconv.FormatFloat(n, 'f', 2, 64) }
