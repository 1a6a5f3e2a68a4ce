package systemtest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
)

// port is a device of a bus, without numbers.
func port(n int, attrs map[string]string) kerneltest.Device {
	name := "1-" + strconv.Itoa(n)
	return kerneltest.Device{Devpath: "/devices/pci0/usb1/" + name, Subsystem: "usb", Bus: true,
		Extra: []string{"PRODUCT=46d/c52b/" + strconv.Itoa(n)}, Attrs: attrs}
}

// TestSetAttributes has a rule set attributes in each way to run: by a scan, a loop, a helper. Commands
// of the device come after it. What cannot be set is told once, and fails a scan.
func TestSetAttributes(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "-attr=authorized:1;attrmode=authorized:664;SUBSYSTEM=usb;.* 0:6 660 @cat ../sys$DEVPATH/authorized >>../seen\n")
	says := func(n int, want string) {
		t.Helper()
		file := filepath.Join(b.tree.Dir, port(n, nil).Devpath, "authorized")
		kerneltest.Until(t, patience, "the attribute of port "+strconv.Itoa(n), func() bool {
			var st unix.Stat_t
			hotplugtest.Must(t, unix.Stat(file, &st))
			return b.read(file) == want && (want == "0\n" || st.Mode&0o7777 == 0o664 && st.Gid == 6)
		})
	}
	off := map[string]string{"authorized": "0\n"}
	b.add(port(1, off))
	if r := b.run("-sn"); r.code != exitDone {
		t.Errorf("dry run: %+v", r)
	}
	says(1, "0\n")
	if r := b.run("--plan", port(1, nil).Devpath); !strings.Contains(r.stdout, "  set authorized to 1") || !strings.Contains(r.stdout, "  give authorized 0664 0:6") {
		t.Errorf("--plan: %s", r.stdout)
	}
	b.scan()
	says(1, "1\n")
	b.tell(b.plug(port(2, off)))
	says(2, "1\n")
	l := b.startLoop()
	l.send(b.plug(port(3, off)))
	says(3, "1\n")
	b.must(b.run("settle", "--quiet", "0"))
	if got := b.read(b.dir + "/seen"); strings.Contains(got, "0") || strings.Count(got, "1\n") < 3 {
		t.Errorf("commands saw %q", got)
	}
	// Another device has come meanwhile: the event of the old one is not for it.
	late := b.plug(port(4, off))
	b.unplug(port(4, nil))
	other := port(4, off)
	other.Extra = []string{"PRODUCT=bad/bad/1"}
	b.add(other)
	l.send(late)
	b.must(b.run("settle", "--quiet", "0"))
	says(4, "0\n")
	l.send(other.Event("change")) // no event on which a device comes
	b.must(b.run("settle", "--quiet", "0"))
	says(4, "0\n")

	l.send(b.plug(port(5, nil))) // without the attribute
	l.send(port(5, nil).Event("bind"))
	l.send(port(5, nil).Event("bind"))
	b.must(b.run("settle", "--quiet", "0"))
	if n := strings.Count(l.stderr.String(), "set authorized to 1: no such file or directory"); n != 1 || !strings.Contains(l.stderr.String(), b.conf+":1") {
		t.Errorf("told %d times:\n%s", n, l.stderr)
	}
	if r := b.run("-s"); r.code != exitEvent {
		t.Errorf("the scan's exit code is %d: %s", r.code, r.stderr)
	}
	l.stop()
}

// TestRealAttribute sets an attribute of a real device, that the kernel brings.
func TestRealAttribute(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b, _ := onRealSys(t)
	control := loopControl(b)
	n := loopDevice + 7
	name := "loop" + strconv.Itoa(n)
	b.configure("attr=queue/read_ahead_kb:64;attrmode=queue/rotational:600;attr=queue/nothing:1;attr=events_poll_msecs:2000;attr=bdi/read_ahead_kb:32;" + name + " 0:6 640\n")
	l := b.startLoop()
	control(unix.LOOP_CTL_ADD, n)
	defer control(unix.LOOP_CTL_REMOVE, n)
	kerneltest.Until(t, patience, "what cannot be set is told", func() bool {
		return strings.Contains(l.stderr.String(), "set bdi/read_ahead_kb to 32: not a directory")
	})
	dir := "/sys/devices/virtual/block/" + name + "/queue/"
	var st unix.Stat_t
	hotplugtest.Must(t, unix.Stat(dir+"rotational", &st))
	if got, err := os.ReadFile(dir + "read_ahead_kb"); string(got) != "64\n" || st.Mode&0o7777 != 0o600 || st.Gid != 6 {
		t.Errorf("read_ahead_kb is %q, %v; rotational has mode %o, group %d", got, err, st.Mode, st.Gid)
	}
	for _, want := range []string{
		"set queue/nothing to 1: no such file or directory",
		"set events_poll_msecs to 2000: no such device", // a loop device has no medium to ask for
	} {
		if !strings.Contains(l.stderr.String(), want) {
			t.Errorf("no %q in\n%s", want, l.stderr)
		}
	}
}
