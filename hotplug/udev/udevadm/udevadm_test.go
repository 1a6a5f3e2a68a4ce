package udevadm

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/udev"
	"devspool/hotplug/uevent"
)

// both runs the same command by this program and by systemd's, and returns what each
// printed on stdout and its exit code.
func both(t *testing.T, args ...string) (got, want string) {
	t.Helper()
	var out bytes.Buffer
	code := Run(append([]string{"udevadm"}, args...), nil, Streams{Out: &out, Err: io.Discard})
	return out.String() + fmt.Sprint("exit ", code), outcome(exec.Command(kerneltest.Need(t, "udevadm"), args...))
}

func outcome(cmd *exec.Cmd) string {
	out, err := cmd.Output()
	code := 0
	if err != nil {
		code = cmd.ProcessState.ExitCode()
	}
	return string(out) + fmt.Sprint("exit ", code)
}

// inOrder sorts the lines of each paragraph: systemd's order of properties is partly chance.
func inOrder(text string) string {
	lines := strings.SplitAfter(text, "\n")
	from := 0
	for i, line := range lines {
		if line == "\n" || i == len(lines)-1 {
			slices.Sort(lines[from:i])
			from = i + 1
		}
	}
	return strings.Join(lines, "")
}

// onRun opens a database at /run/udev in a namespace of the test's own, with something in it.
func onRun(t *testing.T, m udev.Manager) *udev.Udev {
	t.Helper()
	hotplugtest.Must(t, unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"))
	u, err := udev.New(udev.Options{Run: udev.DefaultRun, Sys: "/sys", Log: hotplugtest.NewLog(t).Logger, Manager: m})
	hotplugtest.Must(t, err)
	for name, d := range map[string]udev.Device{
		"/devices/virtual/mem/null": {Links: []string{"a"}, Priority: -3, Properties: []string{"X=1 2", "ID_Y="}, Tags: []string{"seat"}},
		"/devices/virtual/mem/zero": {Persist: true},
		"/devices/virtual/mem/full": {},
		"/devices/virtual/net/lo":   {Properties: []string{"X=net"}, Tags: []string{"systemd"}},
	} {
		e, err := sysfs.FS("/sys").Event(uevent.Add, name)
		hotplugtest.Must(t, err)
		u.Done(e, d)
		u.Idle()
	}
	full, err := sysfs.FS("/sys").Event(uevent.Change, "/devices/virtual/mem/full")
	hotplugtest.Must(t, err)
	u.Done(full, udev.Device{Tags: []string{"old"}})
	u.Done(full, udev.Device{})
	u.Idle()
	hotplugtest.Must(t, os.Symlink("null", "/dev/a"))
	return u
}

// TestAsSystemds compares with systemd's udevadm on this machine's /sys and a database.
func TestAsSystemds(t *testing.T) {
	kerneltest.Need(t, "udevadm")
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	onRun(t, &hotplugtest.Manager{})
	for _, line := range []string{
		"--version",
		"info -e", "info --export-db",
		"info -n null", "info --name=a", "info /dev/null", "info -q all -p /class/net/lo", "info /sys/class/net/lo /dev/zero",
		"info -q property -n null", "info --query=property --name=/dev/null", "info -q property -x -n null", "info -q property -P U_ -n null",
		"info -q property --property=DEVNAME,X -n null", "info -q property --property=X --value -p /sys/class/net/lo",
		"info -q path -n a", "info -q name -n a", "info -rq name -n a", "info -q symlink -n null", "info -r --query=symlink -n null",
		"info -q name -p /sys/class/net/lo", "info -q symlink -n zero",
		"info -p /module/fuse", "info -p /bus/pci", "info -p /sys/bus/pci/drivers/virtio-pci", "info -d /etc",
		"info -w5 -n null", "info -w0 -n random", "info -x -d /etc", "info -P Q_ -d /etc", "info -d /proc/1/cwd", "info -q property -n null --property=", "info -p /devices", "info --wait-for-initialization=1 -n random",
		"info", "info /nonexistent", "info -n nonexistent", "info -p /nonexistent", "info --bogus", "info -q bogus -n null", "info -q", "bogus",
		"trigger -n -v", "trigger --dry-run --verbose --type=subsystems", "trigger -n -v -t devices -c add", "trigger --type=bogus", "trigger -c bogus",
		"trigger -nvs block", "trigger -nv -s b* -s net", "trigger -nv -S tty -S [a-m]*", "trigger -nv -a dev", "trigger -nv -a dev=1:* -A x",
		"trigger -nv -a dev=1:[35]", "trigger -nv -a dev=1:3 -a dev=1:5", "trigger -nv -a subsystem=mem -a dev=1:3", "trigger -nv -a driver=virtio*", `trigger -nv -y tty[1\-3]`, "trigger -nv -p MAJOR=1", "trigger -nv -p DEVTYPE=*", "trigger -nv -p X=net -p X=none", "trigger -nv -y tty[0-3]", "trigger -nv -y tty[!0-3]",
		"trigger -nv --name-match=/dev/null", "trigger -nv /sys/devices/pci0000:00", "trigger -nv -b /sys/devices/pci0000:00", "trigger -nv --initialized-match",
		"trigger -nv --initialized-nomatch -s mem", "trigger -nv -g seat", "trigger -nv --tag-match=seat --tag-match=systemd", "trigger -nv -g none", "trigger -nv -g old",
		"trigger -nv --prioritized-subsystem=tty,mem", "trigger -nv --property-match=MODALIAS=virtio*", "trigger -nv --subsystem-match=net --sysname-match=lo",
		"settle", "settle --timeout=1", "settle -t 0", "settle -E /dev/null", "settle --bogus", "settle -q", "settle x",
		"control", "control --ping", "control --ping -t 5", "control --reload", "control --reload-rules", "control --log-level=debug --log-priority=err", "control --log-level=bogus",
		"control -p A=b", "control --property=A", "control --children-max=2 -s -S", "control --children-max=x", "control x",
		"wait /dev/null", "wait --timeout=1 /dev/nonexistent", "wait -t 1 /dev/random", "wait --initialized=no /dev/random", "wait --removed /dev/nonexistent", "wait --settle /dev/null", "wait --initialized=bogus /dev/null", "wait",
	} {
		args := strings.Fields(line)
		var got, want string
		for range 5 { // devices of others come and go
			got, want = both(t, args...)
			if args[0] == "info" {
				got, want = inOrder(got), inOrder(want)
			}
			if got == want {
				break
			}
		}
		if got != want {
			t.Errorf("%s: got %d bytes\n%.700s\nwant %d\n%.700s", line, len(got), diff(got, want), len(want), diff(want, got))
		}
	}
}

// diff returns the lines of a that b has not.
func diff(a, b string) string {
	text := ""
	for line := range strings.Lines(a) {
		if !strings.Contains("\n"+b+"\n", "\n"+strings.TrimSuffix(line, "\n")+"\n") {
			text += line
		}
	}
	return text
}

// TestWalk compares attributes, but for those that change from one look to the next.
func TestWalk(t *testing.T) {
	steady := func(text string) string {
		kept := ""
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "  ") && !strings.Contains(line, "time") && !strings.Contains(line, "inflight") && !strings.Contains(line, "statistics") {
				kept += line
			}
		}
		return kept
	}
	for _, name := range []string{"/sys/class/net/lo", "/sys/class/mem/null", "/sys/class/tty/ttyS0", "/sys/class/misc/fuse"} {
		got, want := both(t, "info", "-a", "-p", name)
		if got, want = steady(got), steady(want); got != want || got == "" {
			t.Errorf("%s: got\n%.500s\nwant\n%.500s", name, diff(got, want), diff(want, got))
		}
	}
}

