package control

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
	"devspool/hotplug/log"
)

// fakeTunables collects the changes of Tunables.
type fakeTunables struct{ hotplugtest.Collected[string] }

func (k *fakeTunables) Pause()               { k.Add("stop") }
func (k *fakeTunables) Resume()              { k.Add("start") }
func (k *fakeTunables) SetLevel(l log.Level) { k.Add("log " + l.String()) }
func (k *fakeTunables) SetJobs(n int)        { k.Add(fmt.Sprint("children ", n)) }
func (k *fakeTunables) SetRunnable(n int)    { k.Add(fmt.Sprint("running ", n)) }
func (k *fakeTunables) Reload() error        { k.Add("reload"); return errors.New("a broken config") }

// udevMessage returns a message as udevcontrol sends it.
func udevMessage(version string, kind uint32, n int32) []byte {
	msg := make([]byte, udevSize)
	copy(msg, "udevd_"+version)
	binary.NativeEndian.PutUint32(msg[32:], kind)
	binary.NativeEndian.PutUint32(msg[36:], uint32(n))
	return msg
}

// TestParseUdevControl shows what each message changes, and which are refused.
func TestParseUdevControl(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		msg  []byte
		want string // the change; "" for an error
		err  error
	}{
		{"stop", udevMessage("085", 1, 0), "stop", nil},
		{"start", udevMessage("085", 2, 0), "start", nil},
		{"log", udevMessage("085", 3, 7), "log info", nil},
		{"log level 0", udevMessage("085", 3, 0), "log error", nil},
		{"log level 4", udevMessage("085", 3, 4), "log warning", nil},
		{"children", udevMessage("085", 4, 1), "children 1", nil},
		{"many children", udevMessage("085", 4, 1<<31-1), "children 2147483647", nil},
		{"running", udevMessage("085", 5, 3), "running 3", nil},
		{"reload", udevMessage("085", 6, 0), "reload", nil},
		{"another version", udevMessage("1", 1, 0), "stop", nil},
		{"a long version", udevMessage(strings.Repeat("9", 26), 1, 0), "stop", nil},
		{"no version", udevMessage("", 1, 0), "stop", nil},
		{"a number for nothing", udevMessage("085", 1, -1), "stop", nil},

		{"nothing", nil, "", errUdevSize},
		{"short", udevMessage("085", 1, 0)[:291], "", errUdevSize},
		{"long", append(udevMessage("085", 1, 0), 0), "", errUdevSize},
		{"no magic", make([]byte, 292), "", errUdevMagic},
		{"another magic", append([]byte("udev_085"), udevMessage("", 1, 0)[8:]...), "", errUdevMagic},
		{"type 0", udevMessage("085", 0, 0), "", errUdevType},
		{"type 7", udevMessage("085", 7, 0), "", errUdevType},
		{"type -1", udevMessage("085", 1<<32-1, 0), "", errUdevType},
		{"log -1", udevMessage("085", 3, -1), "", errUdevNumber},
		{"log 8", udevMessage("085", 3, 8), "", errUdevNumber},
		{"no children", udevMessage("085", 4, 0), "", errUdevNumber},
		{"negative children", udevMessage("085", 4, -1<<31), "", errUdevNumber},
		{"none running", udevMessage("085", 5, 0), "", errUdevNumber},
	} {
		var k fakeTunables
		change, err := parseUdevControl(c.msg)
		if err == nil {
			change(&k)
		}
		if err != c.err || err == nil && !slices.Equal(k.List(), []string{c.want}) {
			t.Errorf("%s: %q, error %v; want %q, %v", c.name, k.List(), err, c.want, c.err)
		}
	}
}

