package udev

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
	"devspool/hotplug/uevent"
)

// onRun opens a Udev at /run/udev in a namespace of the test's own.
func onRun(t *testing.T) turns {
	t.Helper()
	tmpfs(t, "/run")
	u, err := New(Options{Run: DefaultRun, Sys: "/sys", Log: hotplugtest.NewLog(t).Logger, Manager: &hotplugtest.Manager{}})
	hotplugtest.Must(t, err)
	t.Cleanup(u.Close)
	return turns{u}
}

// turns is a Udev whose turns are of one event each.
type turns struct{ *Udev }

// Done does an event, and ends the turn.
func (u turns) Done(e *uevent.Event, d Device) {
	u.Udev.Done(e, d)
	u.Idle()
}

// client is a program that prints events.
type client struct {
	*testing.T
	cmd *exec.Cmd
	out *bufio.Reader
}

// start starts a client, and returns when it has said line.
func start(t *testing.T, line, program string, args ...string) *client {
	t.Helper()
	cmd := exec.Command(program, args...)
	out, err := cmd.StdoutPipe()
	hotplugtest.Must(t, err)
	cmd.Stderr = os.Stderr
	hotplugtest.Must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill() })
	c := &client{t, cmd, bufio.NewReader(out)}
	text, err := c.out.ReadString('\n')
	if err != nil || text != line+"\n" {
		t.Fatalf("%s says %q: %v", program, text, err)
	}
	return c
}

// rest returns what the client prints until its end.
func (c *client) rest() string {
	c.Helper()
	text, err := io.ReadAll(c.out)
	hotplugtest.Must(c.T, err)
	if err := c.cmd.Wait(); err != nil {
		c.Errorf("%v: %v", c.cmd.Args, err)
	}
	return string(text)
}

// numbered is the n-th of many events, which belong to four kinds of devices in turn.
func numberedEvent(t *testing.T, n int) (*uevent.Event, Device) {
	kinds := [...]string{"SUBSYSTEM=block DEVTYPE=disk", "SUBSYSTEM=block DEVTYPE=partition", "SUBSYSTEM=usb DEVTYPE=usb_device", "SUBSYSTEM=input"}
	e := hotplugtest.NewEvent(t, append(strings.Fields(kinds[n%4]), "ACTION=change", fmt.Sprintf("DEVPATH=/devices/virtual/x/x%d", n),
		fmt.Sprintf("SEQNUM=%d", 1000+n), fmt.Sprintf("N=%d", n))...)
	d := Device{}
	if n%8 == 3 {
		d.Tags = []string{"seat", "uaccess"}
	}
	return e, d
}

// TestMonitors has stock libudev's clients receive 5,000 events, and with filters, which
// are the kernel's work, some of them.
func TestMonitors(t *testing.T) {
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	const events = 5000
	monitor := compile(t, "monitor.c", "-ludev")
	u := onRun(t)
	filters := []struct {
		args string
		want func(n int) bool
	}{
		{"", func(int) bool { return true }},
		{"block", func(n int) bool { return n%4 < 2 }},
		{"block/partition", func(n int) bool { return n%4 == 1 }},
		{"usb/usb_device input", func(n int) bool { return n%4 >= 2 }},
		{"tag=uaccess", func(n int) bool { return n%8 == 3 }},
		{"input tag=seat", func(n int) bool { return n%8 == 3 }},
	}
	clients := make([]*client, len(filters))
	wants := make([]strings.Builder, len(filters))
	for i, f := range filters {
		count := 0
		for n := range events {
			if f.want(n) {
				count++
				fmt.Fprintf(&wants[i], "change %s %d 1 - %d - -\n", [...]string{"block", "block", "usb", "input"}[n%4], 1000+n, n)
			}
		}
		clients[i] = start(t, "ready", monitor, append([]string{fmt.Sprint(count)}, strings.Fields(f.args)...)...)
	}
	for n := range events {
		u.Done(numberedEvent(t, n))
	}
	for i, c := range clients {
		if got := c.rest(); got != wants[i].String() {
			t.Errorf("filter %q: %d lines instead of %d, the first\n%.300s", filters[i].args, strings.Count(got, "\n"), strings.Count(wants[i].String(), "\n"), got)
		}
	}
}