// TestCleanup leaves what is to persist.
func TestCleanup(t *testing.T) {
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	u := onRun(t, nil)
	zero, _ := sysfs.FS("/sys").Event(uevent.Change, "/devices/virtual/mem/zero")
	u.Done(zero, udev.Device{Persist: true, Tags: []string{"seat"}})
	hotplugtest.WriteFile(t, "/run/udev/queue", "")
	hotplugtest.WriteFile(t, "/run/udev/static_node-tags/uaccess/snd", "")
	hotplugtest.WriteFile(t, "/run/udev/keep", "")
	hotplugtest.Must(t, os.Symlink("/run", "/run/udev/watch"))
	if out, err := ours("info", "--cleanup-db").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	files, _ := exec.Command("find", "/run", "-not", "-type", "d").Output()
	if got := strings.Join(slices.Sorted(slices.Values(strings.Fields(string(files)))), " "); got != "/run/udev/data/c1:5 /run/udev/keep /run/udev/tags/seat/c1:5 /run/udev/watch" {
		t.Errorf("left: %s", got)
	}
}

// TestTrigger asks a real kernel, and waits for the events by their UUIDs.
func TestTrigger(t *testing.T) {
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	u := onRun(t, nil)
	kernel, err := kerneltest.NewListener()
	hotplugtest.Must(t, err)
	var out bytes.Buffer
	cmd := ours("trigger", "--settle", "--uuid", "-v", "--action=add", "--subsystem-match=mem")
	cmd.Stdout = &out
	hotplugtest.Must(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	uuids := map[string]bool{}
	for deadline := time.Now().Add(hotplugtest.Patience); ; {
		if msg, err := kernel.Next(20 * time.Millisecond); err == nil {
			if e, err := uevent.ParseMessage(msg); err == nil {
				id, _ := e.Get("SYNTH_UUID")
				uuids[id] = e.Action == uevent.Add
				u.Done(e, udev.Device{})
				u.Idle()
			}
			continue
		}
		select {
		case err := <-ended:
			hotplugtest.Must(t, err)
		default:
			if time.Now().After(deadline) {
				t.Fatal("it still waits")
			}
			continue
		}
		break
	}
	asked, _, _ := strings.Cut(out.String(), "settle ")
	lines := strings.Fields(asked)
	if len(lines) < 8 || len(lines)%2 != 0 || strings.Count(out.String(), "\nsettle ") != len(lines) {
		t.Fatalf("printed\n%s", &out)
	}
	for i := 0; i < len(lines); i += 2 {
		if !strings.HasPrefix(lines[i], "/sys/devices/virtual/mem/") || !uuids[lines[i+1]] {
			t.Errorf("printed %s %s", lines[i], lines[i+1])
		}
	}
}

// TestSettle waits for the queue, and at a file's coming no longer.
func TestSettle(t *testing.T) {
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	u := onRun(t, &hotplugtest.Manager{})
	best := time.Hour
	for range 5 {
		start := time.Now()
		hotplugtest.Must(t, ours("settle").Run())
		best = min(best, time.Since(start))
	}
	t.Logf("settle took %v", best)
	u.Queued(nil)
	if err := ours("settle", "--timeout=0.3").Run(); err == nil {
		t.Error("it did not wait")
	}
	ends := func(what string, act func(), args ...string) {
		t.Helper()
		cmd := ours(append([]string{"settle"}, args...)...)
		hotplugtest.Must(t, cmd.Start())
		t.Cleanup(func() { cmd.Process.Kill() })
		time.Sleep(200 * time.Millisecond)
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		act()
		select {
		case err := <-ended:
			hotplugtest.Must(t, err)
		case <-time.After(hotplugtest.Patience):
			t.Errorf("it waits on at %s", what)
		}
	}
	ends("the coming of a file", func() { hotplugtest.WriteFile(t, "/run/there", "") }, "--exit-if-exists=/run/there")
	ends("the end of the queue", func() {
		u.Done(hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/x"), udev.Device{})
		u.Idle()
	}, "-E", "/run/nowhere")
	u.Close()
	hotplugtest.Must(t, ours("settle").Run())
}

// TestControl has the server of this house hear what it says.
func TestControl(t *testing.T) {
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	heard := hotplugtest.Manager{Pinged: func() { time.Sleep(100 * time.Millisecond) }}
	u := onRun(t, &heard)
	out, err := ours("control", "--ping", "-R", "-l", "debug", "-p", "A=b c", "-m7", "-s", "-S", "-e").CombinedOutput()
	if got := strings.Join(heard.List(), ", "); err != nil || got != "log info, stop, start, reload, property A=b c, children 7, ping, exit" {
		t.Errorf("heard %s; %v %s", got, err, out)
	}
	u.Close()
	if out, err := ours("control", "--ping").CombinedOutput(); err == nil || !strings.Contains(string(out), "does not answer") {
		t.Errorf("without a server: %v %s", err, out)
	}
}

// TestMonitor prints events of both groups, and of one by a filter.
func TestMonitor(t *testing.T) {
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	u := onRun(t, nil)
	inject := hotplugtest.NewInjector(t)
	for _, c := range []struct {
		args string
		want []string
	}{
		{"", []string{"KERNEL mem", "KERNEL usb", "UDEV mem", "UDEV usb"}},
		{"-kp", []string{"KERNEL mem", "KERNEL usb"}},
		{"--udev -s usb", []string{"UDEV usb"}},
		{"-u -s mem/x -t seat", nil},
		{"-u -p --tag-match=seat", []string{"UDEV mem"}},
		{"-s mem -s usb/usb_device", []string{"KERNEL mem", "KERNEL usb", "UDEV mem", "UDEV usb"}},
	} {
		path := t.TempDir() + "/out"
		file, err := os.Create(path)
		hotplugtest.Must(t, err)
		cmd := ours(append([]string{"monitor"}, strings.Fields(c.args)...)...)
		cmd.Stdout = file
		hotplugtest.Must(t, cmd.Start())
		hotplugtest.Eventually(t, "its start", func() bool { return strings.HasSuffix(hotplugtest.Contents(t, path), "one\n\n") })
		for _, vars := range [][]string{{"SUBSYSTEM=mem", "NAME=a", "DEVNAME=d"}, {"SUBSYSTEM=usb", "DEVTYPE=usb_device"}} {
			hotplugtest.Must(t, inject.Send("change", "/devices/x", vars...))
			d := udev.Device{}
			if vars[1] == "NAME=a" {
				d.Tags = []string{"seat"}
			}
			u.Done(hotplugtest.NewEvent(t, append(vars, "ACTION=change", "DEVPATH=/devices/x", "SEQNUM=5")...), d)
			u.Idle()
		}
		lines := func() (got []string) {
			for line := range strings.Lines(hotplugtest.Contents(t, path)) {
				if label, rest, ok := strings.Cut(line, "["); ok {
					_, subsystem, _ := strings.Cut(rest, "(")
					got = append(got, strings.TrimSpace(label)+" "+strings.TrimSuffix(subsystem, ")\n"))
				}
			}
			slices.Sort(got)
			return got
		}
		kerneltest.Eventually(2*time.Second, func() bool { return len(lines()) >= len(c.want) && len(c.want) > 0 })
		if got := lines(); !slices.Equal(got, c.want) {
			t.Errorf("monitor %s prints %q", c.args, got)
		}
		if text := hotplugtest.Contents(t, path); c.args == "-kp" && !strings.Contains(text, "\nDEVNAME=/dev/d\n") {
			t.Errorf("without the path of a node:\n%s", text)
		}
		if text := hotplugtest.Contents(t, path); strings.Contains(c.args, "-p") && !strings.Contains(text, "\nNAME=a\n") {
			t.Errorf("without properties:\n%s", text)
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
}

// TestChroot: in another root than the first process's nothing is asked of a device manager.
func TestChroot(t *testing.T) {
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	root := "/run/root" // which goes with the namespace, and is never walked
	hotplugtest.Must(t, unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"))
	hotplugtest.Must(t, os.MkdirAll(root+"/proc", 0o755))
	hotplugtest.Must(t, unix.Mount("/proc", root+"/proc", "", unix.MS_BIND, ""))
	exe, err := os.ReadFile("/proc/self/exe")
	hotplugtest.Must(t, err)
	hotplugtest.Must(t, os.WriteFile(root+"/udevadm", exe, 0o755))
	chroot := kerneltest.Need(t, "chroot")
	for _, line := range []string{"trigger", "settle", "control --reload"} {
		cmd := exec.Command(chroot, append([]string{root, "/udevadm"}, strings.Fields(line)...)...)
		cmd.Env = []string{asUdevadm + "=1"}
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			if strings.Contains(string(out), "not found") || strings.Contains(string(out), "No such file") {
				t.Skip("the test binary needs libraries")
			}
			t.Errorf("%s: %v %s", line, err, out)
		}
	}
	cmd := exec.Command(chroot, root, "/udevadm", "control", "--reload")
	cmd.Env = []string{asUdevadm + "=1", "SYSTEMD_IGNORE_CHROOT=1"}
	if err := cmd.Run(); err == nil {
		t.Error("nothing was asked although the root is to be ignored")
	}
}

// TestHelp shows that help and the version are given also where a wrong option follows.
func TestHelp(t *testing.T) {
	for line, want := range map[string]string{"info --help": "--attribute-walk", "settle -h --bogus": "options: --timeout --exit-if-exists\n", "trigger -nV -!": version + "\n"} {
		if out, err := ours(strings.Fields(line)...).CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v %s", line, err, out)
		}
	}
	if out, err := ours("info", "--bogus", "--help").CombinedOutput(); err == nil || string(out) != "udevadm: info: option '--bogus' is unknown, or short for several\n" {
		t.Errorf("%v %s", err, out)
	}
}

func TestSeconds(t *testing.T) {
	for text, want := range map[string]time.Duration{"5": 5 * time.Second, "0.25": 250 * time.Millisecond, "1.5s": 1500 * time.Millisecond, "2s": 2 * time.Second, "3 min": 3 * time.Minute,
		"10ms": 10 * time.Millisecond, "infinity": forever, "2562047h": 2562047 * time.Hour, "2562048h": forever, "999999999h": forever, "999999999min": forever} {
		if got, err := seconds(text); got != want || err != nil {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "-1", "5x", "s", "NaN", "1e300", "inf", ".5", "1.x"} {
		if got, err := seconds(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}
