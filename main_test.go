package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/conf"
	"devspool/hotplug"
	"devspool/hotplug/control"
	"devspool/hotplug/hotplugtest"
)

// asProgram is the variable that makes the test binary the program itself.
const asProgram = "DEVSPOOL_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// outcome is how a run of the program ended, and what it wrote.
type outcome struct {
	code        int
	out, errors string
	panicked    any
}

// fresh is the command line before anything was read.
var fresh = line

// parseFresh is parse as in a new process.
func parseFresh(args, environ []string) (*options, error) {
	line, given = fresh, [modeVersion + 1]bool{}
	return parse(args, environ)
}

// do runs the program in this process, with descriptors 1 and 2 led into files.
// The environment is environ alone.
func do(t *testing.T, environ []string, args ...string) (o outcome) {
	t.Helper()
	for _, key := range []string{"ACTION", "DEVPATH", "SEQNUM", "SUBSYSTEM"} {
		t.Setenv(key, "") // so that it is restored
		os.Unsetenv(key)
	}
	for _, kv := range environ {
		key, value, _ := strings.Cut(kv, "=")
		t.Setenv(key, value)
	}
	umask := unix.Umask(0)
	defer unix.Umask(umask)
	dir := t.TempDir()
	func() {
		for fd, name := range map[int]string{1: "out", 2: "err"} {
			file, err := os.Create(filepath.Join(dir, name))
			hotplugtest.Must(t, err)
			saved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
			hotplugtest.Must(t, err)
			hotplugtest.Must(t, unix.Dup3(int(file.Fd()), fd, 0))
			file.Close()
			defer func() {
				unix.Dup3(saved, fd, 0)
				unix.Close(saved)
			}()
		}
		defer func() { o.panicked = recover() }()
		line, given = fresh, [modeVersion + 1]bool{}
		o.code = run(append([]string{"devspool"}, args...), environ)
	}()
	for name, text := range map[string]*string{"out": &o.out, "err": &o.errors} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		hotplugtest.Must(t, err)
		*text = string(data)
	}
	if o.panicked != nil {
		t.Errorf("%q: it panics: %v", args, o.panicked)
	}
	return o
}

// board has what the options name: a /dev, a /sys, a config.
type board struct {
	*testing.T
	dir, dev, sys, conf string
}

// newBoard makes a board with a disk, a partition, a tty and a network interface.
func newBoard(t *testing.T, config string) *board {
	t.Helper()
	dir, sys := t.TempDir(), hotplugtest.NewSysfs(t)
	b := &board{t, dir, dir + "/dev", string(sys.FS), dir + "/mdev.conf"}
	hotplugtest.Must(t, os.Mkdir(b.dev, 0o755))
	hotplugtest.WriteFile(t, b.conf, strings.ReplaceAll(config, "TMP", dir))
	sys.Add("/devices/pci0/block/sda", "block", "8:0", "DEVNAME=sda", "DEVTYPE=disk")
	sys.Add("/devices/pci0/block/sda/sda1", "block", "8:1", "DEVNAME=sda1", "DEVTYPE=partition")
	sys.Add("/devices/virtual/tty/tty0", "tty", "4:0", "DEVNAME=tty0", "DEVMODE=0620")
	sys.Add("/devices/pci0/net/eth0", "net", "", "INTERFACE=eth0")
	return b
}

// options returns args and the options that name the board's places.
func (b *board) options(args ...string) []string {
	return append(args, "--dev", b.dev, "--sys", b.sys, "--conf="+b.conf, "--firmware", b.dir+"/firmware")
}

// do runs the program on the board.
func (b *board) do(environ []string, args ...string) outcome {
	b.Helper()
	return do(b.T, environ, b.options(args...)...)
}

// program returns the program as a process of its own, on the board.
func (b *board) program(args ...string) *exec.Cmd {
	b.Helper()
	self, err := os.Executable()
	hotplugtest.Must(b.T, err)
	cmd := exec.Command(self, b.options(args...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stderr = os.Stderr
	return cmd
}

// nodes lists what /dev holds, but for what is private.
func (b *board) nodes() []string {
	b.Helper()
	var all []string
	entries, err := os.ReadDir(b.dev)
	hotplugtest.Must(b.T, err)
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), ".") {
			all = append(all, entry.Name())
		}
	}
	return all
}

