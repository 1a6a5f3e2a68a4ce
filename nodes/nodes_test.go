package nodes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// ChildRole is the variable that makes the test binary one of the processes below.
const childRole = "NODES_TEST_CHILD"

// children are what the test binary does where it is started anew by a test.
var children = map[string]func(args []string) error{
	"count": countUnderLock,
	"churn": churnForever,
	"trace": applyForTrace,
}

func TestMain(m *testing.M) {
	unix.Umask(0) // as the program does
	if child := children[os.Getenv(childRole)]; child != nil {
		if err := child(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child returns a command that plays a role of children.
func child(t *testing.T, role string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := self(t, args...)
	cmd.Env = append(os.Environ(), childRole+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

// emulator is the variable that names the program under which these tests run,
// where they are another architecture's.
const emulator = "DEVSPOOL_EMULATOR"

// self returns a command that runs this test program again.
func self(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	words := append(strings.Fields(os.Getenv(emulator)), path)
	return exec.Command(words[0], append(words[1:], args...)...)
}

// notTested skips the test, or fails it where everything has to be tested.
func notTested(t *testing.T, what, needs string) {
	t.Helper()
	line := "NOT TESTED: " + what + ": needs " + needs
	if os.Getenv("DEVSPOOL_TEST_ALL") == "1" {
		t.Fatal(line)
	}
	t.Skip(line)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		notTested(t, t.Name(), "root, to make device nodes")
	}
	probe := filepath.Join(t.TempDir(), "probe")
	if err := unix.Mknod(probe, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		notTested(t, t.Name(), "a temporary directory that holds device nodes: "+err.Error())
	}
}

// inOwnMounts moves the test into a process with mounts of its own. It returns
// false in the process that stays behind.
func inOwnMounts(t *testing.T) bool {
	t.Helper()
	needRoot(t)
	const inside = "NODES_TEST_MOUNTS"
	if os.Getenv(inside) == t.Name() {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		return true
	}
	cmd := self(t, "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), inside+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		notTested(t, t.Name(), "mount namespaces")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("the test did not run:\n%s", out)
	}
	return false
}

// eachWay runs a test with openat2 and statx, and with what takes their place on
// kernels before 5.6.
func eachWay(t *testing.T, test func(b *board)) {
	t.Helper()
	needRoot(t)
	for _, way := range []struct {
		name string
		old  bool
	}{{"new calls", false}, {"old calls", true}} {
		t.Run(way.name, func(t *testing.T) {
			b := newBoard(t, t.TempDir())
			b.d.tree.walk = way.old
			sys.NoStatx.Store(way.old)
			defer sys.NoStatx.Store(false)
			test(b)
		})
	}
}

// board is a directory that stands for /dev.
type board struct {
	*testing.T
	dir string
	d   *Dir
}

func newBoard(t *testing.T, dir string) *board {
	t.Helper()
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return &board{T: t, dir: dir, d: d}
}

// apply carries out a plan as the road does, and fails the test where it cannot.
func (b *board) apply(p *Plan) (existed bool) {
	b.Helper()
	existed, err := b.try(p)
	if err != nil {
		b.Errorf("Apply(%s): %v", p, err)
	}
	return existed
}

// try carries out a plan under the lock.
func (b *board) try(p *Plan) (existed bool, err error) {
	b.Helper()
	if _, err := b.d.LockDev(); err != nil {
		b.Fatal(err)
	}
	defer b.d.UnlockDev()
	return b.d.Apply(p)
}

func (b *board) path(name string) string { return filepath.Join(b.dir, name) }

// must fails the test at once.
func (b *board) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *board) mkdir(name string) { b.Helper(); b.must(os.MkdirAll(b.path(name), 0o755)) }
func (b *board) symlink(text, name string) {
	b.Helper()
	b.must(os.Symlink(text, b.path(name)))
}
func (b *board) file(name, text string) {
	b.Helper()
	b.must(os.WriteFile(b.path(name), []byte(text), 0o644))
}

// mknod makes a node, as devtmpfs or a stranger would.
func (b *board) mknod(name, dev string, mode uint32) {
	b.Helper()
	b.must(unix.Mknod(b.path(name), fileType(device(dev))|mode, rdev(device(dev))))
}

func rdev(d uevent.Dev) int { return int(unix.Mkdev(d.Major, d.Minor)) }

// check compares what is below the directory with the lines of want; what is in
// the private directory does not count.
func (b *board) check(want ...string) {
	b.Helper()
	b.d.tree.forget() // as at the end of a slice, by which empty directories go
	got := b.tree("")
	slices.Sort(want)
	if !slices.Equal(got, want) {
		b.Errorf("/dev holds\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// checkRecord compares the record with the lines of want: an ID, a blank, the text.
func (b *board) checkRecord(want ...string) {
	b.Helper()
	last := map[string]string{}
	text, err := os.ReadFile(b.path(Private + "/record"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.Error(err)
	}
	for line := range strings.Lines(string(text)) {
		id, words, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if last[id] = words; words == "" {
			delete(last, id)
		}
	}
	var got []string
	for id, words := range last {
		got = append(got, id+" "+words)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		b.Errorf("the record holds\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// tree describes all that is below a part of the directory, sorted.
func (b *board) tree(below string) []string {
	b.Helper()
	var lines []string
	b.walk(below, func(path string) {
		lines = append(lines, b.describe(path))
	})
	slices.Sort(lines)
	return lines
}

// walk calls f for each path below a part of the directory, but for what is private.
func (b *board) walk(below string, f func(path string)) {
	b.Helper()
	root := b.path(below)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		if path == b.path(Private) && entry.IsDir() {
			return fs.SkipDir
		}
		name, err := filepath.Rel(b.dir, path)
		f(name)
		return err
	})
	b.must(err)
}

// describe returns a line such as "null c1:3 0666 0:0", "snd/ 0755 0:0" or "a -> b".
func (b *board) describe(name string) string {
	b.Helper()
	var st unix.Stat_t
	b.must(unix.Lstat(b.path(name), &st))
	tail := " " + Octal(st.Mode&0o7777) + fmt.Sprintf(" %d:%d", st.Uid, st.Gid)
	dev := uevent.Dev{Major: unix.Major(uint64(st.Rdev)), Minor: unix.Minor(uint64(st.Rdev))}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		text, err := os.Readlink(b.path(name))
		b.must(err)
		return name + " -> " + text
	case unix.S_IFDIR:
		return name + "/" + tail
	case unix.S_IFREG:
		return name + " file" + tail
	case unix.S_IFBLK:
		dev.Block = true
	}
	return name + " " + dev.String() + tail
}

// stamps returns what changes where anything is written: inode and times of every
// file, those in the private directory too.
func (b *board) stamps() map[string]string {
	b.Helper()
	stamps := map[string]string{}
	err := filepath.WalkDir(b.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		stamps[path] = fmt.Sprint(st.Ino, st.Ctim, st.Mtim, st.Mode, st.Uid, st.Gid, st.Nlink)
		return nil
	})
	b.must(err)
	return stamps
}

// unchanged fails the test where f writes anything below the directory.
func (b *board) unchanged(f func()) {
	b.Helper()
	b.tick()
	before := b.stamps()
	f()
	after := b.stamps()
	for path, stamp := range after {
		if before[path] != stamp {
			b.Errorf("%s was touched: %q became %q", path, before[path], stamp)
		}
	}
	for path := range before {
		if after[path] == "" {
			b.Errorf("%s has gone", path)
		}
	}
}

// tick returns when the clock of the file system has gone on, so that whatever is
// written from now on has another time.
func (b *board) tick() {
	b.Helper()
	scratch := filepath.Join(b.TempDir(), "tick")
	var first unix.Stat_t
	for range 5000 {
		b.must(os.WriteFile(scratch, nil, 0o600))
		var st unix.Stat_t
		b.must(unix.Stat(scratch, &st))
		if first.Ino == 0 {
			first = st
		}
		if st.Ctim.Nano() > first.Ctim.Nano() {
			return
		}
		b.must(os.Remove(scratch))
		time.Sleep(time.Millisecond)
	}
	b.Fatal("the clock of the file system stands still")
}

// device reads b8:0 or c1:3.
func device(text string) uevent.Dev {
	d := (&Record{ID: text}).Dev()
	d.Block = text[0] == 'b'
	return d
}

// event makes an event of a device: its action, numbers (or "") and DEVNAME.
func event(action, dev, devname string) *uevent.Event {
	env := []string{"ACTION=" + action, "DEVPATH=/devices/test/" + strings.ReplaceAll(devname, "/", "!"), "SUBSYSTEM=test"}
	if dev != "" {
		d := device(dev)
		if d.Block {
			env[1] = strings.Replace(env[1], "/test/", "/test/block/", 1)
		}
		env = append(env, fmt.Sprintf("MAJOR=%d", d.Major), fmt.Sprintf("MINOR=%d", d.Minor))
	}
	env = append(env, "DEVNAME="+devname)
	e, err := uevent.FromEnviron(env)
	if err != nil {
		panic(err)
	}
	return e
}

// makes returns a plan that makes what the words say: "path 0660 0:6" for a
// node, "path -> target" for a forced link, "path => target" for another one of a rule, "path ~> target" for
// a name; "path ~50> target" has a priority.
func makes(dev, devname string, words ...string) *Plan {
	return planned(&Plan{Event: event(uevent.Add, dev, devname), Work: Create}, words)
}

// clears returns the plan of the device's remove.
func clears(dev, devname string, words ...string) *Plan {
	return planned(&Plan{Event: event(uevent.Remove, dev, devname), Work: Remove}, words)
}

var linkWord = regexp.MustCompile(`(?s)^(.*) ([-=~])(-?[0-9]*)> (.*)$`)

func planned(p *Plan, words []string) *Plan {
	for _, word := range words {
		if m := linkWord.FindStringSubmatch(word); m != nil {
			l := Link{Path: m[1], Target: m[4], Name: m[2] == "~", Forced: m[2] == "-"}
			if m[3] != "" {
				l.Priority, _ = strconv.Atoi(m[3])
			}
			p.Links = append(p.Links, l)
			continue
		}
		parts := strings.Split(word, " ")
		rights := len(parts) - 2 // a path may hold blanks
		n := Node{Path: strings.Join(parts[:rights], " ")}
		if _, err := fmt.Sscanf(strings.Join(parts[rights:], " "), "%o %d:%d", &n.Mode, &n.UID, &n.GID); err != nil {
			panic(word + ": " + err.Error())
		}
		p.Nodes = append(p.Nodes, n)
	}
	return p
}
