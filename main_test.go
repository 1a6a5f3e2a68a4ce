package main

import (
	"bufio"
	"bytes"
	"flag"
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
)

var update = flag.Bool("update", false, "write the golden files anew")

// asProgram is the variable that makes the test binary the program itself.
const asProgram = "DEVSPOOL_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

const patience = 20 * time.Second

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	line := "NOT TESTED: " + t.Name() + ": needs root, to make device nodes"
	if os.Getenv("DEVSPOOL_TEST_ALL") == "1" {
		t.Fatal(line)
	}
	t.Skip(line)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not after %v", what, patience)
		}
	}
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
			must(t, err)
			saved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
			must(t, err)
			must(t, unix.Dup3(int(file.Fd()), fd, 0))
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
		must(t, err)
		*text = string(data)
	}
	if o.panicked != nil {
		t.Errorf("%q: it panics: %v", args, o.panicked)
	}
	return o
}

// golden compares text with a file in testdata.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		must(t, os.WriteFile(path, []byte(text), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if text != string(want) {
		t.Errorf("%s differs; got\n%s", path, text)
	}
}

// board has what the options name: a /dev, a /sys, a config.
type board struct {
	*testing.T
	dir, dev, sys, conf string
}

// New makes a board with a disk, a partition, a tty and a network interface.
func newBoard(t *testing.T, config string) *board {
	t.Helper()
	dir := t.TempDir()
	b := &board{t, dir, filepath.Join(dir, "dev"), filepath.Join(dir, "sys"), filepath.Join(dir, "mdev.conf")}
	for _, d := range []string{b.dev, b.sys + "/devices", b.sys + "/dev/block", b.sys + "/dev/char", b.sys + "/class"} {
		must(t, os.MkdirAll(d, 0o755))
	}
	b.write(b.conf, strings.ReplaceAll(config, "TMP", dir))
	b.device("/devices/pci0/block/sda", "block", "8:0", "DEVTYPE=disk")
	b.device("/devices/pci0/block/sda/sda1", "block", "8:1", "DEVTYPE=partition")
	b.device("/devices/virtual/tty/tty0", "tty", "4:0", "DEVMODE=0620")
	b.device("/devices/pci0/net/eth0", "net", "", "INTERFACE=eth0")
	return b
}

func (b *board) write(path, text string) {
	b.Helper()
	must(b.T, os.MkdirAll(filepath.Dir(path), 0o755))
	must(b.T, os.WriteFile(path, []byte(text), 0o644))
}