func (b *board) wantNodes(want ...string) {
	b.Helper()
	if got := b.nodes(); !slices.Equal(got, want) {
		b.Errorf("/dev holds %q, want %q", got, want)
	}
}

// TestManPage shows that docs/devspool.8 has an entry for each option and each request that
// help shows, and for none besides.
func TestManPage(t *testing.T) {
	text, err := os.ReadFile("docs/devspool.8")
	hotplugtest.Must(t, err)
	fonts := strings.NewReplacer(`\-`, "-", `\fB`, "", `\fI`, "", `\fR`, "", `"`, " ", "[", " ", "]", " ", "=", " ", ",", " ")
	entries := map[string]bool{}
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		if i > 0 && lines[i-1] == ".TP" {
			for _, word := range strings.Fields(fonts.Replace(line)) {
				entries[word] = true
			}
		}
	}
	known := map[string]bool{}
	for _, o := range table {
		letter, long, _ := o.Split()
		known["-"+string(rune(letter))], known["--"+long] = true, true
		if letter != 0 && !entries["-"+string(rune(letter))] || long != "" && o.Help != "" && !entries["--"+long] {
			t.Errorf("no entry has the option %s", o.Name)
		}
	}
	for word := range entries {
		if strings.HasPrefix(word, "-") && !known[word] {
			t.Errorf("there is no option %s", word)
		}
	}
	for _, r := range control.Requests {
		if r.Help != "" && !entries[r.Name] {
			t.Errorf("no entry has the request %s", r.Name)
		}
	}
}

