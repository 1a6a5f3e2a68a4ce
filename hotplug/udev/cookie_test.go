package udev

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
	"devspool/hotplug/sys"
)

// TestCookieOf: which events have a cookie.
func TestCookieOf(t *testing.T) {
	for text, want := range map[string]uint32{"": 0, "x": 0, "-1": 0, "4294967296": 0, "4294967295": 1<<32 - 1, "6357034": 6357034} {
		if got := cookieOf(disk(t, "change", "DM_COOKIE="+text)); got != want {
			t.Errorf("the cookie of %q is %#x, want %#x", text, got, want)
		}
	}
	if got := cookieOf(hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/x", "SUBSYSTEM=usb", "DM_COOKIE=4294901760")); got != 0 {
		t.Errorf("an event that is of no block device has cookie %#x", got)
	}
}

// ioctl is what libdevmapper does before it gives a cookie to an ioctl.
func ioctl(t *testing.T, cookie uint32) {
	t.Helper()
	id, err := sys.Semget(int32(cookie))
	hotplugtest.Must(t, err)
	hotplugtest.Must(t, sys.Semop(id, 1))
}

// dmDesk gives the test dmsetup, which believes that this kernel has device-mapper, and
// semaphores of its own.
func dmDesk(t *testing.T) (u *Udev, dmsetup func(args ...string) *exec.Cmd) {
	program := kerneltest.Need(t, "dmsetup")
	shim := compile(t, "device-mapper.c", "-shared", "-fPIC", "-ldl")
	runtime.LockOSThread() // for ever: the process ends with the test
	hotplugtest.Must(t, unix.Unshare(unix.CLONE_NEWIPC))
	u = onRun(t).Udev
	hotplugtest.Must(t, os.Mkdir("/dev/mapper", 0o755))
	hotplugtest.Must(t, unix.Mknod("/dev/mapper/control", unix.S_IFCHR|0o600, int(unix.Mkdev(10, 236))))
	for name, text := range map[string]string{"devices": "Character devices:\n 10 misc\n\nBlock devices:\n253 device-mapper\n", "misc": "236 device-mapper\n"} {
		hotplugtest.WriteFile(t, "/run/"+name, text)
		hotplugtest.Must(t, unix.Mount("/run/"+name, "/proc/"+name, "", unix.MS_BIND, ""))
	}
	return u, func(args ...string) *exec.Cmd {
		cmd := exec.Command(program, args...)
		cmd.Env = append(os.Environ(), "LD_PRELOAD="+shim)
		return cmd
	}
}

// newCookie returns a cookie of dmsetup's, and the value of DM_COOKIE with flags.
func newCookie(t *testing.T, dmsetup func(args ...string) *exec.Cmd) (key uint32, name, variable string) {
	t.Helper()
	out, err := dmsetup("udevcreatecookie").CombinedOutput()
	hotplugtest.Must(t, err)
	name = strings.TrimSpace(string(out))
	n, err := strconv.ParseUint(name, 0, 32)
	if err != nil {
		t.Fatalf("dmsetup made the cookie %q: %v", out, err)
	}
	return uint32(n), name, "DM_COOKIE=" + strconv.FormatUint(n&0xffff|0x0060_0000, 10)
}

// waits starts dmsetup waiting for the events of a cookie, and returns what tells its end.
func waits(t *testing.T, dmsetup func(args ...string) *exec.Cmd, name string) (ended chan error) {
	t.Helper()
	cmd := dmsetup("udevreleasecookie", name)
	cmd.Stderr = os.Stderr
	hotplugtest.Must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill() })
	ended = make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	hotplugtest.Eventually(t, "dmsetup waits", func() bool { ids, _ := waitedCookies(); return len(ids) > 0 })
	return ended
}

func hasEnded(t *testing.T, ended chan error) {
	t.Helper()
	select {
	case err := <-ended:
		hotplugtest.Must(t, err)
	case <-time.After(hotplugtest.Patience):
		t.Fatal("dmsetup still waits")
	}
}

// TestCookie: dmsetup waits until both events of its cookie are at their end, the late one too.
func TestCookie(t *testing.T) {
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	u, dmsetup := dmDesk(t)
	key, name, variable := newCookie(t, dmsetup)
	ioctl(t, key)
	ioctl(t, key)
	ended := waits(t, dmsetup, name)
	u.Done(disk(t, "change", variable), Device{})
	select {
	case err := <-ended:
		t.Fatalf("dmsetup did not wait for the second event: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	u.Done(disk(t, "remove", variable, "UEVENT_LATE=1"), Device{})
	hasEnded(t, ended)
	u.Done(disk(t, "change", variable), Device{}) // nobody waits any more
	u.Done(disk(t, "change", "DM_COOKIE=0"), Device{})
}

// TestRecoverCookies: what a dead loop did not complete the next one does, once nothing is
// under way.
func TestRecoverCookies(t *testing.T) {
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	u, dmsetup := dmDesk(t)
	idle, busy := func() bool { return true }, func() bool { return false }
	key, name, _ := newCookie(t, dmsetup)
	ioctl(t, key)
	ioctl(t, key)
	if u.RecoverCookies(idle) {
		t.Error("it has done with a cookie that nobody waits for yet")
	}
	ended := waits(t, dmsetup, name)
	if ids, _ := waitedCookies(); u.RecoverCookies(busy) || len(ids) != 1 {
		t.Error("it did something while events were under way")
	}
	if u.RecoverCookies(idle) {
		t.Error("it has done before it has found none")
	}
	hasEnded(t, ended)
	if !u.RecoverCookies(idle) {
		t.Error("it has not done with no cookie")
	}
}