// TestMessages has a client read what is particular of a message.
func TestMessages(t *testing.T) {
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	monitor := compile(t, "monitor.c", "-ludev")
	u := onRun(t)
	c := start(t, "ready", monitor, "7")
	send := func(d Device, vars ...string) { u.Done(hotplugtest.NewEvent(t, vars...), d) }
	send(Device{Properties: []string{"X=y z"}}, "ACTION=add", "DEVPATH=/devices/x", "SUBSYSTEM=mem", "MAJOR=1", "MINOR=3", "DEVNAME=null", "SEQNUM=5",
		"SYNTH_UUID=a-b", "PATH=/bin")
	send(Device{Keep: true}, "ACTION=remove", "DEVPATH=/devices/x", "SUBSYSTEM=mem", "MAJOR=1", "MINOR=3", "DEVNAME=null", "SEQNUM=6")
	send(Device{Node: "other/null"}, "ACTION=add", "DEVPATH=/devices/x", "SUBSYSTEM=mem", "MAJOR=1", "MINOR=3", "DEVNAME=null", "SEQNUM=7", "X=a\nACTION=remove\nN=forged")
	send(Device{}, "ACTION=offline", "DEVPATH=/devices/virtual/input/i", "SUBSYSTEM=input", "SEQNUM=8", "X="+strings.Repeat("x", 7900), "N="+strings.Repeat("n", 900))
	send(Device{}, "ACTION=strange", "DEVPATH=/devices/x", "SUBSYSTEM=mem", "SEQNUM=9") // udevd knows it no more than we
	send(Device{}, "ACTION=add", "DEVPATH=/devices/x", "SEQNUM=10")
	send(Device{Properties: []string{"X=2"}}, "ACTION=bind", "DEVPATH=/devices/x", "SUBSYSTEM=usb", "SEQNUM=11", "X=1")
	send(Device{}, "ACTION=unbind", "DEVPATH=/devices/x", "SUBSYSTEM=usb", "SEQNUM=12", "X=1", "X=2")
	send(Device{Tags: []string{"a"}, Links: []string{"b c", "d"}}, "ACTION=change", "DEVPATH=/devices/x", "SUBSYSTEM=usb", "SEQNUM=13", "N=1", "TAGS=:forged:")
	want := "add mem 5 1 /dev/null - y z a-b\n" +
		"remove mem 6 1 /dev/null - y z -\n" +
		"add mem 7 1 /dev/other/null - a -\n" +
		"offline input 8 1 - - " + strings.Repeat("x", 7900) + " -\n" +
		"bind usb 11 1 - - 2 -\n" +
		"unbind usb 12 1 - - 2 -\n" +
		"change usb 13 1 - 1 - -\n"
	if got := c.rest(); got != want {
		t.Errorf("received\n%s\nwant\n%s", strings.ReplaceAll(got, "xxxxxxxx", ""), strings.ReplaceAll(want, "xxxxxxxx", ""))
	}
}

// TestScanHasNumber: an event without a SEQNUM, which libudev drops, has the kernel's last.
func TestScanHasNumber(t *testing.T) {
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	u := onRun(t)
	c := start(t, "ready", compile(t, "monitor.c", "-ludev"), "1")
	u.Done(hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/x", "SUBSYSTEM=mem"), Device{})
	if got := strings.Fields(c.rest()); len(got) < 3 || got[2] == "0" {
		t.Errorf("received %q", got)
	}
}

// TestUdevadmMonitor compares what udevadm monitor prints.
func TestUdevadmMonitor(t *testing.T) {
	udevadm := kerneltest.Need(t, "udevadm")
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	u := onRun(t)
	var out strings.Builder // it prints all at its end, to what is no terminal
	cmd := exec.Command(udevadm, "monitor", "-u", "-p")
	cmd.Stdout = &out
	hotplugtest.Must(t, cmd.Start())
	hotplugtest.Eventually(t, "a socket of group 2", func() bool { return kerneltest.HasListener(2) })
	u.Done(disk(t, "add", "DISKSEQ=4"), Device{Links: []string{"disk/by-id/a", "b"}, Priority: 5, Properties: []string{"ID_BUS=usb", "DEVTYPE=odd"}, Tags: []string{"systemd", "x"}})
	hotplugtest.Eventually(t, "udevadm to read all", func() bool { return kerneltest.HasRead(2) })
	cmd.Process.Signal(unix.SIGINT)
	hotplugtest.Must(t, cmd.Wait())
	text := strings.ReplaceAll(out.String(), ":x:systemd:", ":systemd:x:") // the order is chance
	text = strings.ReplaceAll(text, "/dev/b /dev/disk/by-id/a", "/dev/disk/by-id/a /dev/b")
	for _, line := range []string{"ACTION=add", "DEVPATH=/devices/virtual/block/x", "SUBSYSTEM=block", "DEVNAME=/dev/x", "DEVTYPE=odd", "MAJOR=8", "MINOR=0",
		"SEQNUM=7", "DISKSEQ=4", "ID_BUS=usb", "DEVLINKS=/dev/disk/by-id/a /dev/b", "TAGS=:systemd:x:", "CURRENT_TAGS=:systemd:x:"} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("without %q:\n%s", line, text)
		}
	}
	if !strings.Contains(text, "\nUSEC_INITIALIZED=") || !strings.Contains(text, "(block)\n") {
		t.Errorf("printed\n%s", text)
	}
}

