package handoff_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/handoff"
	"devspool/hotplug/kerneltest"
	"devspool/hotplug/kerneltest/build"
	"devspool/nodes"
)

// machines are the architectures that have an entry, with their emulators.
var machines = []struct{ arch, emulator string }{
	{"amd64", "qemu-x86_64-static"},
	{"arm64", "qemu-aarch64-static"},
	{"arm", "qemu-arm-static"},
	{"386", "qemu-i386-static"},
	{"riscv64", "qemu-riscv64-static"},
	{"mipsle", "qemu-mipsel-static"},
	{"mips", "qemu-mips-static"},
}

// patience is how long a test waits for what should take no time at all.
const patience = 20 * time.Second

// fifo is where the kernel's helpers look for a server.
const fifo = handoff.Path

// call is how a program is started, and what is to come of it.
type call struct {
	name    string
	args    []string
	env     []string
	closed  bool // without descriptors 0 to 2
	reaches bool // it gets as far as its main
	twice   bool // its environment has a variable twice, which QEMU would leave out
}

// event is what a kernel says.
var event = kerneltest.Event{Action: "add", Devpath: "/devices/virtual/mem/null", Vars: []string{
	"SUBSYSTEM=mem", "MAJOR=1", "MINOR=3", "DEVNAME=null", "DEVMODE=0666", "EMPTY=", "NEWLINE=a\nb",
}}.Environ(4711)

func without(key string) []string {
	return slices.DeleteFunc(slices.Clone(event), func(kv string) bool { return strings.HasPrefix(kv, key+"=") })
}

func with(kvs ...string) []string { return append(slices.Clone(event), kvs...) }

var mem = []string{"mem"}

// calls are made with a server there.
var calls = []call{
	{name: "a kernel's", args: mem, env: event},
	{name: "a kernel's, without descriptors", args: mem, env: event, closed: true},
	{name: "as much as goes", args: mem, env: with(filler(handoff.MaxRecord - handoff.HeaderSize))},
	{name: "more than goes", args: mem, env: with(filler(handoff.MaxRecord - handoff.HeaderSize + 1)), reaches: true},
	{name: "a huge environment", args: mem, env: with(filler(100_000)), reaches: true},
	{name: "no environment", args: mem, reaches: true},
	{name: "no environment, no descriptors", args: mem, closed: true, reaches: true},
	{name: "no argument", env: event, reaches: true},
	{name: "an option", args: []string{"-v", "mem"}, env: event, reaches: true},
	{name: "another argument", args: []string{"memo"}, env: event, reaches: true},
	{name: "a part of the argument", args: []string{"me"}, env: event, reaches: true},
	{name: "an empty argument", args: []string{""}, env: event, reaches: true},
	{name: "a command's", args: mem, env: with(handoff.Marker), reaches: true},
	{name: "no ACTION", args: mem, env: without("ACTION"), reaches: true},
	{name: "no DEVPATH", args: mem, env: without("DEVPATH"), reaches: true},
	{name: "no SEQNUM", args: mem, env: without("SEQNUM"), reaches: true},
	{name: "no SUBSYSTEM", args: mem, env: without("SUBSYSTEM"), reaches: true},
	{name: "a variable twice", args: mem, env: with("TYPE=1", "TYPE=2", "TYPE=1"), twice: true},
	{name: "no argument, a variable twice", env: with("TYPE=1", "TYPE=2", "TYPE=1"), twice: true, reaches: true},
}

// filler is a variable that makes the event's block as long as size.
func filler(size int) string {
	return "FILL=" + strings.Repeat("x", size-len(strings.Join(event, "\x00"))-len("\x00FILL=\x00"))
}