// FuzzParseUdevControl shows that a message makes one change, with a number in its range, or is
// refused.
func FuzzParseUdevControl(f *testing.F) {
	for kind := range uint32(8) {
		f.Add(udevMessage("085", kind, 1))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, msg []byte) {
		change, err := parseUdevControl(msg)
		if err != nil {
			if change != nil {
				t.Error("a change and an error")
			}
			return
		}
		var k fakeTunables
		change(&k)
		did := k.List()
		if len(did) != 1 || strings.Contains(did[0], "-") || strings.HasSuffix(did[0], "n 0") {
			t.Errorf("%q did %q", msg, did)
		}
	})
}

// udevControlled opens the socket in a network namespace of the test's own, where no other process has
// its address, and returns a function that sends to it.
func udevControlled(t *testing.T, k Tunables, logger *log.Logger) (*udevControl, func(msg []byte)) {
	t.Helper()
	kerneltest.OwnNetwork(t)
	c, err := openUdevControl(k, logger)
	hotplugtest.Must(t, err)
	t.Cleanup(func() { c.file.Close() })
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	hotplugtest.Must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return c, func(msg []byte) {
		t.Helper()
		hotplugtest.Must(t, unix.Sendto(fd, msg, 0, &unix.SockaddrUnix{Name: udevControlAddress}))
	}
}

// TestUdevControl sends messages that are obeyed, and others that are refused and logged once.
func TestUdevControl(t *testing.T) {
	k, logger := &fakeTunables{}, hotplugtest.NewLog(t)
	_, send := udevControlled(t, k, logger.Logger)
	send(udevMessage("085", udevStop, 0))
	send(udevMessage("085", udevLog, 7))
	for range 3 {
		send(udevMessage("085", 9, 0))
		send([]byte("x"))
		send(append(udevMessage("085", udevStop, 0), 0))
	}
	send(udevMessage("085", udevChildren, 12))
	send(udevMessage("085", udevReload, 0))
	send(udevMessage("085", udevStart, 0))
	want := []string{"stop", "log info", "children 12", "reload", "start"}
	hotplugtest.Eventually(t, "the last message", func() bool { return len(k.List()) == len(want) })
	if got := k.List(); !slices.Equal(got, want) {
		t.Errorf("done: %q, want %q", got, want)
	}
	if got := logger.Lines(); !slices.Equal(got, []string{
		"warning: refused a message at " + udevControlAddress + ": " + errUdevType.Error(),
		"warning: refused a message at " + udevControlAddress + ": " + errUdevSize.Error(),
	}) {
		t.Errorf("it says %q", got)
	}
}

// TestUdevControlOfOthers sends as another user than root.
func TestUdevControlOfOthers(t *testing.T) {
	k, logger := &fakeTunables{}, hotplugtest.NewLog(t)
	_, send := udevControlled(t, k, logger.Logger)
	for _, uid := range []int{65534, 65534, 0} {
		// This changes the user of the thread alone: the test is locked to it, and it is not used again.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), 0); errno != 0 {
			t.Fatal(errno)
		}
		send(udevMessage("085", udevStop, 0))
	}
	hotplugtest.Eventually(t, "root's message", func() bool { return len(k.List()) > 0 })
	if got := k.List(); len(got) != 1 {
		t.Errorf("done: %q", got)
	}
	if got := logger.Lines(); len(got) != 1 || !strings.Contains(got[0], errUdevSender.Error()) {
		t.Errorf("it says %q", got)
	}
}

// TestUdevControlTaken is about an address that another socket has, and then has no more.
func TestUdevControlTaken(t *testing.T) {
	logger := hotplugtest.NewLog(t).Logger
	c, _ := udevControlled(t, &fakeTunables{}, logger)
	_, err := openUdevControl(&fakeTunables{}, logger)
	if err == nil || !strings.Contains(err.Error(), udevControlAddress) || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("error %v", err)
	}
	c.file.Close()
	hotplugtest.Eventually(t, "the address", func() bool {
		c, err = openUdevControl(&fakeTunables{}, logger)
		return err == nil
	})
	c.file.Close()
}
