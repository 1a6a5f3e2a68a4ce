package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"devspool/hotplug/handoff"
	"devspool/hotplug/kerneltest/build"
)

// Environment variables, the first two as in the tests.
const (
	// envTestAll makes a failure of whatever cannot be measured here.
	envTestAll = "DEVSPOOL_TEST_ALL"
	// envBinary names the program to measure, in place of one built for the run.
	envBinary = "DEVSPOOL_BINARY"
	// envBeside names further programs of ours to measure beside it, such as that of an older
	// commit: paths with a colon between them.
	envBeside = "DEVSPOOL_BESIDE"
	// envJail names the run's directory, for the process in the namespaces.
	envJail = "DEVSPOOL_BENCH_JAIL"
	// envBudgets holds the Makefile's budgets for it.
	envBudgets = "DEVSPOOL_BENCH_BUDGETS"
)

// The programs below the run's directory.
const (
	oursFile     = "devspool"
	helperFile   = "devspool-helper"  // to be started in the kernel's place
	coreFile     = "devspool-core"    // as make core builds it
	namelessFile = "devspool-nonames" // without the names that devices deserve
	emptyGoFile  = "empty-go"
	emptyCFile   = "empty-c"
	fanoutFile   = "fanout"
	bareLoopFile = "loop"
)

// tools are what a run needs besides the go command: without one, a column or a
// row is missing.
var tools = []string{"busybox", "strace", "xz", "gcc"}

// prepare builds the programs, then runs this one again in the jail.
func prepare(args []string) int {
	dir, err := os.MkdirTemp("", "devspool-bench-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return exitFailed
	}
	defer os.RemoveAll(dir)
	// An interrupt ends what is running, and so this process after it, which has to clear up.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	missing := missingTools()
	if missing && os.Getenv(envTestAll) == "1" {
		return exitFailed
	}
	if err := buildAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return exitFailed
	}
	budgets, err := build.Budgets()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return exitFailed
	}
	_ = os.Setenv(envBudgets, budgets)
	return enterJail(dir, args)
}

// missingTools says loudly what is not installed.
func missingTools() bool {
	missing := false
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			fmt.Fprintf(os.Stderr, "NOT MEASURED: %s is not installed\n", tool)
			missing = true
		}
	}
	return missing
}

// buildAll builds all programs that the parts measure, whichever parts are wanted.
func buildAll(dir string) error {
	if err := buildOurs(filepath.Join(dir, oursFile)); err != nil {
		return err
	}
	if err := buildOurs(filepath.Join(dir, helperFile), handoff.AnyParent); err != nil {
		return err
	}
	source := filepath.Join(dir, "empty.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		return err
	}
	if err := build.Program(filepath.Join(dir, emptyGoFile), source, build.Options{Plain: true}); err != nil {
		return err
	}
	if err := build.Program(filepath.Join(dir, coreFile), ".", build.Options{Tags: "nospool,nonames,noudev,noboot"}); err != nil {
		return err
	}
	if err := build.Program(filepath.Join(dir, namelessFile), ".", build.Options{Tags: "nonames"}); err != nil {
		return err
	}
	for name, source := range map[string]string{
		emptyCFile: "int main(void) { return 0; }\n", fanoutFile: fanoutSource, bareLoopFile: bareLoopSource,
	} {
		if err := buildC(filepath.Join(dir, name), source); err != nil {
			return err
		}
	}
	return nil
}

// buildOurs builds the program as make does, with more flags for the linker, or takes the one
// that envBinary names as it is.
func buildOurs(path string, flags ...string) error {
	if binary := os.Getenv(envBinary); binary != "" {
		program, err := os.ReadFile(binary)
		if err != nil {
			return err
		}
		return os.WriteFile(path, program, 0o755)
	}
	return build.Program(path, ".", build.Options{Link: flags})
}

// buildC builds a static C program, where there is a compiler.
func buildC(path, source string) error {
	cmd := exec.Command("gcc", "-x", "c", "-O2", "-static", "-s", "-o", path, "-")
	cmd.Stdin = strings.NewReader(source)
	if err := output(cmd); !errors.Is(err, exec.ErrNotFound) {
		return err
	}
	return nil
}

// output runs cmd, whose output is of interest only where it fails.
func output(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}