// TestEntry starts a program on every architecture in every way, under emulation
// where need be.
func TestEntry(t *testing.T) {
	kerneltest.NeedRoot(t)
	probes := map[string]string{}
	for _, m := range machines {
		for kind, flags := range map[string][]string{"": {handoff.AnyParent}, released: nil} {
			name := "DEVSPOOL_PROBE_" + m.arch + kind
			if os.Getenv(name) == "" {
				os.Setenv(name, buildProbe(t, m.arch, flags))
			}
			probes[m.arch+kind] = os.Getenv(name)
		}
	}
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	if err := os.Mkdir(filepath.Dir(fifo), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, m := range machines {
		t.Run(m.arch, func(t *testing.T) {
			p := probe{T: t, command: []string{probes[m.arch]}}
			if m.arch != runtime.GOARCH && !(m.arch == "386" && runtime.GOARCH == "amd64") {
				p.command = []string{kerneltest.Need(t, m.emulator), probes[m.arch]}
			}
			p.order = binary.LittleEndian
			if m.arch == "mips" {
				p.order = binary.BigEndian
			}
			for _, c := range calls {
				if c.twice && len(p.command) > 1 {
					continue
				}
				t.Run(c.name, func(t *testing.T) { p.with(t).offered(c) })
				c.reaches = true
				t.Run(c.name+", no server", func(t *testing.T) { p.with(t).alone(c) })
			}
			t.Run("full", func(t *testing.T) { p.with(t).full() })
			t.Run("left", func(t *testing.T) { p.with(t).left() })
			t.Run("died", func(t *testing.T) { p.with(t).died() })
			t.Run("no FIFO", func(t *testing.T) { p.with(t).file() })
			p.command[len(p.command)-1] = probes[m.arch+released]
			for _, c := range calls {
				if c.twice && len(p.command) > 1 {
					continue
				}
				c.reaches = true
				t.Run(c.name+", not the kernel's", func(t *testing.T) { p.with(t).offered(c) })
			}
		})
	}
}

// released marks the probe that takes nobody for the kernel but the kernel. The other
// takes this test for it.
const released = "_released"

func buildProbe(t *testing.T, arch string, flags []string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "probe-"+arch)
	if err := build.Program(path, "./hotplug/handoff/testdata/probe", build.Options{Arch: arch, Link: flags}); err != nil {
		t.Fatal(err)
	}
	return path
}

// probe is the program on one architecture.
type probe struct {
	*testing.T
	command []string // the emulator, where there is one, and the program
	order   binary.AppendByteOrder
}

func (p probe) with(t *testing.T) probe { p.T = t; return p }

// running is a program that was started.
type running struct {
	pid    int
	report *os.File
}

// start starts the program.
func (p probe) start(c call) running {
	p.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		null, err = os.Open("/proc/self/status") // nothing is read from it
	}
	if err != nil {
		p.Fatal(err)
	}
	defer null.Close()
	report, end, err := os.Pipe()
	if err != nil {
		p.Fatal(err)
	}
	defer end.Close()
	files := []uintptr{null.Fd(), null.Fd(), null.Fd(), end.Fd()}
	if c.closed {
		files = []uintptr{^uintptr(0), ^uintptr(0), ^uintptr(0), end.Fd()}
	}
	env := slices.Clone(c.env)
	if len(p.command) > 1 {
		slices.Reverse(env) // QEMU turns it round again
	}
	pid, err := syscall.ForkExec(p.command[0], append(slices.Clone(p.command), c.args...), &syscall.ProcAttr{Env: env, Files: files})
	if err != nil {
		p.Fatal(err)
	}
	return running{pid, report}
}

// ends waits for the end, and checks that the program reached its main or not, and
// that it found there what it was started with.
func (p probe) ends(r running, c call) {
	p.Helper()
	text, err := io.ReadAll(r.report)
	if err != nil {
		p.Fatal(err)
	}
	r.report.Close()
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(r.pid, &status, 0, nil); err != nil {
		p.Fatal(err)
	}
	code := 0
	if c.reaches {
		code = 7
	}
	if !status.Exited() || status.ExitStatus() != code {
		p.Fatalf("status %x, want exit code %d", status, code)
	}
	if !c.reaches {
		return
	}
	var got struct {
		Args, Env, Open []string
		Ignored         string
	}
	if err := json.Unmarshal(text, &got); err != nil {
		p.Fatal(err)
	}
	if !slices.Equal(got.Args, c.args) || !slices.Equal(got.Env, c.env) {
		p.Errorf("arguments %q, environment %q; want %q, %q", got.Args, got.Env, c.args, c.env)
	}
	want := "other"
	if c.closed {
		want = "directory"
	}
	if !slices.Equal(got.Open, []string{want, want, want}) {
		p.Errorf("descriptors 0 to 2: %q, want %q", got.Open, want)
	}
	const sigpipe = 1 << (syscall.SIGPIPE - 1)
	var ignored uint64
	if _, err := fmt.Sscanf(got.Ignored, "%x", &ignored); err != nil || ignored&sigpipe != 0 {
		p.Errorf("ignored signals: %s, %v", got.Ignored, err)
	}
}

