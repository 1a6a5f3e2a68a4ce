package kerneltest

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Flags are the namespaces that a test needs besides one for mounts.
type Flags uint

// The flags of InNamespaces.
const (
	// Net gives the test a network namespace and a sysfs mounted for it: injected events stay in it, and
	// network interfaces may be made.
	Net Flags = 1 << iota
	// PID gives the test a process namespace: processes that it leaves behind end with it.
	PID
)

func (f Flags) attr() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if f&Net != 0 {
		attr.Cloneflags |= unix.CLONE_NEWNET
	}
	if f&PID != 0 {
		attr.Cloneflags |= unix.CLONE_NEWPID
	}
	return attr
}

// furnish sets up the mounts of a process in new namespaces.
func (f Flags) furnish() error {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if f&PID != 0 {
		if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
			return fmt.Errorf("mount proc: %w", err)
		}
	}
	if f&Net != 0 {
		if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
			return fmt.Errorf("mount sysfs: %w", err)
		}
	}
	if err := unix.Mount("tmpfs", "/dev", "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	if err := MakeBaseNodes("/dev"); err != nil {
		return err
	}
	return SpareMachine("/dev/null")
}

// SpareMachine has a loop that this process starts leave the machine's own settings alone: how
// often the kernel looks for other media. It needs a mount namespace, and mounts an empty file.
func SpareMachine(empty string) error {
	const setting = "/sys/module/block/parameters/events_dfl_poll_msecs"
	if err := unix.Mount(empty, setting, "", unix.MS_BIND, ""); err != nil && err != unix.ENOENT {
		return fmt.Errorf("mount over %s: %w", setting, err)
	}
	return nil
}

// baseNodes are the nodes that most programs need.
var baseNodes = []struct {
	name         string
	major, minor uint32
	mode         uint32
}{
	{"null", 1, 3, 0o666},
	{"zero", 1, 5, 0o666},
	{"full", 1, 7, 0o666},
	{"random", 1, 8, 0o666},
	{"urandom", 1, 9, 0o666},
	{"tty", 5, 0, 0o666},
	{"console", 5, 1, 0o600},
}

// MakeBaseNodes makes null, zero, console and the like in dir.
func MakeBaseNodes(dir string) error {
	for _, n := range baseNodes {
		name := filepath.Join(dir, n.name)
		if err := unix.Mknod(name, unix.S_IFCHR|n.mode, int(unix.Mkdev(n.major, n.minor))); err != nil {
			return fmt.Errorf("mknod %s: %w", name, err)
		}
		if err := os.Chmod(name, os.FileMode(n.mode)); err != nil {
			return err
		}
	}
	return nil
}

// InNamespaces runs the calling test in a process of its own, in new namespaces and with a tmpfs on
// /dev. A test uses it as
//
//	if !kerneltest.InNamespaces(t, kerneltest.Net|kerneltest.PID) {
//		return
//	}
//
// since it returns true in the new process only. In the old one it reports the result of the new one.
func InNamespaces(tb testing.TB, flags Flags) bool {
	tb.Helper()
	if os.Getenv(jailed) == tb.Name() {
		switch err := flags.furnish(); {
		case cannot(err):
			Cannot(tb, "%v", err)
		case err != nil:
			tb.Fatal(err)
		}
		return true
	}
	if strings.Contains(tb.Name(), "/") {
		tb.Fatal("InNamespaces is for tests, not for their subtests")
	}
	out, err := reexec(tb, flags)
	if cannot(err) {
		Cannot(tb, "new namespaces: %v", err)
	}
	gatherNotes(out)
	switch {
	case err != nil:
		tb.Fatalf("%v\n%s", err, out)
	case bytes.Contains(out, []byte("--- SKIP: "+tb.Name()+" (")):
		tb.Skipf("%s", out)
	default:
		tb.Logf("%s", out)
	}
	return false
}

// cannot reports whether err means that this machine, or this user, cannot make namespaces, mounts or
// device nodes. Any other error is a failure.
func cannot(err error) bool {
	for _, errno := range []error{
		unix.EPERM, unix.EACCES, unix.EROFS, // not root, or not root enough
		unix.ENOSYS, unix.EINVAL, unix.ENODEV, // the kernel was built without
		unix.ENOSPC, unix.EUSERS, // the limit in /proc/sys/user is reached
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// reexec runs one test of this binary again and returns its output.
func reexec(tb testing.TB, flags Flags) ([]byte, error) {
	args := []string{"-test.run=" + pattern(tb.Name()), "-test.v", "-test.count=1"}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	if f := flag.Lookup("update"); f != nil && f.Value.String() == "true" {
		args = append(args, "-update") // golden files
	}
	ctx, cancel := context.Background(), func() {}
	if t, ok := tb.(*testing.T); ok {
		if deadline, ok := t.Deadline(); ok {
			// The new process times out first, and prints its stacks.
			left := time.Until(deadline)
			args = append(args, "-test.timeout="+(left*8/10).String())
			ctx, cancel = context.WithTimeout(ctx, left*9/10)
		}
	}
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), jailed+"="+tb.Name())
	cmd.SysProcAttr = flags.attr()
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	err := cmd.Wait()
	return out.Bytes(), err
}

// pattern returns the -test.run for the test, with the part about subtests that this process has.
func pattern(name string) string {
	one := "^" + regexp.QuoteMeta(name) + "$"
	if f := flag.Lookup("test.run"); f != nil {
		if _, sub, ok := strings.Cut(f.Value.String(), "/"); ok {
			return one + "/" + sub
		}
	}
	return one
}

// gatherNotes takes over the notes of Cannot from the output of another process.
func gatherNotes(out []byte) {
	for line := range strings.Lines(string(out)) {
		if _, why, ok := strings.Cut(line, "NOT TESTED: "); ok {
			note(strings.TrimSpace(why))
		}
	}
}

// OwnNetwork gives the calling test a network namespace of its own, on its thread. Goroutines that the
// test starts run on other threads, in the old one.
func OwnNetwork(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // for ever: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		Cannot(t, "a network namespace: %v", err)
	}
}
