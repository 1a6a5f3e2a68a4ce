// Bench compares devspool with BusyBox mdev, side by side in one run: the CPU and
// the system calls of a coldplug, the CPU per event of the loop, memory, losses
// under a storm, the cost of handing events to clients, the program's size; and beside
// the program built without them what the names of devices cost, and beside udevd what its
// clients cost. Run it as root from
// anywhere in the module:
//
//	go run ./hotplug/bench [-quick] [-only coldplug,loop,...]
//
// Only ratios travel from one machine to another, so a time that misses its target
// is marked but is no failure. Counts are the same everywhere: with -check-syscalls
// only system calls are counted, and a miss is a failure.
//
// With DEVSPOOL_BESIDE=FILE[:FILE...] other builds of devspool, such as one of an older
// commit, take their turns in "loop", "lone", "coldplug" and "names".
//
// It works in namespaces of its own. The machine's /dev is not even mounted there.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
)

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // something did not work, or a count missed its target
	exitUsage  = 2
)

// options are what the command line says.
type options struct {
	quick    bool
	syscalls bool
	only     []string
}

// parts are what a run consists of, in order.
var parts = []struct {
	name string
	run  func(*bench) error
}{
	{"coldplug", (*bench).coldplug},
	{"loop", (*bench).loop},
	{"lone", (*bench).lone},
	{"memory", (*bench).memory},
	{"storm", (*bench).storm},
	{"queue", (*bench).queue},
	{"spool", (*bench).spool},
	{"listeners", (*bench).listeners},
	{"size", (*bench).size},
	{"helper", (*bench).helper},
	{"names", (*bench).names},
	{"udev", (*bench).udev},
}

func main() { os.Exit(run(os.Args[1:])) }

// run does both halves of a run, each in a process of its own, and returns the exit code.
func run(args []string) int {
	opts, err := parseFlags(args)
	if err != nil {
		return exitUsage
	}
	// The program runs twice: outside, where it builds, and then in the namespaces, where it
	// measures.
	if !inJail() {
		return prepare(args)
	}
	b, err := newBench(opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return exitFailed
	}
	failed := false
	for _, part := range parts {
		if !opts.wants(part.name) {
			continue
		}
		if err := part.run(b); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", part.name, err)
			failed = true
		}
	}
	b.report.summary()
	if failed || opts.syscalls && len(b.report.missed) > 0 {
		return exitFailed
	}
	return exitOK
}

// parseFlags reads the command line, which both processes get. It has printed what is wrong
// where it returns an error.
func parseFlags(args []string) (options, error) {
	names := make([]string, len(parts))
	for i, part := range parts {
		names[i] = part.name
	}
	var opts options
	var only string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&opts.quick, "quick", false, "fewer rounds and smaller loads: about a minute")
	flags.BoolVar(&opts.syscalls, "check-syscalls", false, "count the system calls of a coldplug, fail if there are too many, and do nothing else")
	flags.StringVar(&only, "only", "", "comma-separated parts to run: "+strings.Join(names, ", "))
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	if only != "" {
		opts.only = strings.Split(only, ",")
	}
	for _, name := range opts.only {
		if !slices.Contains(names, name) {
			err := fmt.Errorf("no part is called %q: there are %s", name, strings.Join(names, ", "))
			fmt.Fprintln(os.Stderr, "bench:", err)
			return opts, err
		}
	}
	if opts.syscalls {
		opts.only = []string{"coldplug"}
	}
	return opts, nil
}

// wants reports whether a part is to run: all are, unless some are named.
func (o options) wants(part string) bool {
	return len(o.only) == 0 || slices.Contains(o.only, part)
}

// rounds is how often each contestant runs.
func (o options) rounds() int {
	if o.quick {
		return 3
	}
	return 5
}

// scaled returns n events, or fewer of them for a quick run.
func (o options) scaled(n int) int {
	if o.quick {
		return n / 4
	}
	return n
}
