// Package build builds programs of the module for tests and measurements, with the flags
// of a release: these stand in the Makefile, and nowhere else. It never builds what is
// released; "make" does.
package build

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Options say in what a program differs from what is released.
type Options struct {
	Arch  string   // GOARCH; "" for this machine's
	Tags  string   // build tags, with commas
	Link  []string // further flags for the linker
	Test  bool     // the tests of a package, as a program
	Plain bool     // it begins at the Go runtime: for programs without package handoff

	Environ []string // what a distribution sets for its builds, such as GOFLAGS=-buildmode=pie
}

// Program builds what, a package's path or a Go file, into the file out. It is called
// anywhere below the module's root; a relative path of a package begins there.
func Program(out, what string, o Options) error { return o.program(out, what) }

// program is Program with flags that come after those of the Makefile.
func (o Options) program(out, what string, more ...string) error {
	root, err := Root()
	if err != nil {
		return err
	}
	flags, err := o.flags(root)
	if err != nil {
		return err
	}
	experiment, err := o.run(root, "make", "-s", "experiment")
	if err != nil {
		return err
	}
	o.Environ = append(slices.Clip(o.Environ), "GOEXPERIMENT="+strings.TrimSpace(experiment))
	args := []string{"build"}
	if o.Test {
		args = []string{"test", "-c", "-vet=off"}
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	if _, err = o.run(root, "go", slices.Concat(args, flags, more, []string{"-o", out, what})...); err != nil || o.Test {
		return err // a test tells the lines where it fails
	}
	_, err = Options{}.run(root, "go", "run", "./hotplug/kerneltest/build/striplines", out)
	return err
}

// flags asks the Makefile.
func (o Options) flags(root string) ([]string, error) {
	args := []string{"-s", "flags", "TAGS=" + o.Tags, "LINK=" + strings.Join(o.Link, " ")}
	if o.Plain {
		args = append(args, "entry=")
	}
	text, err := o.run(root, "make", args...)
	return strings.Split(strings.TrimSpace(text), "\n"), err
}

// run runs a command in the module's root, and returns what it writes to standard output.
func (o Options) run(root, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = root
	// What a make or a go command around this one was told is not meant for these.
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=", "GOFLAGS=", "CGO_ENABLED=0")
	cmd.Env = append(cmd.Env, o.Environ...)
	if o.Arch != "" {
		cmd.Env = append(cmd.Env, "GOARCH="+o.Arch)
	}
	var said strings.Builder
	cmd.Stderr = &said
	text, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, said.String())
	}
	return string(text), nil
}

// Budgets returns the sizes in bytes that the Makefile allows the program, plain and as
// xz -9e, and those that it allows the program without the spool, with blanks between.
func Budgets() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	return Options{}.run(root, "make", "-s", "budgets")
}

// Root returns the directory of the module around the working directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == "/" {
			return "", fmt.Errorf("no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}