// TestCommandLine shows what the program makes of its arguments, without a device.
func TestCommandLine(t *testing.T) {
	event := []string{"ACTION=add", "DEVPATH=/devices/x"}
	for _, c := range []struct {
		args        string
		environ     []string
		code        int
		out, errors string // what stdout and stderr begin with
	}{
		{args: "-h", out: usage()},
		{args: "--help", out: usage()},
		{args: "-sh", out: usage()},
		{args: "--version", out: "devspool " + version + " (spool, names, udev, boot, no hand-off)\n"},
		{args: "--print-default-conf", out: conf.Default},
		{args: "", code: exitUsage, errors: usage()},
		{args: "-v", code: exitUsage, errors: usage()},
		{args: "-x", code: exitUsage, errors: "devspool: unknown option -x\ndevspool: the options are shown by --help\n"},
		{args: "-sx", code: exitUsage, errors: "devspool: unknown option -x\n"},
		{args: "-ü", code: exitUsage, errors: "devspool: unknown option -ü\n"},
		{args: "--nothing", code: exitUsage, errors: "devspool: unknown option --nothing\n"},
		{args: "--help=x", code: exitUsage, errors: "devspool: --help takes no value\n"},
		{args: "--", code: exitUsage, errors: usage()},
		{args: "-s -- -x", code: exitUsage, errors: "devspool: not understood: -x\n"},
		{args: "-", code: exitUsage, errors: "devspool: not understood: -\n"},
		{args: "block", code: exitUsage, errors: "devspool: not understood: block\n"},
		{args: "-s block", code: exitUsage, errors: "devspool: not understood: block\n"},
		{args: "block block", environ: event, code: exitUsage, errors: "devspool: not understood: block\n"},
		{args: "-s block", environ: event, code: exitUsage, errors: "devspool: not understood: block\n"},
		{args: "watch --help", out: "usage: devspool watch "},
		{args: "watch --help", environ: append(event, "SUBSYSTEM=block"), out: "usage: devspool watch "},
		{args: "watch --nothing", code: exitUsage, errors: "unknown option --nothing\n"},
		{args: "event", code: exitUsage, errors: "put, pop or ls?\n"},
		{args: "event", environ: []string{"ACTION=add", "DEVPATH=../x", "SUBSYSTEM=event"}, code: exitUsage,
			errors: "devspool: error: uevent without a usable"},
		{args: "status x", code: exitUsage, errors: "devspool: status: not understood: x\n"},
		{args: "settle x", code: exitUsage, errors: "devspool: settle: not understood: x\n"},
		{args: "settle --quiet x", code: exitUsage, errors: "devspool: --quiet needs a time in seconds: x\n"},
		{args: "wait 3", code: exitUsage, errors: "devspool: wait needs a device"},
		{args: "ctl", code: exitUsage, errors: "devspool: ctl needs a word"},
		{args: "ctl x", code: exitUsage, errors: "devspool: ctl: not understood: x\n"},
		{args: "ctl children-max", code: exitUsage, errors: "devspool: ctl: not understood: children-max\n"},
		{args: "-j", code: exitUsage, errors: "devspool: -j needs a number\n"},
		{args: "-j 0", code: exitUsage, errors: "devspool: -j: not a usable number: 0\n"},
		{args: "-j x", code: exitUsage, errors: "devspool: -j: not a usable number: x\n"},
		{args: "-D -1", code: exitUsage, errors: "devspool: -D: not a usable number: -1\n"},
		{args: "-O 0", code: exitUsage, errors: "devspool: -O: not a usable number: 0\n"},
		{args: "-O 4294967300", code: exitUsage, errors: "devspool: -O: not a usable number: 4294967300\n"},
		{args: "-df -O 5", code: exitUsage, errors: "devspool: -O: group 1 is the kernel's, and each event would come back; use 4\n"},
		{args: "-f -o", code: exitUsage, errors: "devspool: -o needs a number\n"},
		{args: "-f -o 2", code: exitUsage, errors: "devspool: -o: commands write to the descriptors up to 2; use one from 3 on\n"},
		{args: "-d -o 3", code: exitUsage, errors: "devspool: -o needs -f\n"},
		{args: "-s -o 3", code: exitUsage, errors: "devspool: -o needs -f\n"},
		{args: "status --json", code: exitUsage, errors: "devspool: --json is for log\n"},
		{args: "-s --json", code: exitUsage, errors: "devspool: --json is for log\n"},
		{args: "settle --metrics", code: exitUsage, errors: "devspool: --metrics is for status\n"},
		{args: "-f -o 3 -D 3", code: exitUsage, errors: "devspool: -o and -D need descriptors of their own\n"},
		{args: "-f -o 999999 --dev /nonexistent --conf /dev/null", code: exitUsage, errors: "devspool: -o 999999: no such descriptor"},
		{args: "-s -D", code: exitUsage, errors: "devspool: -D needs a number\n"},
		{args: "--dev", code: exitUsage, errors: "devspool: --dev needs a path\n"},
		{args: "-s --dev=", code: exitUsage, errors: "devspool: --dev needs a path\n"},
		{args: "-s --check", code: exitUsage, errors: "exclude each other\n"},
		{args: "-df -D 999999 --dev /nonexistent --conf /dev/null", code: exitUsage, errors: "devspool: -D 999999: no such descriptor"},
		{args: "-s --conf", code: exitUsage, errors: "devspool: --conf needs a path\n"},
		{args: "-s --conf /nowhere/mdev.conf", code: exitConfig, errors: "devspool: error: open /nowhere/mdev.conf: "},
		{args: "--check --conf /nowhere/mdev.conf", code: exitConfig, errors: "devspool: error: open /nowhere/mdev.conf: "},
		{args: "--plan --conf /nowhere/mdev.conf", code: exitConfig, errors: "devspool: error: open /nowhere/mdev.conf: "},
		{args: "-s --dev /nowhere/dev --conf /dev/null", code: exitSystem, errors: "devspool: error: open /nowhere/dev: "},
		{args: "-sn --sys /nowhere/sys --conf /dev/null", code: exitFailed, errors: "devspool: error: no sysfs at /nowhere/sys"},
		{args: "", environ: []string{"ACTION=add", "DEVPATH=../x"}, code: exitUsage, errors: "devspool: error: uevent without a usable"},
		{args: "x --conf /dev/null", environ: event, code: exitUsage, errors: "devspool: not understood: x\n"},
	} {
		o := do(t, c.environ, strings.Fields(c.args)...)
		if o.code != c.code || !strings.HasPrefix(o.out, c.out) || !strings.Contains(o.errors, c.errors) {
			t.Errorf("devspool %s: code %d, want %d\nstdout %.200q\nstderr %.200q", c.args, o.code, c.code, o.out, o.errors)
		}
		if c.out == "" && o.out != "" || c.errors == "" && o.errors != "" {
			t.Errorf("devspool %s: stdout %.200q, stderr %.200q", c.args, o.out, o.errors)
		}
	}
}