// TestUdevadmInfo has udevadm and libudev read the database.
func TestUdevadmInfo(t *testing.T) {
	udevadm := kerneltest.Need(t, "udevadm")
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	u := onRun(t)
	null := []string{"ACTION=add", "DEVPATH=/devices/virtual/mem/null", "SUBSYSTEM=mem", "MAJOR=1", "MINOR=3", "DEVNAME=null"}
	lo := []string{"ACTION=add", "DEVPATH=/devices/virtual/net/lo", "SUBSYSTEM=net", "IFINDEX=1", "INTERFACE=lo"}
	zero := []string{"ACTION=add", "DEVPATH=/devices/virtual/mem/zero", "SUBSYSTEM=mem", "MAJOR=1", "MINOR=5", "DEVNAME=zero"}
	fuse := []string{"ACTION=add", "DEVPATH=/bus/platform", "SUBSYSTEM=subsystem"}
	u.Done(hotplugtest.NewEvent(t, null...), Device{Links: []string{"a/b", "c"}, Priority: -3, Properties: []string{"X=1 2", "ID_Y="}, Tags: []string{"seat", "old"}})
	u.Done(hotplugtest.NewEvent(t, null...), Device{Links: []string{"a/b", "c"}, Priority: -3, Properties: []string{"X=1 2", "ID_Y="}, Tags: []string{"seat"}})
	u.Done(hotplugtest.NewEvent(t, lo...), Device{Properties: []string{"X=net"}})
	u.Done(hotplugtest.NewEvent(t, zero...), Device{})
	u.Done(hotplugtest.NewEvent(t, fuse...), Device{Tags: []string{"seat"}})

	info := output(t, udevadm, "info", "-q", "all", "-n", "null")
	info = strings.ReplaceAll(strings.ReplaceAll(info, "/dev/c /dev/a/b", "/dev/a/b /dev/c"), ":old:seat:", ":seat:old:") // its order is chance
	for _, line := range []string{"P: /devices/virtual/mem/null", "N: null", "L: -3", "S: a/b", "S: c", "E: DEVLINKS=/dev/a/b /dev/c", "E: X=1 2",
		"E: TAGS=:seat:old:", "E: CURRENT_TAGS=:seat:"} {
		if !strings.Contains(info, line+"\n") {
			t.Errorf("without %q:\n%s", line, info)
		}
	}
	if !strings.Contains(info, "E: USEC_INITIALIZED=") {
		t.Errorf("no time in\n%s", info)
	}
	if got := output(t, udevadm, "info", "-q", "property", "--property=X", "--value", "-p", "/sys/class/net/lo"); got != "net\n" {
		t.Errorf("lo has %q", got)
	}
	if got := output(t, udevadm, "trigger", "-n", "-v", "--initialized-match"); got != "/sys/devices/virtual/mem/null\n/sys/devices/virtual/mem/zero\n/sys/devices/virtual/net/lo\n" {
		t.Errorf("initialized are\n%s", got)
	}
	if got := output(t, udevadm, "trigger", "-n", "-v", "--tag-match=seat"); !strings.Contains(got, "/sys/devices/virtual/mem/null\n") {
		t.Errorf("with the tag are\n%s", got)
	}

	enumerate := compile(t, "enumerate.c", "-ludev")
	got := strings.ReplaceAll(output(t, enumerate), "/dev/c /dev/a/b", "/dev/a/b /dev/c")
	for _, want := range []string{"/sys/devices/virtual/mem/null links /dev/a/b /dev/c tags", "/sys/devices/virtual/mem/zero links tags since - X -\n", "/sys/devices/virtual/net/lo links tags since"} {
		if !strings.Contains(got, want) {
			t.Errorf("libudev finds\n%swithout %q", got, want)
		}
	}
	if got := output(t, enumerate, "seat"); !strings.HasPrefix(got, "/sys/") || !strings.Contains(got, "/null links") || strings.Contains(got, "zero") {
		t.Errorf("libudev finds with the tag\n%s", got)
	}

	// The database that an initramfs leaves: what persists is left by cleanup-db.
	u.Done(hotplugtest.NewEvent(t, zero...), Device{Persist: true, Tags: []string{"seat"}})
	output(t, udevadm, "info", "--cleanup-db")
	if got := names(t, DefaultRun+"/data"); got != "c1:5" {
		t.Errorf("left: %s", got)
	}
	if got := names(t, DefaultRun+"/tags/seat"); got != "c1:5" {
		t.Errorf("left of the tag: %s", got)
	}
}

// TestRealEvents passes on what the kernel sends, and udevadm trigger waits for.
func TestRealEvents(t *testing.T) {
	udevadm := kerneltest.Need(t, "udevadm")
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	u := onRun(t)
	kernel, err := kerneltest.NewListener()
	hotplugtest.Must(t, err)
	defer kernel.Close()
	cmd := exec.Command(udevadm, "trigger", "--settle", "--subsystem-match=mem", "--action=change")
	hotplugtest.Must(t, cmd.Start())
	ended := make(chan error)
	go func() { ended <- cmd.Wait() }()
	deadline := time.Now().Add(hotplugtest.Patience)
	for {
		select {
		case err := <-ended:
			hotplugtest.Must(t, err)
			if _, known := Lookup(DefaultRun, "c1:3"); !known {
				t.Error("the database does not hold null")
			}
			return
		default:
		}
		if time.Now().After(deadline) {
			cmd.Process.Kill()
			t.Fatal("udevadm trigger --settle still waits")
		}
		msg, err := kernel.Next(20 * time.Millisecond)
		if err != nil {
			continue
		}
		if e, err := uevent.ParseMessage(msg); err == nil {
			u.Done(e, Device{})
		}
	}
}
