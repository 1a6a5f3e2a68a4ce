package systemtest

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
)

// manager is a service manager that listens at NOTIFY_SOCKET.
type manager struct {
	*board
	socket *net.UnixConn
	cmd    *exec.Cmd
	stderr *transcript
}

// manage starts a loop that is to notify a manager at an address, with further variables in its
// environment.
func (b *board) manage(address string, vars []string, args ...string) *manager {
	b.Helper()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	hotplugtest.Must(b.T, err)
	m := &manager{board: b, socket: socket, cmd: b.command(append([]string{"-f"}, args...)...), stderr: new(transcript)}
	m.cmd.Env = append(append(os.Environ(), "NOTIFY_SOCKET="+address), vars...)
	m.cmd.Stderr = m.stderr
	hotplugtest.Must(b.T, b.start(m.cmd))
	b.Cleanup(func() { _ = m.cmd.Process.Kill(); _ = m.cmd.Wait(); socket.Close() })
	return m
}

// next returns the next state, or "" where none comes in time.
func (m *manager) next(within time.Duration) string {
	m.Helper()
	buf := make([]byte, 4096)
	_ = m.socket.SetReadDeadline(time.Now().Add(within))
	n, _ := m.socket.Read(buf)
	return string(buf[:n])
}

// expect fails the test unless the next state is, or begins with, want.
func (m *manager) expect(want string) string {
	m.Helper()
	got := m.next(patience)
	if !strings.HasPrefix(got, want) {
		m.Fatalf("the manager is told %q, want %q; the log says\n%s", got, want, m.stderr)
	}
	return got
}

// TestNotify has a loop tell a service manager when it is ready, that is when the commands of its scan
// have ended, when it reads its config anew, and when it ends. Commands cannot speak for it.
func TestNotify(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	for _, abstract := range []bool{false, true} {
		b := newBoard(t, "")
		b.configure("sda 0:0 660 @env >../env; until test -e ../go; do sleep 0.05; done\n")
		b.add(disk(0))
		address := b.dir + "/notify"
		if abstract {
			address = "@devspool-test"
		}
		m := b.manage(address, nil)
		m.expect("STATUS=scanning /sys")
		kerneltest.Until(t, patience, "the command", func() bool { _, err := os.Stat(b.dir + "/env"); return err == nil })
		b.configure("# too early to tell\n")
		if got := m.next(time.Second); got != "" {
			t.Errorf("before its commands have ended the loop says %q", got)
		}
		b.write(b.dir+"/go", "")
		m.expect("READY=1\nSTATUS=config: " + b.conf)
		if strings.Contains(b.read(b.dir+"/env"), "NOTIFY_SOCKET") {
			t.Error("a command has NOTIFY_SOCKET")
		}
		b.configure("bad\n")
		got := m.expect("RELOADING=1\nMONOTONIC_USEC=")
		if us, err := strconv.Atoi(got[strings.LastIndexByte(got, '=')+1:]); err != nil || us <= 0 {
			t.Errorf("it says %q", got)
		}
		m.expect("READY=1\nSTATUS=config: " + b.conf + ", not as it is now: ")
		b.configure("sda 0:0 600\n")
		m.expect("RELOADING=1\n")
		m.expect("READY=1\nSTATUS=config: " + b.conf)
		_ = m.cmd.Process.Signal(syscall.SIGTERM)
		m.expect("STOPPING=1")
		if got := m.next(200 * time.Millisecond); got != "" {
			t.Errorf("without a watchdog it says %q", got)
		}
	}
}

// TestNotifyEarly has a loop be ready before the commands of its scan have ended.
func TestNotifyEarly(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	b.configure("sda 0:0 640 @until test -e ../go; do sleep 0.05; done\n")
	b.add(disk(0))
	m := b.manage(b.dir+"/notify", nil, "--ready-early")
	m.expect("STATUS=")
	m.expect("READY=1\n")
	b.has("sda block 0640 0:0 8:0")
	b.write(b.dir+"/go", "")
}

// TestWatchdog has a loop give signs of life at half of the time, and none when its scheduler hangs:
// here since another process keeps the lock on /dev.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	m := b.manage(b.dir+"/notify", []string{"WATCHDOG_USEC=400000"})
	m.expect("STATUS=")
	since, alive := time.Now(), 0
	for time.Since(since) < 2*time.Second {
		if m.next(time.Second) == "WATCHDOG=1" {
			alive++
		}
	}
	if alive < 5 || alive > 11 {
		t.Errorf("%d signs of life in two seconds, want 10", alive)
	}
	release := b.lockDev()
	b.add(disk(0))
	in, err := kerneltest.NewInjector()
	hotplugtest.Must(t, err)
	defer in.Close()
	if err := in.Inject(disk(0).Event("add")); err != nil {
		kerneltest.Cannot(t, "%v", err)
	}
	time.Sleep(1500 * time.Millisecond)
	for m.next(time.Millisecond) != "" {
	}
	if got := m.next(time.Second); got != "" {
		t.Errorf("while it hangs it says %q", got)
	}
	release()
	m.expect("WATCHDOG=1")

	other := newBoard(t, "").manage("@devspool-other", []string{"WATCHDOG_USEC=100000", "WATCHDOG_PID=1"})
	other.expect("STATUS=")
	other.expect("READY=1")
	if got := other.next(time.Second); got != "" {
		t.Errorf("for another process's watchdog it says %q", got)
	}
}

// lockDev takes the lock on /dev, as another process would, until release is called.
func (b *board) lockDev() (release func()) {
	b.Helper()
	file, err := os.Open(b.dev + "/.devspool/lock")
	hotplugtest.Must(b.T, err)
	hotplugtest.Must(b.T, syscall.Flock(int(file.Fd()), syscall.LOCK_EX))
	return func() { file.Close() }
}