func TestParse(t *testing.T) {
	basic := options{quiet: "0.2", Options: hotplug.Options{Ready: -1, Output: -1, Dev: "/dev", Sys: "/sys", Conf: "/etc/mdev.conf",
		Firmware: "/lib/firmware"}}
	for _, c := range []struct {
		args string
		want func(o *options)
	}{
		{"-s", func(o *options) { o.mode = modeScan }},
		{"-d", func(o *options) { o.mode = modeLoop }},
		{"-df", func(o *options) { o.mode, o.foreground = modeLoop, true }},
		{"-f", func(o *options) { o.mode, o.foreground = modeLoop, true }},
		{"-sf", func(o *options) { o.mode = modeScan }},
		{"-f -s", func(o *options) { o.mode = modeScan }},
		{"-sdf", func(o *options) { o.mode, o.foreground = modeLoop, true }},
		{"-f -d -S -v", func(o *options) { o.mode, o.foreground, o.Syslog, o.Verbose = modeLoop, true, true, true }},
		{"-snvt", func(o *options) { o.mode, o.DryRun, o.Verbose, o.Table = modeScan, true, true, true }},
		{"-s --dry-run --table", func(o *options) { o.mode, o.DryRun, o.Table = modeScan, true, true }},
		{"-fD3", func(o *options) { o.mode, o.foreground, o.Ready = modeLoop, true, 3 }},
		{"-f -D 3 -j9", func(o *options) { o.mode, o.foreground, o.Ready, o.Jobs = modeLoop, true, 3, 9 }},
		{"-f -O 6 -o 3 --udevcontrol", func(o *options) {
			o.mode, o.foreground, o.Groups, o.Output, o.UdevControl = modeLoop, true, 6, 3, true
		}},
		{"-s --dev=a --sys b/ --conf=c --firmware d", func(o *options) {
			o.mode, o.Dev, o.Sys, o.Conf, o.Firmware, o.ConfNamed = modeScan, "a", "b/", "c", "d", true
		}},
		{"status", func(o *options) { o.mode, o.words = modeAsk, []string{"status"} }},
		{"--dev x status", func(o *options) { o.mode, o.Dev, o.words = modeAsk, "x", []string{"status"} }},
		{"settle", func(o *options) { o.mode, o.words = modeAsk, []string{"settle", "120", "0.2"} }},
		{"settle 0.5 --quiet 0", func(o *options) { o.mode, o.quiet, o.words = modeAsk, "0", []string{"settle", "0.5", "0"} }},
		{"coldplug --quiet=1", func(o *options) { o.mode, o.quiet, o.words = modeAsk, "1", []string{"coldplug", "1"} }},
		{"wait /dev/sda", func(o *options) { o.mode, o.words = modeAsk, []string{"wait", "120", "/dev/sda"} }},
		{"wait UUID=1 sda --dev x 3", func(o *options) { o.mode, o.Dev, o.words = modeAsk, "x", []string{"wait", "3", "UUID=1", "sda"} }},
		{"ctl stop", func(o *options) { o.mode, o.words = modeAsk, []string{"stop"} }},
		{"ctl children-max 3", func(o *options) { o.mode, o.words = modeAsk, []string{"children-max", "3"} }},
		{"-ds", func(o *options) { o.mode = modeLoop }},
		{"-sd", func(o *options) { o.mode = modeLoop }},
		{"--check", func(o *options) { o.mode = modeCheck }},
		{"--plan", func(o *options) { o.mode = modePlan }},
		{"--plan sda", func(o *options) { o.mode, o.device = modePlan, "sda" }},
		{"--plan -v", func(o *options) { o.mode, o.Verbose = modePlan, true }},
		{"--plan --sys x", func(o *options) { o.mode, o.Sys = modePlan, "x" }},
		{"--plan /sys/x --sys x", func(o *options) { o.mode, o.device, o.Sys = modePlan, "/sys/x", "x" }},
	} {
		want := basic
		c.want(&want)
		if got, err := parseFresh(strings.Fields(c.args), nil); err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s: %+v, error %v, want %+v", c.args, got, err, want)
		}
	}
}