// device adds a device to the tree that stands for /sys.
func (b *board) device(devpath, subsystem, numbers string, lines ...string) {
	b.Helper()
	name := filepath.Base(devpath)
	if major, minor, has := strings.Cut(numbers, ":"); has {
		kind := map[bool]string{true: "block", false: "char"}[subsystem == "block"]
		b.write(b.sys+devpath+"/dev", numbers+"\n")
		must(b.T, os.Symlink("../.."+devpath, b.sys+"/dev/"+kind+"/"+numbers))
		lines = append([]string{"MAJOR=" + major, "MINOR=" + minor, "DEVNAME=" + name}, lines...)
	}
	b.write(b.sys+devpath+"/uevent", strings.Join(lines, "\n")+"\n")
	must(b.T, os.MkdirAll(b.sys+"/class/"+subsystem, 0o755))
	must(b.T, os.Symlink("../.."+devpath, b.sys+"/class/"+subsystem+"/"+name))
	must(b.T, os.Symlink(strings.Repeat("../", strings.Count(devpath, "/"))+"class/"+subsystem, b.sys+devpath+"/subsystem"))
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
	must(b.T, err)
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
	must(b.T, err)
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

func TestUsage(t *testing.T) { golden(t, "usage.txt", do(t, nil, "--help").out) }

// TestManPage shows that docs/devspool.8 has an entry for each option and each request that
// help shows, and for none besides.
func TestManPage(t *testing.T) {
	text, err := os.ReadFile("docs/devspool.8")
	must(t, err)
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
		{args: "--version", out: "devspool " + version + "\n"},
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
	needRoot(t)
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
	must(t, os.RemoveAll(b.sys+"/devices/virtual"))
	must(t, os.Remove(b.sys+"/dev/char/4:0"))
	must(t, os.Mkdir(b.dev+"/wrong", 0o755))
	b.write(b.conf, "sda 0:0 640 =wrong\nbad\n")
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

func TestDryRun(t *testing.T) {
	b := newBoard(t, "sda 0:0 640 >disk @touch TMP/said\n")
	for _, c := range []struct {
		environ []string
		args    string
		rows    int // of the table
	}{
		{nil, "-snt", 4},
		{[]string{"ACTION=add", "DEVPATH=/devices/pci0/block/sda", "SEQNUM=7"}, "-nt", 2},
	} {
		o := b.do(c.environ, c.args)
		if rows := strings.Count(o.out, "\n"); o.code != exitDone || rows != c.rows || !strings.Contains(o.out, "sda -> disk") {
			t.Errorf("%s: %+v", c.args, o)
		}
	}
	entries, err := os.ReadDir(b.dev)
	if err != nil || len(entries) > 0 {
		t.Errorf("/dev holds %v, error %v", entries, err)
	}
	if _, err := os.Stat(b.dir + "/said"); err == nil {
		t.Error("a command ran")
	}
}

// TestPlan compares what is printed for devices with golden files.
func TestPlan(t *testing.T) {
	b := newBoard(t, "-tag=card;sda.* 0:6 640 >disk/ @logger $MDEV\n-if_exists=mask;timeout=5;sda 0:6 640 *sync\n$INTERFACE=eth.* 0:0 660 @ifup $INTERFACE\n")
	for _, c := range []struct {
		name   string
		action string
		args   []string
	}{
		{"plan-all.txt", "", nil},
		{"plan-remove.txt", "ACTION=remove", []string{"/devices/pci0/block/sda"}},
		{"plan-class.txt", "", []string{b.sys + "/class/net/eth0"}},
	} {
		var environ []string
		if c.action != "" {
			environ = []string{c.action}
		}
		o := b.do(environ, append([]string{"--plan"}, c.args...)...)
		if o.code != exitDone || o.errors != "" {
			t.Errorf("%s: %+v", c.name, o)
		}
		golden(t, c.name, strings.ReplaceAll(o.out, b.conf, "mdev.conf"))
	}
	o := b.do(nil, "--plan", "/devices/nothing")
	if o.code != exitFailed || o.out != "" || !strings.HasPrefix(o.errors, "devspool: error: ") || !strings.Contains(o.errors, "/devices/nothing: no such file") {
		t.Errorf("a device that is not there: %+v", o)
	}
	entries, err := os.ReadDir(b.dev)
	if err != nil || len(entries) > 0 {
		t.Errorf("/dev holds %v, error %v", entries, err)
	}
}

func TestCheck(t *testing.T) {
	b := newBoard(t, "sda 0:0 660\nbad\nsd( 0:0 660\nsda 0:0 999\nsda 0:0 660 =../x\n.* 0:0 660 hello\n")
	o := b.do(nil, "--check")
	if o.code != exitConfig || o.errors != "" {
		t.Errorf("%+v", o)
	}
	golden(t, "check.txt", strings.ReplaceAll(o.out, b.conf, "mdev.conf"))
	b.write(b.conf, conf.Default)
	if o := b.do(nil, "--check"); o.code != exitDone || o.out+o.errors != "" {
		t.Errorf("the default config: %+v", o)
	}
}

// TestHelper gives the program an event in its environment, as the kernel does.
func TestHelper(t *testing.T) {
	needRoot(t)
	b := newBoard(t, "sda 0:0 640 >disk @echo $SEQNUM >>TMP/said\n")
	env := []string{"ACTION=add", "DEVPATH=/devices/pci0/block/sda", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0", "DEVNAME=sda"}
	if o := b.do(env); o.code != exitDone || o.out+o.errors != "" {
		t.Errorf("%+v", o)
	}
	b.wantNodes("disk", "sda")
	b.write(b.dev+"/mdev.log", "")
	must(t, os.RemoveAll(b.sys+"/devices/pci0"))
	must(t, os.Remove(b.sys+"/dev/block/8:0"))
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
	needRoot(t)
	b := newBoard(t, "sda 0:0 660 @sleep 0.3; touch TMP/done\n")
	ready, to, err := os.Pipe()
	must(t, err)
	cmd := b.program("-f", "-D", "3")
	cmd.ExtraFiles = []*os.File{to}
	must(t, cmd.Start())
	to.Close()
	line, err := bufio.NewReader(ready).ReadString('\n')
	if line != "\n" || err != nil {
		t.Errorf("it says %q, error %v", line, err)
	}
	b.wantNodes("sda", "sda1", "tty0")
	if !b.has("done") {
		t.Error("the command of the scan is not done")
	}
	must(t, cmd.Process.Signal(syscall.SIGTERM))
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
	needRoot(t)
	b := newBoard(t, "-sda 0:0 660 @touch TMP/begun; until test -e TMP/go; do sleep 0.01; done; touch TMP/done\nsda 0:0 660 @touch TMP/next\n")
	cmd := b.program("-f")
	must(t, cmd.Start())
	eventually(t, "the command", func() bool { return b.has("begun") })
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	time.Sleep(200 * time.Millisecond) // for the signal
	b.write(b.dir+"/go", "")
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
	needRoot(t)
	b := newBoard(t, "")
	self, err := os.Executable()
	must(t, err)
	scan := asProgram + "=1 " + strings.Join(append([]string{self, "-s"}, b.options()...), " ")
	b.write(b.conf, "timeout=5;sda 0:0 660 @test -e "+b.dir+"/once || { touch "+b.dir+"/once; "+scan+"; echo $? >"+b.dir+"/said; }\n")
	cmd := b.program("-f")
	var logger bytes.Buffer
	cmd.Stderr = &logger
	must(t, cmd.Start())
	eventually(t, "the end of the command", func() bool { return len(b.nodes()) == 3 }) // its partition waits for it
	must(t, cmd.Process.Signal(syscall.SIGTERM))
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
	needRoot(t)
	b := newBoard(t, "")
	ready, to, err := os.Pipe()
	must(t, err)
	defer ready.Close()
	cmd := b.program("-d", "-D", "12")
	for range 10 { // so that none of the program's own takes the last one's place
		cmd.ExtraFiles = append(cmd.ExtraFiles, to)
	}
	cmd.Stdout = os.Stdout // no pipe, for whose end Wait would wait
	must(t, cmd.Run())
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
	must(t, os.Remove(b.dev+"/sda"))
	if o := b.do(nil, "-s"); o.code != exitDone {
		t.Errorf("%+v", o)
	}
	b.wantNodes("sda", "sda1", "tty0")
	must(t, unix.Kill(pids[0], unix.SIGTERM))
	eventually(t, "its end", func() bool { return len(running(t, b.dev)) == 0 })
}

// running returns the processes, but this one, that have word among their arguments.
func running(t *testing.T, word string) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
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
