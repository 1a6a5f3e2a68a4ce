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

// The environment variables that steer the tests.
const (
	// testAll makes a failure of every test that cannot run here.
	testAll = "DEVSPOOL_TEST_ALL"
	// program names the program to test, in place of one built for the run.
	program = "DEVSPOOL_BINARY"
	// jailed names, in a process that InNamespaces started, the test it is for.
	jailed = "DEVSPOOL_JAILED"
)

// scratch is the directory that Main makes for the run.
var scratch string

// untested gathers what Cannot said, for Main to repeat where it will be seen.
var untested struct {
	sync.Mutex
	why []string
}

// Main runs a package's tests; its TestMain should be no more than
// os.Exit(kerneltest.Main(m)). At the end it lists what could not be tested.
func Main(m *testing.M) int {
	playRole()
	dir, err := os.MkdirTemp("", "devspool-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	scratch = dir
	defer os.RemoveAll(dir)
	// Programs in it are run as other users too.
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

// Cannot ends a test that this machine cannot run: a loud skip, or a failure where
// DEVSPOOL_TEST_ALL=1 says that everything must be tested.
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

// Need returns the path of a program that the test runs, and ends the test where
// it is not installed.
func Need(tb testing.TB, tool string) string {
	tb.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		Cannot(tb, "needs %s", tool)
	}
	return path
}

// NeedRoot ends the test where it is not root's.
func NeedRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		Cannot(tb, "needs root")
	}
}

// Sh runs a line of shell and returns what it printed; a failure ends the test.
func Sh(tb testing.TB, line string) string {
	tb.Helper()
	out, err := exec.Command("/bin/sh", "-c", line).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// Until polls until ok returns true, and ends the test if that takes too long;
// what tells what was waited for.
func Until(tb testing.TB, limit time.Duration, what string, ok func() bool) {
	tb.Helper()
	if !Eventually(limit, ok) {
		tb.Fatalf("waited %v in vain for: %s", limit, what)
	}
}

// Eventually polls until ok returns true or the limit is over, and returns ok's last word.
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
