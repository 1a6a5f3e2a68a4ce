// Mkinitramfs packs a boot image around devspool: the binary, kernel modules with what
// they need, programs with their libraries, other files. It runs on the machine that
// builds, needs no root, and is no part of the boot binary.
//
// An image is what the kernel unpacks one part after the other, a later entry in the place of an
// earlier one of the same path:
//
//	early     cpio archives that are not compressed: microcode, and those of --early
//	appended  all of the image that --append names, as it is
//	ours      one archive, compressed as --compress says
//
// Contents are collected first, each with the reason for it, and written last: see packer.run.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
)

// The exit codes.
const (
	exitDone   = 0   // the image is there
	exitFailed = 1   // something that was asked for is missing or unusable
	exitUsage  = 100 // the command line is wrong
	exitSystem = 111 // the image could not be written
)

// streams are where the program speaks.
type streams struct {
	out, errors io.Writer
	terminal    bool // whether errors is one
}

func main() {
	os.Exit(run(os.Args[1:], os.Getenv, streams{os.Stdout, os.Stderr, isTerminal(os.Stderr)}))
}

// run is the program, with all that it depends on as parameters, and returns the exit code.
func run(args []string, getenv func(string) string, s streams) int {
	err := dispatch(args, getenv, s)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(s.out, usage())
		return exitDone
	}
	if err == nil {
		return exitDone
	}
	fmt.Fprintln(s.errors, "mkinitramfs:", err)
	var wrote *writeError
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprintln(s.errors, "mkinitramfs: the options are shown by --help")
		return exitUsage
	case errors.As(err, &wrote):
		return exitSystem
	}
	return exitFailed
}

// dispatch does the command that args name. The error says which exit code fits: see run.
func dispatch(args []string, getenv func(string) string, s streams) error {
	if len(args) > 0 {
		// Both have their lines in the one help text.
		wantsHelp := len(args) > 1 && slices.Contains([]string{"-h", "-help", "--help"}, args[1])
		switch what := args[0]; {
		case (what == "ls" || what == "cat") && wantsHelp:
			return flag.ErrHelp
		case what == "ls":
			return listImage(args[1:], s.out)
		case what == "cat":
			return catImage(args[1:], s.out)
		}
	}
	o, err := parse(args, getenv)
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	if err != nil {
		return wrongUsage(err)
	}
	p := &packer{o: o, report: newReport(o, s)}
	return p.run()
}
