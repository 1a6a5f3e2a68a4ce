package main

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// The configs. The empty one has a comment, so that no program takes an empty file for
// none: without a config a program may have rules of its own.
const emptyConf = "# no rules\n"

var (
	//go:embed conf/fifty.conf
	fiftyConf string
	//go:embed conf/large.conf
	largeConf string
)

// contestant is one device manager.
type contestant struct {
	named  bool // ours gives devices names
	name   string
	path   string
	prefix []string // arguments before all others
}

// args returns the arguments with which the contestant gets more of them. The slice is cut to
// its length, so that two calls never share what is appended.
func (c contestant) args(more ...string) []string {
	return append(c.prefix[:len(c.prefix):len(c.prefix)], more...)
}

// conf returns the config with which the contestant runs. Ours gives devices no names then, as
// the rivals do not: what names cost is measured by itself.
func (c contestant) conf(text string) string {
	if c.name != rival && !c.named {
		return "names=no;\n" + text
	}
	return text
}

// bench is one run of this program in the jail, with a method for each measurement.
type bench struct {
	opts        options
	jail        *jail
	contestants []contestant // ours first
	report      *report
}

// The contestants' names.
const (
	ours  = "devspool"
	rival = "busybox"
)

// newBench enters the jail, for good, and lists who takes part.
func newBench(opts options) (*bench, error) {
	// Without a rival its column stays empty.
	busybox, missing := exec.LookPath("busybox")
	j, err := newJail(os.Getenv(envJail))
	if err != nil {
		return nil, err
	}
	all := []contestant{{name: ours, path: j.program(oursFile)}}
	if missing == nil {
		all = append(all, contestant{name: rival, path: busybox, prefix: []string{"mdev"}})
	}
	r := newReport(os.Stdout)
	for _, path := range filepath.SplitList(os.Getenv(envBeside)) {
		c := contestant{name: filepath.Base(path), path: path}
		all, r.builds = append(all, c), append(r.builds, c.name)
	}
	return &bench{opts: opts, jail: j, contestants: all, report: r}, nil
}

// figures are what was measured of each contestant, by its name.
type figures map[string]float64

// least keeps the least of several measurements. That is a contestant's best:
// whatever else the machine does only ever adds to time.
func (f figures) least(name string, value float64) {
	if old, measured := f[name]; !measured || value < old {
		f[name] = value
	}
}

// most keeps the greatest of several measurements.
func (f figures) most(name string, value float64) { f[name] = max(f[name], value) }

// interleave lets the contestants take turns, round after round, so that a slow
// moment of the machine meets all of them.
func (b *bench) interleave(rounds int, turn func(contestant) error) error {
	for range rounds {
		for _, c := range b.contestants {
			if err := turn(c); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	return nil
}

// within runs f in a world of its own.
func (b *bench) within(w world, f func() error) error {
	clear, err := b.jail.furnish(w)
	if err != nil {
		return err
	}
	return errors.Join(f(), clear())
}

// cpuOf returns what a process that has ended used, in seconds, with its children
// that it waited for.
func cpuOf(state *os.ProcessState) float64 { return (state.UserTime() + state.SystemTime()).Seconds() }
