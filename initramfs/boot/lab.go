package boot

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"devspool/hotplug/kerneltest/build"
	"devspool/initramfs"
)

// Lab holds what several boots have in common: an image of the programs, packed
// once, to which each boot adds its own.
type Lab struct {
	guest bool
	image string
	dir   string // of the programs
	board board  // of a foreign lab
}

// busybox is the static one that gives the image its shell.
const busybox = "/bin/busybox"

// NewLab builds the programs. The environment variable DEVSPOOL_BINARY names one
// to boot instead of what the module's source makes.
func NewLab(t *testing.T) *Lab {
	t.Helper()
	if inGuest() {
		return &Lab{guest: true}
	}
	needs(t, "boots", "go")
	needs(t, "boots", busybox)
	dir := t.TempDir()
	// The guest has no C library, so what runs there is built without cgo even
	// where the tests themselves are built with it, for the race detector.
	initBinary := filepath.Join(dir, "init")
	program(t, initBinary, "./initramfs/boot", build.Options{Test: true})
	devspool := os.Getenv("DEVSPOOL_BINARY")
	if devspool == "" {
		devspool = filepath.Join(dir, "devspool")
		program(t, devspool, ".", build.Options{})
	}
	l := &Lab{image: filepath.Join(dir, "image"), dir: dir}
	err := create(l.image, func(w io.Writer) error { return initramfs.Archive(w, programs(initBinary, devspool)...) })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// NewForeignLab is NewLab for a kernel of another architecture, into a Root: the packer builds
// the program, and there is no shell.
func NewForeignLab(t *testing.T, k Kernel) *Lab {
	t.Helper()
	if inGuest() {
		return &Lab{guest: true}
	}
	l := &Lab{dir: t.TempDir(), board: boards[k]}
	program(t, filepath.Join(l.dir, "init"), "./initramfs/boot", build.Options{Test: true, Plain: true, Arch: l.board.arch, Environ: l.board.environ})
	return l
}

// programs is what every boot has.
func programs(initBinary, devspool string) []initramfs.Entry {
	return []initramfs.Entry{
		initramfs.File{Path: "init", Mode: 0o755, Source: initBinary},
		initramfs.File{Path: "sbin/devspool", Mode: 0o755, Source: devspool},
		initramfs.File{Path: "bin/busybox", Mode: 0o755, Source: busybox},
		initramfs.Symlink{Path: "bin/sh", Target: "busybox"},
		initramfs.Dir{Path: "proc", Mode: 0o555},
		initramfs.Dir{Path: "sys", Mode: 0o555},
		initramfs.Dir{Path: "run", Mode: 0o755},
		initramfs.Dir{Path: "tmp", Mode: 0o1777},
		initramfs.Dir{Path: "etc", Mode: 0o755},
	}
}

// create writes a new file.
func create(path string, write func(io.Writer) error) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return write(file)
}

// program builds a program for the image.
func program(t *testing.T, out, what string, o build.Options) {
	t.Helper()
	if err := build.Program(out, what, o); err != nil {
		t.Fatal(err)
	}
}

// Run boots a kernel in which the test that t is calls guest. Inside of that
// kernel it is the call that calls guest.
func (l *Lab) Run(t *testing.T, o Options, guest func(*Guest)) {
	t.Helper()
	if l.guest {
		guest(&Guest{T: t})
		if !t.Failed() {
			fmt.Println("\n" + lineRan + t.Name())
		}
		return
	}
	o = o.withDefaults()
	m := o.Kernel.machine(t)
	image := filepath.Join(t.TempDir(), "image")
	if o.Root != nil {
		l.packRoot(t, image, m, &o)
	} else if err := l.pack(image, m, o); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	console, err := m.boot(image, t.Name(), o)
	t.Logf("boot of %s: %v", m.kernel, time.Since(start).Round(10*time.Millisecond))
	report(t, console, err)
}

func (o Options) withDefaults() Options {
	if o.Memory == 0 {
		o.Memory = 256
	}
	if o.Timeout == 0 {
		o.Timeout = 15 * time.Minute // a busy machine takes many times as long as an idle one
	}
	return o
}

// pack writes the image of one boot: that of the lab, and behind it what is this
// boot's own, as a second archive.
func (l *Lab) pack(image string, m *machine, o Options) error {
	entries := slices.Clone(o.Files)
	if !o.Bare {
		entries = append(initramfs.Base(), entries...)
	}
	if o.Helper {
		entries = append(entries, initramfs.Symlink{Path: "sbin/hotplug", Target: "devspool"})
	}
	found, err := findModules(m.modules)
	if err != nil {
		return err
	}
	names, err := found.order(o.Modules...)
	if err != nil {
		return err
	}
	for _, name := range names {
		entries = append(entries, initramfs.File{Path: moduleDir[1:] + "/" + name + ".ko", Mode: 0o644, Source: found[name]})
	}
	common, err := os.Open(l.image)
	if err != nil {
		return err
	}
	defer common.Close()
	var own bytes.Buffer
	if err := initramfs.Archive(&own, entries...); err != nil {
		return err
	}
	return create(image, func(w io.Writer) error { return initramfs.Join(w, common, &own) })
}