// TestParseEnviron shows that the environment which was given counts, and not that
// of the process.
func TestParseEnviron(t *testing.T) {
	if o, err := parseFresh([]string{"block"}, []string{"ACTION=add", "DEVPATH=/devices/x"}); err != nil || o.mode != modeHelper {
		t.Errorf("mode %v, error %v", o.mode, err)
	}
	t.Setenv("ACTION", "add")
	t.Setenv("DEVPATH", "/devices/x")
	if o, err := parseFresh(nil, nil); err != nil || o.mode != modeNone {
		t.Errorf("mode %v, error %v", o.mode, err)
	}
}

func TestScan(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "sda 0:0 640 >disk @echo $MDEV >>TMP/said\n")
	for range 2 {
		if o := b.do(nil, "-s"); o.code != exitDone || o.out+o.errors != "" {
			t.Errorf("%+v", o)
		}
		b.wantNodes("disk", "sda", "sda1", "tty0")
	}
	said, err := os.ReadFile(b.dir + "/said")
	if err != nil || string(said) != "disk\ndisk\n" {
		t.Errorf("the commands say %q, error %v", said, err)
	}
	hotplugtest.Must(t, os.RemoveAll(b.sys+"/devices/virtual"))
	hotplugtest.Must(t, os.Remove(b.sys+"/dev/char/4:0"))
	hotplugtest.Must(t, os.Mkdir(b.dev+"/wrong", 0o755))
	hotplugtest.WriteFile(t, b.conf, "sda 0:0 640 =wrong\nbad\n")
	o := b.do(nil, "-sv")
	if o.code != exitFailed {
		t.Errorf("%+v", o)
	}
	for _, want := range []string{"warning: " + b.conf + ":2:1: ", "error: failed: add /devices/pci0/block/sda: replace wrong: ", "info: done: remove /devices/virtual/tty/tty0"} {
		if !strings.Contains(o.errors, want) {
			t.Errorf("the log has no %q:\n%s", want, o.errors)
		}
	}
}

// TestHelper gives the program an event in its environment, as the kernel does.
func TestHelper(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "sda 0:0 640 >disk @echo $SEQNUM >>TMP/said\n")
	env := []string{"ACTION=add", "DEVPATH=/devices/pci0/block/sda", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0", "DEVNAME=sda"}
	if o := b.do(env); o.code != exitDone || o.out+o.errors != "" {
		t.Errorf("%+v", o)
	}
	b.wantNodes("disk", "sda")
	hotplugtest.WriteFile(t, b.dev+"/mdev.log", "")
	hotplugtest.Must(t, os.RemoveAll(b.sys+"/devices/pci0"))
	hotplugtest.Must(t, os.Remove(b.sys+"/dev/block/8:0"))
	env[0] = "ACTION=remove"
	o := do(t, append(env, "SEQNUM=17"), append(b.options(), "block")...)
	if o.code != exitDone || o.out+o.errors != "" {
		t.Errorf("%+v", o)
	}
	b.wantNodes("mdev.log")
	logger, err := os.ReadFile(b.dev + "/mdev.log")
	if err != nil || string(logger) != "17 devspool: info: done: remove /devices/pci0/block/sda\n" {
		t.Errorf("mdev.log holds %q, error %v", logger, err)
	}
}

// TestReady starts a loop whose scan takes a while, since a command runs: when it
// says that it is ready, all nodes are there and the command is done.
func TestReady(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "sda 0:0 660 @sleep 0.3; touch TMP/done\n")
	ready, to, err := os.Pipe()
	hotplugtest.Must(t, err)
	cmd := b.program("-f", "-D", "3")
	cmd.ExtraFiles = []*os.File{to}
	hotplugtest.Must(t, cmd.Start())
	to.Close()
	line, err := bufio.NewReader(ready).ReadString('\n')
	if line != "\n" || err != nil {
		t.Errorf("it says %q, error %v", line, err)
	}
	b.wantNodes("sda", "sda1", "tty0")
	if !b.has("done") {
		t.Error("the command of the scan is not done")
	}
	hotplugtest.Must(t, cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// has reports whether the board has a file of that name.
func (b *board) has(name string) bool {
	_, err := os.Stat(b.dir + "/" + name)
	return err == nil
}

// TestEndBeforeReady tells a loop to end while a command of its scan runs: it lets
// that end, begins no other, and ends well.
func TestEndBeforeReady(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "-sda 0:0 660 @touch TMP/begun; until test -e TMP/go; do sleep 0.01; done; touch TMP/done\nsda 0:0 660 @touch TMP/next\n")
	cmd := b.program("-f")
	hotplugtest.Must(t, cmd.Start())
	hotplugtest.Eventually(t, "the command", func() bool { return b.has("begun") })
	hotplugtest.Must(t, cmd.Process.Signal(syscall.SIGTERM))
	time.Sleep(time.Second) // for the signal
	hotplugtest.WriteFile(t, b.dir+"/go", "")
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	if !b.has("done") || b.has("next") {
		t.Errorf("done %v, next %v", b.has("done"), b.has("next"))
	}
}

