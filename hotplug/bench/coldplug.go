package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// walkAll is a rule that never matches, but whose command may run for any device
// that has a MODALIAS: so all of them must be looked at, with numbers or without.
const walkAll = "-$MODALIAS=none:.* root:root 0660 @true\n"

// scans are the configs to coldplug with, and the targets: our share of the
// rival's CPU and of its system calls, 0 for none.
var scans = []struct {
	name, conf    string
	cpu, syscalls float64
}{
	{"no rules", emptyConf, 0.6, 0.5},
	{"90 rules", largeConf, 0.6, 0.5},
	{"90 rules, one more for any MODALIAS", walkAll + largeConf, 1.0, 0},
}

// coldplug measures `-s` on this machine's /sys: on an empty /dev, and again on
// one that is as it should be.
func (b *bench) coldplug() error {
	b.report.section("Coldplug", "%d devices in /sys, least of %d runs (of 3 for system calls)", countDevices(), b.scanRounds())
	for _, s := range scans {
		if !b.opts.syscalls {
			if err := b.scanned("CPU, "+s.name, s.conf, milliseconds, s.cpu, b.scanRounds(), b.oneShot); err != nil {
				return err
			}
		}
		if _, err := exec.LookPath("strace"); err != nil {
			b.report.ratio("system calls, "+s.name, nil, count, s.syscalls)
			continue
		}
		if err := b.scanned("system calls, "+s.name, s.conf, count, s.syscalls, 3, b.countSyscalls); err != nil {
			return err
		}
	}
	if b.opts.syscalls {
		return nil
	}
	return b.startup()
}

// scanRounds is how often a scan runs: it is short, and so easily disturbed.
func (b *bench) scanRounds() int { return 4 * b.opts.rounds() }

// scanned measures scans with one config and writes the rows.
func (b *bench) scanned(label, conf string, unit unit, target float64, rounds int, measure meter) error {
	first, second := figures{}, figures{}
	err := b.interleave(rounds, func(c contestant) error {
		return b.within(world{conf: c.conf(conf)}, func() error {
			// The second scan finds all nodes made, and has only to look.
			for _, f := range []figures{first, second} {
				value, err := measure(c, c.args("-s"))
				if err != nil {
					return err
				}
				f.least(c.name, value)
			}
			return checkNodes(countDevices())
		})
	})
	if err != nil {
		return err
	}
	b.report.ratio(label, first, unit, target)
	b.report.ratio("  the same again on that /dev", second, unit, 0)
	return nil
}

// meter runs a contestant to its end and returns what it measured of that.
type meter func(c contestant, args []string) (float64, error)

// oneShot is the meter of CPU.
func (b *bench) oneShot(c contestant, args []string) (float64, error) {
	cmd := b.jail.command(c, args)
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return cpuOf(cmd.ProcessState), nil
}

// runtimeCalls are left out of the count: a Go program's monitor thread makes more
// of them the slower the program runs, and strace makes it slow. At full speed they
// are no more than ten. BusyBox makes none.
const runtimeCalls = "futex,nanosleep,sched_yield,epoll_pwait,tgkill,getpid,rt_sigreturn"

// countSyscalls is the meter of system calls, those of all threads.
func (b *bench) countSyscalls(c contestant, args []string) (float64, error) {
	out := filepath.Join(b.jail.dir, "strace")
	strace := contestant{path: "strace", prefix: []string{"-f", "-c", "-e", "trace=!" + runtimeCalls, "-o", out, c.path}}
	cmd := b.jail.command(strace, strace.args(args...))
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		return 0, err
	}
	n, err := straceTotal(string(text))
	return float64(n), err
}

// straceTotal reads the count in the last line of strace -c: percent, seconds,
// microseconds a call, calls, errors if any, "total".
func straceTotal(text string) (int, error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) >= 5 && f[len(f)-1] == "total" {
			return strconv.Atoi(f[3])
		}
	}
	return 0, errors.New("strace gave no total")
}

// startup measures what a program costs that does nothing, for a scale.
func (b *bench) startup() error {
	best := figures{}
	for range b.scanRounds() {
		for _, name := range []string{emptyGoFile, emptyCFile} {
			program := contestant{path: b.jail.program(name)}
			if _, err := os.Stat(program.path); err != nil {
				continue // no compiler: said at the start
			}
			cpu, err := b.oneShot(program, nil)
			if err != nil {
				return err
			}
			best.least(name, cpu)
		}
	}
	b.report.note("for a scale: an empty Go program %s, an empty static C program %s",
		milliseconds(best[emptyGoFile]), milliseconds(best[emptyCFile]))
	return nil
}

// countDevices returns how many devices of /sys have numbers.
func countDevices() int {
	n := 0
	for _, kind := range []string{"char", "block"} {
		names, _ := os.ReadDir("/sys/dev/" + kind)
		n += len(names)
	}
	return n
}

// countNodes returns how many device nodes /dev holds.
func countNodes() (int, error) {
	n := 0
	err := filepath.WalkDir("/dev", func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type()&fs.ModeDevice != 0 {
			n++
		}
		return err
	})
	return n, err
}

// checkNodes tells whether /dev holds as many device nodes as it should: a
// contestant that leaves work undone is not fast.
func checkNodes(want int) error {
	got, err := countNodes()
	if err == nil && got != want {
		err = fmt.Errorf("/dev holds %d nodes, not %d", got, want)
	}
	return err
}