// Boot boots an image that others have made, with no test in it, and returns what the console
// said until the machine ended.
func Boot(t *testing.T, image string, o Options) string {
	t.Helper()
	o = o.withDefaults()
	m := o.Kernel.machine(t)
	start := time.Now()
	console, err := m.boot(image, t.Name(), o)
	t.Logf("boot of %s: %v, %v", m.kernel, time.Since(start).Round(10*time.Millisecond), err)
	return console
}

// DebianKernel returns the directory that the package of Debian's kernel was unpacked in.
func DebianKernel(t *testing.T) string {
	t.Helper()
	return fetchedKernel(t, "linux-image-amd64")
}

// machine is a kernel and how it is started.
type machine struct {
	kernel  string
	modules string // the directory of its modules
	command func(image, dir string, o Options, params []string) *exec.Cmd
}

func (k Kernel) machine(t *testing.T) *machine {
	t.Helper()
	if k == UML {
		return uml(t)
	}
	return boards[k].machine(t)
}

// boot runs the machine until it switches itself off, and returns all that its
// console said.
func (m *machine) boot(image, test string, o Options) (console string, err error) {
	// The name of a socket has little room, so the directory's is short.
	dir, err := os.MkdirTemp("", "boot")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	params := append([]string{
		"panic=-1", // no reboot after a panic, but an end
		"quiet",
		paramTest + "=" + test,
		paramTimeout + "=" + o.Timeout.String(),
	}, o.Append...)
	cmd := m.command(image, dir, o, params)
	out := typist{answers: o.Answers}
	cmd.Stdout, cmd.Stderr = &out, &out
	if len(o.Answers) > 0 {
		if out.keys, err = cmd.StdinPipe(); err != nil {
			return "", err
		}
	}
	// The guest's own limit comes first, and shows what it was doing.
	ctx, cancel := context.WithTimeout(context.Background(), o.Timeout+10*time.Second)
	defer cancel()
	err = runGroup(ctx, cmd)
	return strings.ReplaceAll(out.said.String(), "\r", ""), err
}

// runGroup runs cmd, and ends it with all its children when ctx is over: User
// Mode Linux has a process of this machine for each of its own.
func runGroup(ctx context.Context, cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	over := context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer over()
	err := cmd.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("no end within the time limit: %w", ctx.Err())
	}
	return err
}

// report makes the test's result of what the console said.
func report(t *testing.T, console string, err error) {
	t.Helper()
	for _, line := range untested(console) {
		t.Log(line)
	}
	if err := judge(console, t.Name(), err); err != nil {
		t.Errorf("%v; the console's end:\n%s", err, tail(console, 150))
	} else if testing.Verbose() {
		t.Logf("the console's end:\n%s", tail(console, 150))
	}
}

// untested returns the lines of the guest that NotTested made.
func untested(console string) []string {
	return regexp.MustCompile("NOT TESTED: .*").FindAllString(console, -1)
}

// judge returns nil where the console shows that the guest ran the test and
// passed. ended is how the machine ended.
func judge(console, test string, ended error) error {
	exit := regexp.MustCompile(`(?m)^` + lineExit + `(.+)$`).FindStringSubmatch(console)
	switch {
	case exit == nil:
		return errors.Join(errors.New("the guest did not come to an end"), ended)
	case exit[1] != "0":
		return fmt.Errorf("the guest failed: exit %s", exit[1])
	case !strings.Contains(console, "\n"+lineRan+test+"\n"):
		return errors.New("the guest did not run the test")
	}
	return ended
}

// tail returns the last n lines of s.
func tail(s string, n int) string {
	var lines []string
	scanner := bufio.NewScanner(strings.NewReader(s))
	for scanner.Scan() {
		lines = append(lines, "    | "+scanner.Text())
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// IsGuest reports whether this is the side of the test that runs in the booted kernel.
func (l *Lab) IsGuest() bool { return l.guest }

// typist keeps what the console says, and answers its questions.
type typist struct {
	said    bytes.Buffer
	answers map[string]string // by question
	asked   int               // how much was looked through
	keys    io.Writer
}

func (w *typist) Write(text []byte) (int, error) {
	n, err := w.said.Write(text) // which one goroutine does
	for question, answer := range w.answers {
		if i := bytes.Index(w.said.Bytes()[w.asked:], []byte(question)); i >= 0 {
			w.asked += i + len(question)
			// What is typed before the program has turned the echo off is thrown away, and a
			// slow machine takes its time for that.
			for delay := time.Second; delay < 16*time.Second; delay *= 2 {
				time.AfterFunc(delay, func() { _, _ = io.WriteString(w.keys, answer+"\n") })
			}
		}
	}
	return n, err
}
