package systemtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/kerneltest/build"
)

func TestMain(m *testing.M) { os.Exit(kerneltest.Main(m)) }

// The program's exit codes.
const (
	exitDone   = 0
	exitEvent  = 1
	exitConfig = 2
	exitUsage  = 100
	exitSystem = 111
)

// patience is how long a test waits for what should take no time at all, on a
// machine that is busy with other things.
const patience = 20 * time.Second

// jailed builds the program and moves the test into namespaces of its own, beside
// the others. It returns false in the process that is left behind.
func jailed(t *testing.T) bool {
	t.Helper()
	kerneltest.NeedRoot(t)
	kerneltest.Build(t)
	kerneltest.BuildHelper(t)
	kerneltest.BuildPackage(t, "hotplug/systemtest/testdata/witness", build.Options{Plain: true})
	return kerneltest.InNamespaces(t, kerneltest.Net|kerneltest.PID)
}

// board is what one device manager works on: a /dev, a sysfs of devices that do
// not exist, a config.
type board struct {
	*testing.T
	tree     *kerneltest.Tree
	dir      string // on a tmpfs, for whatever the test keeps
	dev      string
	conf     string
	firmware string
	program  string
	null     *os.File
	jail     *kerneltest.Jail // or nil; in it the program finds all in the usual places
	files    []*os.File       // a loop's descriptors from 4 on
	init     bool             // a loop is the first process of its namespace

	mu     sync.Mutex
	seqnum uint64
}

