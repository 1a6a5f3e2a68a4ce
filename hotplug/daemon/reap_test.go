package daemon

import (
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/sys"
)

// TestReap shows that children are waited for which are not commands, and only these. It is not
// parallel: it would reap the children of other tests.
func TestReap(t *testing.T) {
	if IsSubreaper() {
		t.Error("this process is taken for a reaper of orphans")
	}
	command := endedChild(t)
	var orphan atomic.Int64
	go Reap(func(pid int) bool { return pid == command || int64(pid) != orphan.Load() })
	time.Sleep(10 * sys.PollInterval)
	if sys.EndedChild(unix.P_PID, command) != command {
		t.Error("a command is reaped")
	}
	orphan.Store(int64(endedChild(t)))
	if _, err := unix.Wait4(command, nil, 0, nil); err != nil { // or waitid shows no other
		t.Error(err)
	}
	hotplugtest.Eventually(t, "the end of an orphan", func() bool {
		_, err := unix.Wait4(int(orphan.Load()), nil, unix.WNOHANG, nil)
		return err == unix.ECHILD
	})
}

// endedChild returns a child that has ended and was not waited for.
func endedChild(t *testing.T) (pid int) {
	t.Helper()
	pid, err := syscall.ForkExec("/bin/sh", []string{"/bin/sh", "-c", "exit 3"}, &syscall.ProcAttr{})
	hotplugtest.Must(t, err)
	hotplugtest.Eventually(t, "the end of a child", func() bool { return sys.EndedChild(unix.P_PID, pid) == pid })
	return pid
}
