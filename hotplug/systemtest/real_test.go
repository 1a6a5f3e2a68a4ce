package systemtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// onRealSys makes a board whose /sys is the machine's own, and whose config has
// every event seen by the witness.
func onRealSys(t *testing.T) (b *board, seen func(action, devpath string) []testimony) {
	t.Helper()
	b = newBoard(t, "")
	b.tree.Dir = "/sys"
	words, file := b.witness("seen")
	b.configure("-.* 0:0 600 *" + words + "\n.* 0:0 640\n")
	return b, func(action, devpath string) []testimony {
		var found []testimony
		for _, y := range b.testimonies(file) {
			if y.get("ACTION") == action && strings.HasSuffix(y.get("DEVPATH"), devpath) && y.get("SEQNUM") != "" {
				found = append(found, y)
			}
		}
		return found
	}
}

// TestRealColdplug compares what a scan of this machine makes with what the
// kernel says of each device.
func TestRealColdplug(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	b.tree.Dir = "/sys"
	b.scan()
	checked := 0
	for _, kind := range []string{"char", "block"} {
		entries, err := os.ReadDir("/sys/dev/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			text := "\n" + b.read("/sys/dev/"+kind+"/"+e.Name()+"/uevent")
			_, name, found := strings.Cut(text, "\nDEVNAME=")
			if !found {
				continue
			}
			name, _, _ = strings.Cut(name, "\n")
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(b.dev, name), &st); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			want := uint32(unix.S_IFCHR)
			if kind == "block" {
				want = unix.S_IFBLK
			}
			numbers := strconv.Itoa(int(unix.Major(st.Rdev))) + ":" + strconv.Itoa(int(unix.Minor(st.Rdev)))
			if st.Mode&unix.S_IFMT != want || numbers != e.Name() {
				t.Errorf("%s has mode %o and numbers %s, want %s", name, st.Mode, numbers, e.Name())
			}
			checked++
		}
	}
	if checked < 10 {
		t.Errorf("only %d devices on this machine", checked)
	}
}

// TestRealEvents has the kernel send events of a device of this machine.
func TestRealEvents(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b, seen := onRealSys(t)
	l := b.startLoop()
	const null = "/devices/virtual/mem/null"
	for _, action := range []string{"add", "change", "remove", "bind", "move", "online"} {
		if err := os.WriteFile("/sys"+null+"/uevent", []byte(action), 0); err != nil {
			kerneltest.Cannot(t, "%v", err)
		}
		kerneltest.Until(t, patience, action+" of null", func() bool { return len(seen(action, null)) > 0 || action == "remove" })
		if action == "remove" {
			continue // /sys says that the device is still there
		}
		y := seen(action, null)[0]
		for key, want := range map[string]string{
			"SUBSYSTEM": "mem", "MAJOR": "1", "MINOR": "3", "DEVNAME": "null", "MDEV": "null", "SYNTH_UUID": "0",
		} {
			if got := y.get(key); got != want {
				t.Errorf("%s: %s=%s, want %s", action, key, got, want)
			}
		}
	}
	if err := os.WriteFile("/sys"+null+"/uevent", []byte("change 6ba7b810-9dad-11d1-80b4-00c04fd430c8 WORD=here"), 0); err != nil {
		t.Fatal(err)
	}
	kerneltest.Until(t, patience, "an event with a UUID", func() bool {
		for _, e := range seen("change", null) { // other tests ask for some too
			if e.get("SYNTH_ARG_WORD") == "here" {
				return true
			}
		}
		return false
	})
	if _, err := os.Stat(b.dev + "/null"); err != nil {
		t.Error("a remove that the kernel was asked for took away the node of a device that is there")
	}
	if code := l.stop(); code != exitDone {
		t.Errorf("the loop ended with %d:\n%s", code, l.stderr)
	}
}

// TestRealLoopDevice adds and removes a loop device.
func TestRealLoopDevice(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b, seen := onRealSys(t)
	control := loopControl(b)
	b.startLoop()
	name := "loop" + strconv.Itoa(loopDevice)
	for range 3 {
		control(unix.LOOP_CTL_ADD, loopDevice)
		kerneltest.Until(t, patience, "the node", func() bool { _, err := os.Stat(filepath.Join(b.dev, name)); return err == nil })
		control(unix.LOOP_CTL_REMOVE, loopDevice)
		kerneltest.Until(t, patience, "the end of the node", func() bool { _, err := os.Stat(filepath.Join(b.dev, name)); return err != nil })
	}
	all := seen("add", "/block/"+name)
	if len(all) == 0 || all[0].get("DEVTYPE") != "disk" || all[0].get("MAJOR") != "7" {
		t.Errorf("commands saw %v", all)
	}
}

// loopDevice is the number of a loop device that nobody else on this machine has.
// The tests that run beside each other take those that follow.
var loopDevice = 4000 + 10*(os.Getppid()%100)

// loopControl returns what adds loop devices to the kernel, and removes them.
func loopControl(b *board) func(request uint, n int) {
	b.Helper()
	node := b.dir + "/loop-control"
	if err := unix.Mknod(node, unix.S_IFCHR|0o600, int(unix.Mkdev(10, 237))); err != nil {
		b.Fatal(err)
	}
	fd, err := unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		kerneltest.Cannot(b, "loop-control: %v", err)
	}
	b.Cleanup(func() { unix.Close(fd) })
	return func(request uint, n int) {
		b.Helper()
		if err := unix.IoctlSetInt(fd, request, n); err != nil {
			kerneltest.Cannot(b, "add or remove a loop device: %v", err)
		}
	}
}

