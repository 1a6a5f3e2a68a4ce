package systemtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// scripted has a script run the program as the kernel would, and returns what /dev and
// the log of the commands hold when the program returns.
func (b *board) scripted(script string, e kerneltest.Event, attr *syscall.SysProcAttr) result {
	b.Helper()
	script = strings.ReplaceAll(script, "MDEV", b.program+" "+e.Subsystem())
	cmd := exec.Command("/bin/sh", "-c", script+"; code=$?; cd /dev; ls -d sd*; cat /etc/log 2>/dev/null; exit $code")
	cmd.Stdin = b.null
	cmd.Env = e.Environ(b.nextSeqnum())
	cmd.SysProcAttr = attr
	return b.finish(cmd)
}

// makeNull makes the node that a shell opens for what it runs in the background.
func (b *board) makeNull() {
	b.Helper()
	if err := unix.Mknod(b.dev+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		b.Fatal(err)
	}
}

// TestHelperOfScript has scripts and daemons call the helper with all that the kernel
// gives to one: all is done when it returns, whoever serves at that time.
func TestHelperOfScript(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	newPID := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	for _, c := range []struct {
		name, script string
		attr         *syscall.SysProcAttr
	}{
		{"a call", "MDEV", nil},
		{"a shell's last command", "sh -c 'exec MDEV'", nil},
		{"a parent with the number 2", "sh -c '[ $$ = 2 ] || exit 9; MDEV; exit $?'", newPID},
		{"a parent with the number 1", "MDEV", newPID},
		{"an orphan", "(sh -c 'MDEV; echo $? >/etc/code' &); until [ -s /etc/code ]; do sleep 0.1; done", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newJailedBoard(t, "sd[ab] 0:0 600 @sleep 0.3; echo $MDEV is done >>/etc/log\n")
			b.makeNull()
			r := b.scripted(c.script, b.plug(disk(0)), c.attr)
			b.must(r)
			if r.stdout != "sda\nsda is done\n" {
				t.Errorf("when it returned there was %q; stderr %q", r.stdout, r.stderr)
			}
			if b.served() {
				t.Error("it serves")
			}
			b.serve(b.plug(disk(2)))
			os.Remove(filepath.Dir(b.conf) + "/code")
			r = b.scripted(c.script, b.plug(disk(1)), c.attr)
			b.must(r)
			if !strings.Contains(r.stdout, "sdb\n") || !strings.HasSuffix(r.stdout, "sdb is done\n") {
				t.Errorf("beside a server, when it returned there was %q; stderr %q", r.stdout, r.stderr)
			}
		})
	}
	t.Run("a failure", func(t *testing.T) {
		b := newJailedBoard(t, "sda 0:0 600 =sub/\n")
		b.write(b.dev+"/sub", "in the way\n")
		if r := b.scripted("MDEV", b.plug(disk(0)), nil); r.code != exitEvent {
			t.Errorf("exit code %d, stderr %q", r.code, r.stderr)
		}
	})
	t.Run("time", func(t *testing.T) {
		b := newJailedBoard(t, "")
		start := time.Now()
		b.must(b.scripted("MDEV", b.plug(disk(0)), nil))
		if took := time.Since(start); took >= 2*time.Second {
			t.Errorf("it took %v: it stayed", took)
		}
	})
}

// TestHelperOfDaemon has BusyBox's uevent run the program for each event that the
// kernel sends.
func TestHelperOfDaemon(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	busybox := kerneltest.Need(t, "busybox")
	if exec.Command(busybox, "uevent", "--help").Run() != nil {
		kerneltest.Cannot(t, "busybox has no uevent")
	}
	b := newJailedBoard(t, "bench.* 0:0 600 @sleep 0.1; echo $MDEV >>/etc/log\n")
	in, err := kerneltest.NewInjector()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	daemon := exec.Command(busybox, "uevent", "/bin/sh", "-c",
		`case $DEVNAME in bench*) ;; *) exit ;; esac; `+ // strangers' disks reach every namespace
			b.program+` $SUBSYSTEM; [ -e /dev/$DEVNAME ] && grep -qx $DEVNAME /etc/log || echo $DEVNAME >>/etc/wrong; echo $DEVNAME >>/etc/right`)
	daemon.Stdin, daemon.Stdout, daemon.Stderr = b.null, b.null, b.null
	if err := b.start(daemon); err != nil {
		t.Fatal(err)
	}
	defer daemon.Wait()
	defer daemon.Process.Kill()
	etc := filepath.Dir(b.conf)
	kerneltest.Until(t, patience, "the daemon to listen", func() bool {
		sockets, _ := kerneltest.UeventSockets(strconv.Itoa(daemon.Process.Pid))
		return slices.ContainsFunc(sockets, func(s kerneltest.UeventSocket) bool { return int(s.Port) == daemon.Process.Pid })
	})
	const n = 6
	for i := range n {
		d := kerneltest.Device{Devpath: fmt.Sprint("/devices/bench", i), Subsystem: "bench", Devname: fmt.Sprint("bench", i), Major: 240, Minor: uint32(i)}
		if err := in.Inject(b.plug(d)); err != nil {
			kerneltest.Cannot(t, "%v", err)
		}
	}
	kerneltest.Until(t, patience, "all events", func() bool {
		text, _ := os.ReadFile(etc + "/right")
		return strings.Count(string(text), "\n") >= n
	})
	if wrong, err := os.ReadFile(etc + "/wrong"); err == nil {
		t.Errorf("when it returned, not all was done for %q", wrong)
	}
}
