// Package hotplugtest is what tests of several packages share: waiting, a log that is
// read back, a tree that looks like /sys.
package hotplugtest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/uevent"
)

// Script makes an executable file and returns its path.
func Script(t *testing.T, path, text string) string {
	t.Helper()
	WriteFile(t, path, text)
	Must(t, os.Chmod(path, 0o755))
	return path
}

// Patience is how long a test waits for what should take no time at all, on a
// machine that is busy with other things.
const Patience = 20 * time.Second

// Eventually fails the test where is does not come true.
func Eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not after %v", what, Patience)
		}
	}
}

// Within fails the test where f does not return in time.
func Within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(Patience):
		t.Fatalf("%s: not after %v", what, Patience)
	}
}

func NeedRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	line := "NOT TESTED: " + t.Name() + ": needs root, to make device nodes"
	if os.Getenv("DEVSPOOL_TEST_ALL") == "1" {
		t.Fatal(line)
	}
	t.Skip(line)
}

func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func WriteFile(t testing.TB, path, text string) {
	t.Helper()
	Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	Must(t, os.WriteFile(path, []byte(text), 0o644))
}

func Contents(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	Must(t, err)
	return string(text)
}

// NewEvent makes an event of variables alone.
func NewEvent(t testing.TB, env ...string) *uevent.Event {
	t.Helper()
	e, err := uevent.FromEnviron(env)
	if err != nil {
		t.Fatalf("%q: %v", env, err)
	}
	return e
}

// Alive reports whether a process runs. A zombie does not.
func Alive(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// Collected is for what several goroutines of a test collect.
type Collected[T any] struct {
	mu  sync.Mutex
	all []T
}

func (l *Collected[T]) Add(one T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, one)
}

func (l *Collected[T]) List() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]T(nil), l.all...)
}

func NewInjector(t *testing.T) *kerneltest.Injector {
	t.Helper()
	kernel, err := kerneltest.NewInjector()
	Must(t, err)
	t.Cleanup(func() { kernel.Close() })
	return kernel
}

// UntilGo is a command that ends when the test says so.
const UntilGo = "until test -e TMP/go; do sleep 0.01; done"

// ChildRole is the variable by which a test starts its own binary as another process.
const ChildRole = "HOTPLUG_TEST_CHILD"

// Main runs the tests of a package, or what children has for the role that the environment
// names.
func Main(m *testing.M, children map[string]func() int) {
	syscall.Umask(0) // as the program does
	if child := children[os.Getenv(ChildRole)]; child != nil {
		os.Exit(child())
	}
	os.Exit(m.Run())
}