// serve makes the FIFO, and opens it as a server does.
func (p probe) serve() *os.File {
	p.Helper()
	os.Remove(fifo)
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		p.Fatal(err)
	}
	file, err := os.OpenFile(fifo, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { file.Close(); os.Remove(fifo) })
	return file
}

// offered starts the program where there is a server.
func (p probe) offered(c call) {
	file := p.serve()
	p.ends(p.start(c), c)
	if got, want := drain(p.T, file), p.record(c.env); !c.reaches && got != want || c.reaches && got != "" {
		p.Errorf("the server reads %q, want %q", got, want)
	}
}

// alone starts it where there is none.
func (p probe) alone(c call) {
	os.Remove(fifo)
	p.ends(p.start(c), c)
}

// record is what the server is to read.
func (p probe) record(env []string) string {
	block := strings.Join(env, "\x00") + "\x00"
	header := p.order.AppendUint32(nil, handoff.Magic)
	return string(p.order.AppendUint32(header, uint32(len(block)))) + block
}

// drain reads what there is in a FIFO.
func drain(t *testing.T, file *os.File) string {
	t.Helper()
	var all []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(int(file.Fd()), buf)
		if err != nil || n == 0 {
			return string(all)
		}
		all = append(all, buf[:n]...)
	}
}

// stuff fills the FIFO, starts the program, and waits until that has opened it.
func (p probe) stuff(file *os.File, c call) running {
	p.Helper()
	fd := int(file.Fd())
	if err := unix.SetNonblock(fd, true); err != nil { // File.Fd made it wait
		p.Fatal(err)
	}
	for err := error(nil); err == nil; {
		_, err = unix.Write(fd, make([]byte, 4096))
	}
	r := p.start(c)
	kerneltest.Until(p.T, patience, "the program to open the FIFO", func() bool {
		links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", r.pid))
		return slices.ContainsFunc(links, func(link string) bool {
			target, _ := os.Readlink(link)
			return target == fifo
		})
	})
	return r
}

// full has no room in the FIFO for a while.
func (p probe) full() {
	file := p.serve()
	c := call{args: mem, env: event}
	r := p.stuff(file, c)
	got := drain(p.T, file)
	p.ends(r, c)
	if got += drain(p.T, file); !strings.HasSuffix(got, "\x00"+p.record(event)) {
		p.Errorf("the server does not read the record, but %d bytes", len(got))
	}
}

// left has the server leave while the program waits for room.
func (p probe) left() {
	file := p.serve()
	c := call{args: mem, env: event, reaches: true}
	r := p.stuff(file, c)
	if err := os.Remove(fifo); err != nil {
		p.Fatal(err)
	}
	drain(p.T, file)
	p.ends(r, c)
}

// died has it die.
func (p probe) died() {
	file := p.serve()
	c := call{args: mem, env: event, reaches: true}
	r := p.stuff(file, c)
	file.Close()
	p.ends(r, c)
}

// file has a file where the FIFO should be.
func (p probe) file() {
	if err := os.WriteFile(fifo, nil, 0o600); err != nil {
		p.Fatal(err)
	}
	defer os.Remove(fifo)
	c := call{args: mem, env: event, reaches: true}
	p.ends(p.start(c), c)
}

// TestPath has the directory where package nodes makes it.
func TestPath(t *testing.T) {
	if filepath.Dir(handoff.Path) != "/dev/"+nodes.Private {
		t.Errorf("%s is not in /dev/%s", handoff.Path, nodes.Private)
	}
}

// TestFromKernel agrees with what the entry makes of each call.
func TestFromKernel(t *testing.T) {
	for _, c := range calls {
		size := len(strings.Join(c.env, "\x00")) + 1
		if got, want := handoff.FromKernel(append([]string{"hotplug"}, c.args...), c.env), !c.reaches; got != want && size <= 4000 {
			t.Errorf("%s: %v, want %v", c.name, got, want)
		}
	}
}
