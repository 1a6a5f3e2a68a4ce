package command

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/sys"
	"devspool/nodes"
)

// TestCommandEnviron shows that a command gets each variable once: its own first, then those
// of the event, then the inherited ones.
func TestCommandEnviron(t *testing.T) {
	t.Parallel()
	e := hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/x", "SUBSYSTEM=block", "HOME=/event", "MDEV=outer", "DEVSPOOL_COMMAND=0")
	inherited := []string{"PATH=/bin", "HOME=/root", "ACTION=remove", "DEVSPOOL_COMMAND=0", "odd", "MDEV=inherited", "HOM=x"}
	got := commandEnviron(inherited, &nodes.Plan{Event: e}, &nodes.Command{Node: "disk/sda"})
	for _, c := range []struct{ key, want string }{
		{"ACTION", "add"},
		{"DEVPATH", "/devices/x"},
		{"HOME", "/event"},
		{"PATH", "/bin"},
		{"HOM", "x"},
		{"MDEV", "disk/sda"},
		{"DEVSPOOL_COMMAND", "1"},
	} {
		var values []string
		for _, kv := range got {
			if value, is := strings.CutPrefix(kv, c.key+"="); is {
				values = append(values, value)
			}
		}
		if !slices.Equal(values, []string{c.want}) {
			t.Errorf("%s has the values %q, want %q once", c.key, values, c.want)
		}
	}
	if want := "SUBSYSTEM=block"; !slices.Contains(slices.Collect(e.Env()), want) || slices.Contains(slices.Collect(e.Env()), marker) {
		t.Errorf("the event was changed: %q", slices.Collect(e.Env()))
	}
	e = hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/x", "TAGS=:forged:")
	p := &nodes.Plan{Event: e, Tags: []nodes.Tag{{Name: "seat"}, {Name: "a.b"}, {Name: "seat"}, {Name: "eat"}}}
	if env := commandEnviron([]string{"TAGS=inherited"}, p, &nodes.Command{}); sys.Getenv(env, "TAGS") != ":seat:a.b:eat:" ||
		slices.Contains(env, "TAGS=:forged:") || slices.Contains(env, "TAGS=inherited") {
		t.Errorf("tags: %q", env)
	}
}

// TestKillGroupLeft shows that Kill also kills a command that has left its process group.
func TestKillGroupLeft(t *testing.T) {
	t.Parallel()
	sleep := exec.Command("sleep", "600")
	hotplugtest.Must(t, sleep.Start()) // it is in the group of this test
	r := &Running{PID: sleep.Process.Pid}
	r.Kill("it is enough")
	done := make(chan error, 1)
	go func() { done <- sleep.Wait() }()
	select {
	case <-done:
	case <-time.After(2 * time.Second):
		t.Error("a command outside its group survives")
		sleep.Process.Kill()
		<-done
	}
}

// TestKillLate shows that Kill does nothing when the end of the command was seen: its number
// may belong to another process.
func TestKillLate(t *testing.T) {
	t.Parallel()
	sleep := exec.Command("sleep", "600")
	sleep.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	hotplugtest.Must(t, sleep.Start())
	r := &Running{PID: sleep.Process.Pid, ended: true}
	r.Kill("")
	if r.killed != "" || !hotplugtest.Alive(sleep.Process.Pid) {
		t.Error("it was killed")
	}
	hotplugtest.Must(t, sleep.Process.Kill())
	sleep.Wait()
}

// TestNullInput shows that the standard input of a command is empty.
func TestNullInput(t *testing.T) {
	t.Parallel()
	fd, err := nullInput()
	hotplugtest.Must(t, err)
	defer unix.Close(fd)
	var buf [1]byte
	if n, err := unix.Read(fd, buf[:]); n != 0 || err != nil {
		t.Errorf("read %d bytes, error %v", n, err)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, error %v", flags, err)
	}
}