// New makes a board with an empty /dev and the given config.
func newBoard(t *testing.T, conf string) *board {
	t.Helper()
	dir := t.TempDir()
	kerneltest.MountTmpfs(t, dir)
	b := &board{
		T: t, dir: dir, program: kerneltest.Build(t),
		dev: filepath.Join(dir, "dev"), conf: filepath.Join(dir, "mdev.conf"), firmware: filepath.Join(dir, "firmware"),
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b.null = null
	t.Cleanup(func() { null.Close() })
	tree, err := kerneltest.NewTree(filepath.Join(dir, "sys"))
	if err != nil {
		t.Fatal(err)
	}
	b.tree = tree
	for _, sub := range []string{b.dev, b.firmware} {
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b.configure(conf)
	return b
}

// newJailedBoard makes a board on which the program works in a jail, without any
// option: on /dev, /sys, /etc/mdev.conf and /lib/firmware.
func newJailedBoard(t *testing.T, conf string) *board {
	t.Helper()
	b := newBoard(t, "")
	etc := filepath.Join(b.dir, "etc")
	if err := os.Mkdir(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	b.jail = kerneltest.NewJail(t, map[string]string{"/sys": b.tree.Dir, "/etc": etc})
	b.dev = b.jail.Dev
	b.conf = filepath.Join(etc, "mdev.conf")
	b.configure(conf)
	return b
}

// start starts a process of the board's.
func (b *board) start(cmd *exec.Cmd) error {
	if b.jail != nil {
		return b.jail.Start(cmd)
	}
	return cmd.Start()
}

// configure replaces the config.
func (b *board) configure(conf string) {
	b.Helper()
	b.write(b.conf, conf)
}

func (b *board) write(name, content string) {
	b.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		b.Fatal(err)
	}
}

func (b *board) read(name string) string {
	b.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		b.Fatal(err)
	}
	return string(text)
}

// add puts devices into the tree without telling anybody.
func (b *board) add(devices ...kerneltest.Device) {
	b.Helper()
	for _, d := range devices {
		b.plug(d)
	}
}

// plug adds a device and returns its event.
func (b *board) plug(d kerneltest.Device) kerneltest.Event {
	b.Helper()
	e, err := b.tree.Add(d)
	if err != nil {
		b.Fatal(err)
	}
	return e
}

// unplug removes a device and returns its event.
func (b *board) unplug(d kerneltest.Device) kerneltest.Event {
	b.Helper()
	e, err := b.tree.Remove(d.Devpath)
	if err != nil {
		b.Fatal(err)
	}
	return e
}

// result is what a finished process leaves.
type result struct {
	stdout, stderr string
	code           int
}

// roots are the options that lead the program to the board.
func (b *board) roots() []string {
	if b.jail != nil {
		return nil
	}
	return []string{"--dev", b.dev, "--sys", b.tree.Dir, "--conf", b.conf, "--firmware", b.firmware}
}

// command returns the program on this board, not yet started.
func (b *board) command(args ...string) *exec.Cmd {
	cmd := exec.Command(b.program, append(b.roots(), args...)...)
	cmd.Stdin, cmd.Stdout = b.null, b.null // a jail may have none to open
	return cmd
}

// run runs the program on this board.
func (b *board) run(args ...string) result {
	b.Helper()
	return b.finish(b.command(args...))
}

// finish runs a command and returns what it left. One that does not end is a failure.
func (b *board) finish(cmd *exec.Cmd) result {
	b.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	if err := b.start(cmd); err != nil {
		b.Fatal(err)
	}
	return await(b, cmd, &stdout, &stderr)
}

func await(t testing.TB, cmd *exec.Cmd, stdout, stderr *bytes.Buffer) result {
	t.Helper()
	late := time.AfterFunc(2*patience, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	if !late.Stop() {
		t.Errorf("%q did not end; stderr:\n%s", cmd.Args, stderr)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Errorf("%q: %v", cmd.Args, err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// must fails the test unless the program ended well.
func (b *board) must(r result) {
	b.Helper()
	if r.code != exitDone {
		b.Errorf("exit code %d; stderr:\n%s", r.code, r.stderr)
	}
}

// scan runs a coldplug that must end well.
func (b *board) scan() {
	b.Helper()
	b.must(b.run("-s"))
}

// nextSeqnum numbers events as the kernel does.
func (b *board) nextSeqnum() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seqnum++
	return b.seqnum
}

// helper returns the process that the kernel would start for e, not yet started.
// Outside a jail it is one that a script would start, since it needs options.
func (b *board) helper(e kerneltest.Event) *exec.Cmd {
	cmd := b.command()
	if b.jail != nil {
		cmd = exec.Command(kerneltest.BuildHelper(b.T), e.Subsystem())
		cmd.Stdin, cmd.Stdout = b.null, b.null
	}
	cmd.Env = e.Environ(b.nextSeqnum())
	return cmd
}

// tell runs the helper for e, which must end well.
func (b *board) tell(e kerneltest.Event) {
	b.Helper()
	b.must(b.finish(b.helper(e)))
}

// transcript is what a process says, to be read while it runs.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// loop is a running loop.
type loop struct {
	*board
	cmd    *exec.Cmd
	stderr *transcript
	inject *kerneltest.Injector
}

// startLoop starts the program's loop and returns when it says that it is ready.
func (b *board) startLoop(args ...string) *loop {
	b.Helper()
	return b.startLoopTo(b.null, args...)
}

// startLoopTo starts a loop that writes its table to stdout.
func (b *board) startLoopTo(stdout *os.File, args ...string) *loop {
	b.Helper()
	ready, write, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	defer ready.Close()
	in, err := kerneltest.NewInjector()
	if err != nil {
		b.Fatal(err)
	}
	l := &loop{board: b, stderr: new(transcript), inject: in}
	l.cmd = b.command(append([]string{"-df", "-D", "3"}, args...)...)
	l.cmd.Stdout = stdout
	l.cmd.ExtraFiles = append([]*os.File{write}, b.files...)
	l.cmd.Stderr = l.stderr
	l.cmd.WaitDelay = time.Second
	if b.init {
		l.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	}
	if err := b.start(l.cmd); err != nil {
		b.Fatal(err)
	}
	write.Close()
	b.Cleanup(func() { l.kill(); in.Close() })
	_ = ready.SetReadDeadline(time.Now().Add(patience))
	if line, err := bufio.NewReader(ready).ReadString('\n'); err != nil {
		l.kill()
		b.Fatalf("the loop did not get ready: %q, %v; stderr:\n%s", line, err, l.stderr)
	}
	return l
}

// kill ends the loop at once, as a crash would.
func (l *loop) kill() {
	_ = l.cmd.Process.Kill()
	_ = l.cmd.Wait()
}

// stop ends the loop as init would, and returns its exit code.
func (l *loop) stop() int {
	l.Helper()
	_ = l.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(patience, func() { _ = l.cmd.Process.Kill() })
	defer late.Stop()
	_ = l.cmd.Wait()
	return l.cmd.ProcessState.ExitCode()
}

// send injects an event that the loop receives as the kernel's.
func (l *loop) send(e kerneltest.Event) {
	l.Helper()
	if err := l.inject.Inject(e); err != nil {
		kerneltest.Cannot(l, "%v", err)
	}
}

// snapshot returns what is in the board's /dev.
func (b *board) snapshot() []string {
	b.Helper()
	lines, err := kerneltest.Snapshot(b.dev, "events") // where clients' queues are
	if err != nil {
		b.Fatal(err)
	}
	return lines
}

// fresh returns what a coldplug makes of the same devices in an empty /dev.
func (b *board) fresh() []string {
	b.Helper()
	dev, err := os.MkdirTemp(b.dir, "fresh")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dev)
	other := &board{T: b.T, tree: b.tree, dir: b.dir, dev: dev, conf: b.conf, firmware: b.firmware, program: b.program, null: b.null}
	other.scan()
	return other.snapshot()
}

// likeFresh fails unless /dev is, or soon becomes, what a fresh coldplug makes.
func (b *board) likeFresh(after string) {
	b.Helper()
	want := b.fresh()
	var diff string
	ok := kerneltest.Eventually(patience, func() bool {
		diff = kerneltest.Diff(want, b.snapshot())
		return diff == ""
	})
	if !ok {
		b.Fatalf("after %s /dev is not what a fresh coldplug makes (-coldplug +found):\n%s", after, head(diff, 40))
	}
}

// has fails unless /dev holds exactly these lines, or soon does.
func (b *board) has(want ...string) {
	b.Helper()
	var diff string
	ok := kerneltest.Eventually(patience, func() bool {
		diff = kerneltest.Diff(want, b.snapshot())
		return diff == ""
	})
	if !ok {
		b.Fatalf("/dev differs (-want +found):\n%s", diff)
	}
}

// head returns the first lines of a long text.
func head(text string, lines int) string {
	all := strings.SplitAfter(text, "\n")
	if len(all) <= lines {
		return text
	}
	return strings.Join(all[:lines], "") + "… and " + strconv.Itoa(len(all)-lines) + " lines more\n"
}

// testimony is what the witness wrote of one command.
type testimony struct {
	Args  []string
	Dir   string
	Umask int
	Env   []string
}

// get returns a variable of the command's environment.
func (y testimony) get(key string) string {
	for _, kv := range y.Env {
		if value, ok := strings.CutPrefix(kv, key+"="); ok {
			return value
		}
	}
	return ""
}

// witness returns the words that a rule runs the witness with, and its file.
func (b *board) witness(name string) (words, file string) {
	file = filepath.Join(b.dir, name)
	return kerneltest.BuildPackage(b.T, "hotplug/systemtest/testdata/witness", build.Options{Plain: true}) + " " + file, file
}

// testimonies reads what witnesses wrote so far.
func (b *board) testimonies(file string) []testimony {
	b.Helper()
	text, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		b.Fatal(err)
	}
	var all []testimony
	for line := range strings.Lines(string(text)) {
		var y testimony
		if !strings.HasSuffix(line, "\n") {
			break // still being written
		}
		if err := json.Unmarshal([]byte(line), &y); err != nil {
			b.Fatalf("%v: %s", err, line)
		}
		all = append(all, y)
	}
	return all
}

// disk returns the n-th of a great many disks.
func disk(n int) kerneltest.Device {
	name := "sd" + letters(n)
	return kerneltest.Device{
		Devpath:   hosts + strconv.Itoa(n/16) + "/target" + strconv.Itoa(n) + "/block/" + name,
		Subsystem: "block", Devname: name, Devtype: "disk", Block: true, Major: 8, Minor: uint32(16 * n),
		Extra: []string{"DISKSEQ=" + strconv.Itoa(n+1)},
	}
}

// partition returns the p-th partition of a disk.
func partition(of kerneltest.Device, p int) kerneltest.Device {
	name := of.Devname + strconv.Itoa(p)
	return kerneltest.Device{
		Devpath: of.Devpath + "/" + name, Subsystem: "block", Devname: name, Devtype: "partition",
		Block: true, Major: of.Major, Minor: of.Minor + uint32(p), Extra: []string{"PARTN=" + strconv.Itoa(p)},
	}
}

// terminal returns the n-th of many serial ports.
func terminal(n int) kerneltest.Device {
	name := "ttyS" + strconv.Itoa(n)
	return kerneltest.Device{
		Devpath: "/devices/platform/serial8250/tty/" + name, Subsystem: "tty", Devname: name, Major: 204, Minor: uint32(n),
	}
}

// input returns the n-th of many input devices, which have nested names.
func input(n int) kerneltest.Device {
	name := "event" + strconv.Itoa(n)
	return kerneltest.Device{
		Devpath: "/devices/virtual/input/input" + strconv.Itoa(n) + "/" + name, Subsystem: "input", Devname: "input/" + name,
		Major: 13, Minor: uint32(64 + n),
	}
}

// letters counts a, b, … z, aa, ab as the kernel names disks.
func letters(n int) string {
	if n < 26 {
		return string(rune('a' + n))
	}
	return letters(n/26-1) + string(rune('a'+n%26))
}

// number reads a decimal number.
func number(t testing.TB, text string) uint32 {
	t.Helper()
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

// seed returns the seed of a test's random choices and says it in the log.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := rand.Uint64()
	if said := os.Getenv("DEVSPOOL_SEED"); said != "" {
		n, err := strconv.ParseUint(said, 10, 64)
		if err != nil {
			t.Fatalf("DEVSPOOL_SEED: %v", err)
		}
		s = n
	}
	t.Logf("DEVSPOOL_SEED=%d", s)
	return s
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }
