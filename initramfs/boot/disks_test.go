package boot_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"devspool/initramfs"
	"devspool/initramfs/boot"
)

func TestMain(m *testing.M) { boot.Main(m) }

// rules has what changes a disk's node in every way. COMMANDS stands for the
// command of each rule, which a fresh coldplug leaves out.
const rules = `
sd[abd-h]	7:6	640	=disk/%0	COMMANDS
sd([i-s])	0:6	600	>disks/by/%1	COMMANDS
sd[ct-z]	3:3	666	!
sd[a-z]+	0:6	4660	COMMANDS
sg([0-9]+)	0:5	640	=scsi/generic%1
bsg/(.*)	0:0	600	>scsi/bsg/%1
loop([0-7])	0:6	660	=loop/%1
console		0:5	622
`

// unruled are the disks that the rule with "!" gives no node. It says that none
// is made or removed, so on devtmpfs the kernel's stays as long as the disk.
var unruled = []string{"sdc", "sdt", "sdu", "sdv", "sdw", "sdx", "sdy", "sdz"}

// commands writes down what was run, a line each.
const commands = `*echo "$ACTION $DEVNAME" >>/run/commands`

// room is a way to fill /dev that the tests go through.
type room struct {
	name   string
	devfs  string // the file system on /dev
	loop   bool   // the loop, or else the kernel's helper
	rules  bool   // rules as the config, or else none
	disks  int    // at once
	rounds int    // of the storm
}

var rooms = []room{
	{name: "helper/tmpfs/rules", devfs: "tmpfs", rules: true, disks: 128, rounds: 10},
	{name: "helper/tmpfs/none", devfs: "tmpfs", disks: 16, rounds: 10},
	{name: "helper/devtmpfs/rules", devfs: "devtmpfs", rules: true, disks: 64, rounds: 10},
	{name: "helper/devtmpfs/none", devfs: "devtmpfs", disks: 16, rounds: 10},
	{name: "loop/tmpfs/rules", devfs: "tmpfs", loop: true, rules: true, disks: 64, rounds: 20},
	{name: "loop/tmpfs/none", devfs: "tmpfs", loop: true, disks: 16, rounds: 10},
	{name: "loop/devtmpfs/rules", devfs: "devtmpfs", loop: true, rules: true, disks: 128, rounds: 20},
	{name: "loop/devtmpfs/none", devfs: "devtmpfs", loop: true, disks: 16, rounds: 10},
}

// After disks came and went, one by one and in storms, /dev is what a fresh
// coldplug makes of /sys, whichever way the events came.
func TestDisks(t *testing.T) {
	lab := boot.NewLab(t)
	for _, r := range rooms {
		t.Run(r.name, func(t *testing.T) {
			o := boot.Options{
				Modules: []string{"scsi_debug", "sd_mod", "sg", "loop", "dm-mod"},
				Append:  []string{fewTerminals},
				Files:   r.configs(),
			}
			lab.Run(t, o, r.test)
		})
	}
}

// fewTerminals keeps the kernel from making 512 pseudo terminals of the old
// kind, which only take time.
const fewTerminals = "pty.legacy_count=0"

// freshConf is the config for a fresh coldplug: the same nodes, no commands.
const freshConf = "/etc/fresh.conf"

// configs returns the room's config files for the image.
func (r room) configs() []initramfs.Entry {
	if !r.rules {
		return nil
	}
	with := strings.ReplaceAll(rules, "COMMANDS", commands)
	without := strings.ReplaceAll(rules, "COMMANDS", "")
	return []initramfs.Entry{
		initramfs.File{Path: "etc/mdev.conf", Mode: 0o644, Text: with},
		initramfs.File{Path: freshConf[1:], Mode: 0o644, Text: without},
	}
}

// test is the guest's side.
func (r room) test(g *boot.Guest) {
	mountDev(g, r.devfs)
	if r.loop {
		stop := startLoop(g)
		defer stop()
	} else {
		startHelper(g)
	}
	r.same(g, "after the first coldplug")
	g.Insmod("loop", "max_loop=8")
	g.Insmod("dm-mod")
	g.Insmod("sd_mod")
	g.Insmod("sg")
	r.same(g, "after modules")
	r.calm(g)
	r.storm(g)
	noComplaints(g)
}

// noComplaints checks that no helper had an error to report in the kernel's log.
func noComplaints(g *boot.Guest) {
	g.Helper()
	for line := range strings.Lines(g.KernelLog()) {
		if strings.Contains(line, "devspool: error") || strings.Contains(line, "Out of memory") {
			g.Errorf("the kernel's log holds %s", line)
		}
	}
}

// calm lets all disks come, and then go.
func (r room) calm(g *boot.Guest) {
	params := []string{"dev_size_mb=1", fmt.Sprint("num_tgts=", r.disks), "max_luns=1"}
	if r.loop {
		g.Insmod("scsi_debug", append(params, "num_parts=1")...)
		r.settled(g)
	} else {
		g.Insmod("scsi_debug", params...)
	}
	awaitDisks(g, r.disks)
	r.same(g, "with all disks")
	commands := r.ran(g, "add")
	g.Write(addHost, "-1")
	awaitDisks(g, 0)
	r.same(g, "without disks")
	commands += r.ran(g, "remove")
	g.Logf("%d commands", commands)
}

// settled checks that right after "settle" there is nothing left to be done.
func (r room) settled(g *boot.Guest) {
	g.Helper()
	start := time.Now()
	g.Command(program, "settle", "300")
	g.Logf("settle: %v", time.Since(start).Round(time.Millisecond))
	for _, pattern := range []string{"/sys/block/sd*", "/sys/block/sd*/sd*"} {
		if found, err := filepath.Glob(pattern); err != nil || len(found) != r.disks {
			g.Fatalf("after settle there are %d of %s, error %v", len(found), pattern, err)
		}
	}
	conf, keeps := r.fresh()
	if err := likeFresh(g, conf, keeps...); err != nil {
		g.Fatalf("after settle: %v", err)
	}
}

// ran checks that the command of every disk ran once for the action, and forgets
// them. It returns how many those were.
func (r room) ran(g *boot.Guest, action string) int {
	if !r.rules {
		return 0
	}
	const file = "/run/commands"
	ran := map[string]int{}
	for line := range strings.Lines(g.Read(file) + "\n") {
		ran[strings.TrimSpace(line)]++
	}
	if err := os.Remove(file); err != nil {
		g.Fatal(err)
	}
	for i := range r.disks {
		name := diskName(i)
		want := 1
		if slices.Contains(unruled, name) {
			want = 0 // that rule has no command
		}
		if n := ran[action+" "+name]; n != want {
			g.Errorf("the command ran %d times for %s of %s", n, action, name)
		}
	}
	return len(ran)
}

// diskName returns the kernel's name of disk i: sda to sdz, then sdaa.
func diskName(i int) string {
	if i < 26 {
		return "sd" + string(rune('a'+i))
	}
	return "sd" + string(rune('a'+i/26-1)) + string(rune('a'+i%26))
}

// storm lets disks come and go without waiting, ends with them once there and
// once gone.
func (r room) storm(g *boot.Guest) {
	g.Write(driver+"/num_tgts", "3")
	for range r.rounds {
		g.Write(addHost, "1")
		g.Write(addHost, "-1")
	}
	g.Write(addHost, "1")
	awaitDisks(g, 3)
	r.same(g, "after a storm that ended with disks")
	for range r.rounds {
		g.Write(addHost, "-1")
		g.Write(addHost, "1")
	}
	g.Write(addHost, "-1")
	awaitDisks(g, 0)
	r.same(g, "after a storm that ended without")
	g.Rmmod("scsi_debug")
	r.same(g, "after the driver went")
}

// driver is scsi_debug in sysfs.
const (
	driver  = "/sys/bus/pseudo/drivers/scsi_debug"
	addHost = driver + "/add_host"
)

// awaitDisks waits until the kernel shows n disks.
func awaitDisks(g *boot.Guest, n int) {
	g.Helper()
	g.Until(fmt.Sprint(n, " disks"), func() error {
		found, err := filepath.Glob("/sys/block/sd*")
		if err == nil && len(found) != n {
			err = fmt.Errorf("%d disks", len(found))
		}
		return err
	})
}

// same waits until /dev is what a fresh coldplug makes.
func (r room) same(g *boot.Guest, when string) {
	g.Helper()
	conf, keeps := r.fresh()
	start := time.Now()
	sameAsFresh(g, when, conf, keeps...)
	g.Logf("%s: %v", when, time.Since(start).Round(time.Millisecond))
}

// fresh returns the config of a fresh coldplug, and the nodes that are the kernel's.
func (r room) fresh() (conf string, keeps []string) {
	if !r.rules {
		return "", nil
	}
	if r.devfs == "devtmpfs" {
		keeps = unruled
	}
	return freshConf, keeps
}

// sameAsFresh waits until the machine is quiet and /dev what a fresh coldplug
// with the config makes of an empty directory. Of the nodes that it keeps, which
// are devtmpfs's own and which no rule wants, there may be some more.
func sameAsFresh(g *boot.Guest, when, conf string, keeps ...string) {
	g.Helper()
	g.Until("/dev as a fresh coldplug makes it, "+when, func() error {
		g.Settle()
		return likeFresh(g, conf, keeps...)
	})
}

// likeFresh compares /dev, as it is now, with what a fresh coldplug makes.
func likeFresh(g *boot.Guest, conf string, keeps ...string) error {
	g.Helper()
	got, err := boot.TakeSnapshot("/dev")
	if err != nil {
		return err
	}
	want := fresh(g, conf)
	for _, name := range keeps {
		if there, err := filepath.Glob("/sys/class/*/" + name); err == nil && there != nil && want[name] == "" {
			delete(got, name)
		}
	}
	return got.Diff(want)
}

// fresh returns what a coldplug makes of a new device directory.
func fresh(g *boot.Guest, conf string) boot.Snapshot {
	g.Helper()
	const dir = "/fresh"
	g.Mount("tmpfs", dir)
	defer g.Unmount(dir)
	base(g, dir)
	args := []string{"-s", "--dev", dir}
	if conf != "" {
		args = append(args, "--conf", conf)
	}
	if out := g.Command(program, args...); out != "" {
		g.Logf("a fresh coldplug says: %s", out)
	}
	s, err := boot.TakeSnapshot(dir)
	if err != nil {
		g.Fatal(err)
	}
	return s
}

const program = "/sbin/devspool"

// base makes the nodes that every image ships.
func base(g *boot.Guest, dir string) {
	g.Helper()
	g.Mknod(dir+"/null", 0o666, 1, 3)
	g.Mknod(dir+"/console", 0o600, 5, 1)
}

// mountDev gives the system its /dev.
func mountDev(g *boot.Guest, devfs string) {
	g.Helper()
	g.Mount(devfs, "/dev")
	if devfs == "tmpfs" {
		base(g, "/dev")
	}
}

// startHelper makes the program the kernel's helper, and lets it coldplug, as
// the script of a board does.
func startHelper(g *boot.Guest) {
	g.Helper()
	const helper = "/sbin/hotplug"
	if err := os.Symlink(program, helper); err != nil {
		g.Fatal(err)
	}
	g.Write("/proc/sys/kernel/hotplug", helper)
	g.Command(program, "-s")
}

// startLoop starts the loop, with further arguments, and waits until it is ready. Stop ends it.
func startLoop(g *boot.Guest, args ...string) (stop func()) {
	g.Helper()
	ready, tell, err := os.Pipe()
	if err != nil {
		g.Fatal(err)
	}
	cmd := exec.Command(program, append([]string{"-df", "-D", "3"}, args...)...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.ExtraFiles = []*os.File{tell}
	if err := cmd.Start(); err != nil {
		g.Fatal(err)
	}
	tell.Close()
	if err := ready.SetReadDeadline(time.Now().Add(boot.Patience)); err != nil {
		g.Fatal(err)
	}
	line := make([]byte, 2)
	if n, err := ready.Read(line); err != nil || string(line[:n]) != "\n" {
		g.Fatalf("the loop is not ready: %q, %v", line[:n], err)
	}
	return func() {
		g.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			g.Fatalf("the loop ended before: %v", err)
		}
		if err := cmd.Wait(); err != nil {
			g.Errorf("the loop ended with %v", err)
		}
		if said.Len() > 0 {
			g.Errorf("the loop says: %s", &said)
		}
	}
}