// TestRealLate has a loop hear of devices when they have gone, or have come back.
func TestRealLate(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b, seen := onRealSys(t)
	control := loopControl(b)
	l := b.startLoop()
	gone, back, there := loopDevice+1, loopDevice+2, loopDevice+3
	meanwhile := func(f func()) {
		t.Helper()
		if err := l.cmd.Process.Signal(unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		f()
		if err := l.cmd.Process.Signal(unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		b.ask("settle", "20", "--quiet", "0")
	}
	has := func(n int, want bool) {
		t.Helper()
		if _, err := os.Stat(b.dev + "/loop" + strconv.Itoa(n)); (err == nil) != want {
			t.Errorf("loop%d: is there: %v, want %v", n, err == nil, want)
		}
	}
	adds := func(n int) int { return len(seen("add", "/block/loop"+strconv.Itoa(n))) }
	meanwhile(func() {
		control(unix.LOOP_CTL_ADD, gone)
		control(unix.LOOP_CTL_ADD, back)
		control(unix.LOOP_CTL_ADD, there)
		control(unix.LOOP_CTL_REMOVE, gone)
		control(unix.LOOP_CTL_REMOVE, back)
		control(unix.LOOP_CTL_ADD, back)
	})
	has(gone, false)
	has(back, true)
	has(there, true)
	if adds(gone) != 1 || adds(back) != 2 || adds(there) != 1 { // what is late for /dev is not for commands
		t.Errorf("commands at the add of what is gone: %d, is back: %d, is there: %d", adds(gone), adds(back), adds(there))
	}
	// Only the kernel's own word is believed of what /sys does not show.
	l.send(kerneltest.Event{Action: "add", Devpath: "/devices/virtual/block/loop9999", Vars: []string{
		"SUBSYSTEM=block", "MAJOR=7", "MINOR=9999", "DEVNAME=loop9999", "DEVTYPE=disk"}})
	b.ask("settle", "20", "--quiet", "0")
	has(9999, false)
	meanwhile(func() {
		control(unix.LOOP_CTL_REMOVE, back)
		control(unix.LOOP_CTL_REMOVE, there)
	})
	has(back, false)
	has(there, false)
}

// TestRealZram adds a compressed disk and removes it.
func TestRealZram(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b, seen := onRealSys(t)
	b.startLoop()
	text, err := os.ReadFile("/sys/class/zram-control/hot_add")
	if err != nil {
		kerneltest.Cannot(t, "zram: %v", err)
	}
	n := strings.TrimSpace(string(text))
	node := filepath.Join(b.dev, "zram"+n)
	kerneltest.Until(t, patience, "the node", func() bool { _, err := os.Stat(node); return err == nil })
	if err := os.WriteFile("/sys/class/zram-control/hot_remove", []byte(n), 0); err != nil {
		t.Fatal(err)
	}
	kerneltest.Until(t, patience, "the end of the node", func() bool { _, err := os.Stat(node); return err != nil })
	kerneltest.Until(t, patience, "the remove's command", func() bool { return len(seen("remove", "/block/zram"+n)) == 1 })
}

// TestRealNetwork makes interfaces, which have no nodes.
func TestRealNetwork(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	ip := kerneltest.Need(t, "ip")
	b, seen := onRealSys(t)
	b.startLoop()
	if out, err := exec.Command(ip, "link", "add", "va", "type", "veth", "peer", "name", "vb").CombinedOutput(); err != nil {
		kerneltest.Cannot(t, "veth: %s", out)
	}
	if out, err := exec.Command(ip, "link", "add", "null", "type", "bridge").CombinedOutput(); err != nil {
		kerneltest.Cannot(t, "bridge: %s", out)
	}
	for _, name := range []string{"va", "vb", "null"} {
		kerneltest.Until(t, patience, "add of "+name, func() bool { return len(seen("add", "/net/"+name)) == 1 })
		y := seen("add", "/net/"+name)[0]
		if y.get("INTERFACE") != name || y.get("SUBSYSTEM") != "net" || y.get("IFINDEX") == "" {
			t.Errorf("%s: %v", name, y.Env)
		}
	}
	// A rename is a move, and then the new name is what goes.
	kerneltest.Sh(t, "ip link set va name vc && ip link del vc && ip link del null")
	for _, name := range []string{"vc", "vb", "null"} {
		kerneltest.Until(t, patience, "remove of "+name, func() bool { return len(seen("remove", "/net/"+name)) == 1 })
	}
	if len(seen("move", "/net/vc")) != 1 {
		t.Error("no move")
	}
	if _, err := os.Stat(b.dev + "/null"); err != nil {
		t.Error("the bridge named null took the node with it")
	}
}

// TestRealStorm has the kernel send hundreds of events of all its devices. Disks that other
// tests make and take away meanwhile get no nodes.
func TestRealStorm(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "names=no;(loop|zram|dm-|md|ram|nbd|ublk).* 0:0 660 !\nSUBSYSTEM=tty;.* 0:5 620 >term/%0\n")
	b.tree.Dir = "/sys"
	l := b.startLoop()
	before := b.snapshot()
	for range 3 {
		_ = filepath.WalkDir("/sys/devices", func(name string, d os.DirEntry, err error) error {
			if err == nil && d.Name() == "uevent" {
				for _, action := range []string{"remove", "change", "add"} {
					_ = os.WriteFile(name, []byte(action), 0)
				}
			}
			return nil
		})
	}
	if diff := kerneltest.Diff(before, b.snapshot()); diff != "" {
		t.Errorf("/dev differs:\n%s", head(diff, 30))
	}
	if code := l.stop(); code != exitDone {
		t.Errorf("the loop ended with %d:\n%s", code, l.stderr)
	}
	b.likeFresh("a storm of real events")
}
