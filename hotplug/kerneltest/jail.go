package kerneltest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Jail is a mount namespace within that of InNamespaces, with an empty tmpfs on /dev and other
// directories bound over places such as /sys and /etc. A program that runs in it finds them there, as
// on a board, and a test can compare several jails.
type Jail struct {
	Dev string // the path of the jail's /dev from outside

	work  chan func()
	close sync.Once
}

// NewJail makes a Jail. binds maps places to the directories or files to bind over them. The jail ends
// with the test, or with Close.
func NewJail(tb testing.TB, binds map[string]string) *Jail {
	tb.Helper()
	if os.Getenv(jailed) == "" {
		tb.Fatal("NewJail is for tests of InNamespaces")
	}
	dev, err := os.MkdirTemp(tb.TempDir(), "dev")
	if err != nil {
		tb.Fatal(err)
	}
	MountTmpfs(tb, dev)
	j := &Jail{Dev: dev, work: make(chan func())}
	ready := make(chan error)
	go j.serve(binds, ready)
	if err := <-ready; err != nil {
		tb.Fatalf("jail: %v", err)
	}
	tb.Cleanup(j.Close)
	return j
}

// MountTmpfs mounts a tmpfs on dir until the end of the test.
func MountTmpfs(tb testing.TB, dir string) {
	tb.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
		tb.Fatalf("mount tmpfs on %s: %v", dir, err)
	}
	tb.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// serve runs the functions of Do on a thread with a mount namespace of its own. It never unlocks the
// thread, so that on return the thread ends, and the namespace with it.
func (j *Jail) serve(binds map[string]string, ready chan<- error) {
	runtime.LockOSThread()
	err := enter(j.Dev, binds)
	ready <- err
	if err != nil {
		return
	}
	for f := range j.work {
		f()
	}
}

// enter gives the calling thread its mount namespace.
func enter(dev string, binds map[string]string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount(dev, "/dev", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind /dev: %w", err)
	}
	for place, source := range binds {
		source, err := filepath.Abs(source)
		if err != nil {
			return err
		}
		if err := unix.Mount(source, place, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", place, err)
		}
	}
	return nil
}

// Do runs f in the jail. Processes that f starts are in it too; they die with it where f sets Pdeathsig.
func (j *Jail) Do(f func()) {
	done := make(chan struct{})
	j.work <- func() { defer close(done); f() }
	<-done
}

// Start starts a command in the jail.
func (j *Jail) Start(cmd *exec.Cmd) (err error) {
	j.Do(func() { err = cmd.Start() })
	return err
}

// Run runs a command in the jail and waits for it.
func (j *Jail) Run(cmd *exec.Cmd) error {
	if err := j.Start(cmd); err != nil {
		return err
	}
	return cmd.Wait()
}

// Close ends the jail; processes in it keep its namespace. It may be called twice.
func (j *Jail) Close() {
	j.close.Do(func() { close(j.work) })
}
