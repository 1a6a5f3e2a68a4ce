package hotplug

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/sys"
)

// TestBury shows which of the children that have ended lose their status: those that
// are nobody's command.
func TestBury(t *testing.T) {
	if adopts() {
		t.Error("orphans are said to fall to this process")
	}
	pid, err := syscall.ForkExec(shell, []string{shell, "-c", "exit 3"}, &syscall.ProcAttr{})
	hotplugtest.Must(t, err)
	r := NewRoad(nil, nil, "", nil, 1)
	command := &started{pid: pid}
	r.active[command] = true
	hotplugtest.Eventually(t, "the end of a child", func() bool {
		dead := sys.EndedChild(unix.P_ALL, 0)
		if dead != 0 && dead != pid { // another test's
			unix.Wait4(dead, nil, 0, nil)
		}
		return dead == pid
	})
	if r.bury(pid) {
		t.Error("a command is buried")
	}
	delete(r.active, command)
	if sys.EndedChild(unix.P_ALL, 0) != pid || !r.bury(pid) {
		t.Error("an orphan is not buried")
	}
	if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.ECHILD {
		t.Errorf("it is still there: %v", err)
	}
}
