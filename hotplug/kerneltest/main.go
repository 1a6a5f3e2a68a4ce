package kerneltest

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"
)

// The environment variables that control the tests.
const (
	// testAll, set to 1, has every test fail that cannot run here.
	testAll = "DEVSPOOL_TEST_ALL"
	// program is the path of the program to test, in place of one built for the run.
	program = "DEVSPOOL_BINARY"
	// jailed is the name of the test that a process of InNamespaces runs.
	jailed = "DEVSPOOL_JAILED"
)

// scratch is a directory for the run, which Main makes.
var scratch string

// untested collects the reasons of Cannot, which Main repeats at the end, where they are seen.
var untested struct {
	sync.Mutex
	why []string
}

// Main runs a package's tests and returns the exit code: its TestMain should call
// os.Exit(kerneltest.Main(m)). At the end it lists the tests that could not run.
func Main(m *testing.M) int {
	playRole()
	dir, err := os.MkdirTemp("", "devspool-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	scratch = dir
	defer os.RemoveAll(dir)
	// Tests run programs in it as other users too.
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	for _, why := range untested.why {
		fmt.Fprintln(os.Stderr, "NOT TESTED:", why)
	}
	return code
}

// Cannot ends a test that cannot run on this machine: it skips it, and Main reports that, or with
// DEVSPOOL_TEST_ALL=1 it fails it.
func Cannot(tb testing.TB, format string, args ...any) {
	tb.Helper()
	why := tb.Name() + ": " + fmt.Sprintf(format, args...)
	if os.Getenv(testAll) == "1" {
		tb.Fatalf("NOT TESTED: %s", why)
	}
	note(why)
	tb.Skipf("NOT TESTED: %s", why)
}

func note(why string) {
	untested.Lock()
	defer untested.Unlock()
	if !slices.Contains(untested.why, why) {
		untested.why = append(untested.why, why)
	}
}

// Need returns the path of a program that the test runs, and ends the test by Cannot where it is not
// installed.
func Need(tb testing.TB, tool string) string {
	tb.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		Cannot(tb, "needs %s", tool)
	}
	return path
}

// NeedRoot ends the test by Cannot where its user is not root.
func NeedRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		Cannot(tb, "needs root")
	}
}

// Sh runs a line of shell and returns its output. Where it fails the test fails.
func Sh(tb testing.TB, line string) string {
	tb.Helper()
	out, err := exec.Command("/bin/sh", "-c", line).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// Until polls until ok returns true, and fails the test where that takes longer than limit. what names
// the condition.
func Until(tb testing.TB, limit time.Duration, what string, ok func() bool) {
	tb.Helper()
	if !Eventually(limit, ok) {
		tb.Fatalf("timed out after %v waiting for: %s", limit, what)
	}
}

// Eventually polls until ok returns true or limit is over, and returns the last result of ok.
func Eventually(limit time.Duration, ok func() bool) bool {
	deadline := time.Now().Add(limit)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		if ok() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
	}
}
