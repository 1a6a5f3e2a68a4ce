// Package hotplugtest holds what the tests of several packages share: waiting for
// conditions, a log whose lines a test reads, a directory in place of /sys. It never needs
// more of the kernel than a file system; for the rest there is kerneltest.
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

// Script makes an executable file and returns its path. Tests that run in parallel may start
// processes at the same time: one of these that inherited the file open for writing, until
// its own exec, would make an exec of the script fail with ETXTBSY. The lock excludes that.
func Script(t *testing.T, path, text string) string {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	WriteFile(t, path, text)
	Must(t, os.Chmod(path, 0o755))
	return path
}

// Patience is how long a test waits for what takes no time on an idle machine.
const Patience = 20 * time.Second

// Eventually waits until is returns true, and ends the test where that takes longer than
// Patience. What names the condition.
func Eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not after %v", what, Patience)
		}
	}
}

// Within calls f, and ends the test where f takes longer than Patience. What names what f
// waits for.
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

// NeedRoot ends a test that makes device nodes where that needs another user; see
// kerneltest.Cannot.
func NeedRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		kerneltest.Cannot(t, "needs root, to make device nodes")
	}
}

// Must ends the test where err is not nil.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// WriteFile writes a file, and makes the directories that it needs.
func WriteFile(t testing.TB, path, text string) {
	t.Helper()
	Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	Must(t, os.WriteFile(path, []byte(text), 0o644))
}

// Contents returns the contents of a file.
func Contents(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	Must(t, err)
	return string(text)
}

// NewEvent makes an event from its variables, KEY=VALUE.
func NewEvent(t testing.TB, env ...string) *uevent.Event {
	t.Helper()
	e, err := uevent.FromEnviron(env)
	if err != nil {
		t.Fatalf("%q: %v", env, err)
	}
	return e
}

// Alive reports whether a process exists and is no zombie.
func Alive(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// Collected is a list that several goroutines may add to.
type Collected[T any] struct {
	mu  sync.Mutex
	all []T
}

// Add appends one.
func (l *Collected[T]) Add(one T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, one)
}

// List returns a copy of all that was added.
func (l *Collected[T]) List() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]T(nil), l.all...)
}

// NewInjector returns a kerneltest.Injector that is closed when the test ends.
func NewInjector(t *testing.T) *kerneltest.Injector {
	t.Helper()
	kernel, err := kerneltest.NewInjector()
	Must(t, err)
	t.Cleanup(func() { kernel.Close() })
	return kernel
}

// UntilGo is a command that ends when the file TMP/go appears; see board.Board.Go.
const UntilGo = "until test -e TMP/go; do sleep 0.01; done"

// ChildRole is the environment variable that names what a test binary does in place of its
// tests; see Main.
const ChildRole = "HOTPLUG_TEST_CHILD"

// Main runs the tests of a package, or the function of children whose name is in ChildRole,
// and exits. At the end it lists what could not be tested.
func Main(m *testing.M, children map[string]func() int) {
	syscall.Umask(0) // as the program does
	if child := children[os.Getenv(ChildRole)]; child != nil {
		os.Exit(child())
	}
	os.Exit(kerneltest.Main(m))
}