// TestScanInCommand is about a rule whose command asks for a scan, while the loop
// that would do it waits for the command.
func TestScanInCommand(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	self, err := os.Executable()
	hotplugtest.Must(t, err)
	scan := asProgram + "=1 " + strings.Join(append([]string{self, "-s"}, b.options()...), " ")
	hotplugtest.WriteFile(t, b.conf, "timeout=5;sda 0:0 660 @test -e "+b.dir+"/once || { touch "+b.dir+"/once; "+scan+"; echo $? >"+b.dir+"/said; }\n")
	cmd := b.program("-f")
	var logger bytes.Buffer
	cmd.Stderr = &logger
	hotplugtest.Must(t, cmd.Start())
	hotplugtest.Eventually(t, "the end of the command", func() bool { return len(b.nodes()) == 3 }) // its partition waits for it
	hotplugtest.Must(t, cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if said, err := os.ReadFile(b.dir + "/said"); err != nil || string(said) != "0\n" {
		t.Errorf("the scan says %q, error %v; the log:\n%s", said, err, logger.String())
	}
}

// TestBackground starts a loop in the background: when the program returns, the
// nodes are there and the loop serves.
func TestBackground(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	ready, to, err := os.Pipe()
	hotplugtest.Must(t, err)
	defer ready.Close()
	cmd := b.program("-d", "-D", "12")
	for range 10 { // so that none of the program's own takes the last one's place
		cmd.ExtraFiles = append(cmd.ExtraFiles, to)
	}
	cmd.Stdout = os.Stdout // no pipe, for whose end Wait would wait
	hotplugtest.Must(t, cmd.Run())
	if line, err := bufio.NewReader(ready).ReadString('\n'); line != "\n" {
		t.Errorf("it says %q, error %v", line, err)
	}
	to.Close()
	b.wantNodes("sda", "sda1", "tty0")
	pids := running(t, b.dev)
	if len(pids) != 1 {
		t.Fatalf("processes %v", pids)
	}
	second := b.program("-d")
	second.Stderr = nil
	if err := second.Run(); err == nil || second.ProcessState.ExitCode() != exitFailed {
		t.Errorf("a second loop: %v", err)
	}
	hotplugtest.Must(t, os.Remove(b.dev+"/sda"))
	if o := b.do(nil, "-s"); o.code != exitDone {
		t.Errorf("%+v", o)
	}
	b.wantNodes("sda", "sda1", "tty0")
	hotplugtest.Must(t, unix.Kill(pids[0], unix.SIGTERM))
	hotplugtest.Eventually(t, "its end", func() bool { return len(running(t, b.dev)) == 0 })
}

// running returns the processes, but this one, that have word among their arguments.
func running(t *testing.T, word string) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	hotplugtest.Must(t, err)
	for _, file := range files {
		text, _ := os.ReadFile(file)
		if !slices.Contains(strings.Split(string(text), "\x00"), word) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(file, "/proc/%d/", &pid); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestAsUdevd shows what a command line of udevd's becomes, and that the process in the background
// does not start another one.
func TestAsUdevd(t *testing.T) {
	for line, want := range map[string]string{
		"udevd":                                   "udevd -f --udev",
		"udevd --daemon --resolve-names=never":    "udevd -d --udev",
		"udevd -d -D --children-max=3":            "udevd -d --udev -v -j3",
		"udevd -d --udev -f --detached":           "udevd -d --udev -f --detached",
		"systemd-udevd --help --daemon --unknown": "systemd-udevd --help",
	} {
		if got := strings.Join(asUdevd(strings.Fields(line)), " "); got != want {
			t.Errorf("%q becomes %q, want %q", line, got, want)
		}
	}
}
