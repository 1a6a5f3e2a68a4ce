package procfs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/procfs"
)

// oddName starts a program whose name looks like other fields of /proc/PID/stat, in a process
// group of its own.
func oddName(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	program := filepath.Join(t.TempDir(), ") R 1 (x")
	text, err := os.ReadFile("/bin/sh")
	hotplugtest.Must(t, err)
	hotplugtest.Must(t, os.WriteFile(program, text, 0o755))
	cmd := exec.Command(program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	hotplugtest.Must(t, cmd.Start())
	t.Cleanup(func() {
		unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		cmd.Wait()
	})
	return cmd
}

// TestProcess follows a process to its end.
func TestProcess(t *testing.T) {
	t.Parallel()
	cmd := oddName(t, "-c", "while :; do :; done")
	pid := cmd.Process.Pid
	p, ok := procfs.Find(pid)
	if !ok || p.Pid != pid || p.Start == 0 || !p.Alive() {
		t.Errorf("%+v, found %v, alive %v", p, ok, p.Alive())
	}
	if got := procfs.Parent(pid); got != os.Getpid() {
		t.Errorf("its parent is %d", got)
	}
	if !procfs.RunsAs(pid, uint32(os.Getuid())) || procfs.RunsAs(pid, 54321) {
		t.Error("its user is another one")
	}
	hotplugtest.Eventually(t, "state R", func() bool { return procfs.CountRunnable(map[int]bool{pid: true}) == 1 })
	if n := procfs.CountRunnable(map[int]bool{1 << 30: true}); n != 0 {
		t.Errorf("%d processes of no group", n)
	}
	if (procfs.Process{Pid: pid, Start: p.Start + 1}).Alive() {
		t.Error("a process with the same number and another start is alive")
	}
	hotplugtest.Must(t, cmd.Process.Kill())
	hotplugtest.Eventually(t, "the zombie", func() bool { return !p.Alive() })
	if _, ok := procfs.Find(pid); ok {
		t.Error("a zombie is found")
	}
	cmd.Wait()
	if p.Alive() || procfs.Parent(pid) != 0 || procfs.RunsAs(pid, uint32(os.Getuid())) {
		t.Error("a process that was waited for is there")
	}
	if (procfs.Process{}).Alive() {
		t.Error("the zero process is alive")
	}
}

// TestFlockHolder finds the process that holds a lock.
func TestFlockHolder(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "lock"))
	hotplugtest.Must(t, err)
	defer file.Close()
	info, err := file.Stat()
	hotplugtest.Must(t, err)
	st := info.Sys().(*syscall.Stat_t)
	holder := func() int {
		t.Helper()
		return procfs.FlockHolder(hotplugtest.Contents(t, "/proc/locks"), uint64(st.Dev), st.Ino)
	}
	if got := holder(); got != 0 {
		t.Errorf("process %d holds a free lock", got)
	}
	hotplugtest.Must(t, unix.Flock(int(file.Fd()), unix.LOCK_EX))
	if got := holder(); got != os.Getpid() {
		t.Errorf("process %d holds it, not %d", got, os.Getpid())
	}
}
