package systemtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"devspool/hotplug/kerneltest"
)

func TestColdplug(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sda[0-9]* 0:6 640 >disk/%0\ninput/.* 0:13 600\nttyS0 5:20 620 =serial/console\nttyS1 0:0 600 !\n")
	quiet := disk(2)
	quiet.Extra = append(quiet.Extra, "DEVMODE=0444", "DEVUID=7", "DEVGID=8")
	b.add(disk(0), partition(disk(0), 1), disk(1), quiet, input(0), terminal(0), terminal(1))
	b.scan()
	b.has(
		"disk dir 0755 0:0",
		"disk/sda block 0640 0:6 8:0",
		"disk/sda1 block 0640 0:6 8:1",
		"input dir 0755 0:0",
		"input/event0 char 0600 0:13 13:64",
		"sda link -> disk/sda",
		"sda1 link -> disk/sda1",
		"sdb block 0660 0:0 8:16",
		"sdc block 0444 7:8 8:32",
		"serial dir 0755 0:0",
		"serial/console char 0620 5:20 204:0",
	)
	for _, d := range []kerneltest.Device{partition(disk(0), 1), disk(0), disk(1), quiet, input(0), terminal(0), terminal(1)} {
		b.unplug(d)
	}
	b.scan()
	b.has()
}

// TestColdplugAfterNewConfig moves what was made under another config.
func TestColdplugAfterNewConfig(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sda 0:6 640 >disk/%0\nsdb 0:0 600 =b/x\n")
	b.add(disk(0), disk(1))
	b.scan()
	b.configure("sda 0:0 600\nsdb 0:0 600 !\n")
	b.scan()
	b.has("sda block 0600 0:0 8:0")
}

// TestSwappedNumbers gives two names each other's numbers while nobody looks.
func TestSwappedNumbers(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	x, y := disk(0), disk(1)
	b.add(x, y)
	b.scan()
	b.unplug(x)
	b.unplug(y)
	x.Minor, y.Minor = y.Minor, x.Minor
	b.add(x, y)
	b.scan()
	b.has("sda block 0660 0:0 8:16", "sdb block 0660 0:0 8:0")
	b.scan()
	b.has("sda block 0660 0:0 8:16", "sdb block 0660 0:0 8:0")
}

// TestForgedLines has a device put lines into its uevent file, as an input
// device's name can.
func TestForgedLines(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	d := kerneltest.Device{
		Devpath: "/devices/virtual/input/input9", Subsystem: "input",
		Extra: []string{"NAME=\"x", "MAJOR=8", "MINOR=0", "DEVNAME=sda", "DEVMODE=0666", "\""},
	}
	b.add(d)
	b.scan()
	b.has()
	e := kerneltest.Event{Action: "add", Devpath: d.Devpath, Vars: []string{"SUBSYSTEM=input", "NAME=\"x\nMAJOR=8\nMINOR=0\nDEVNAME=sda\n\""}}
	b.tell(e)
	b.has()
}

// writing is what a system call that changes a file system looks like in strace's
// output: by its name, or for open by its flags.
var writing = regexp.MustCompile(`^(\d+ +)?(mknod|mknodat|symlink|symlinkat|unlink|unlinkat|link|linkat|rename|renameat|renameat2|` +
	`chmod|fchmod|fchmodat|fchmodat2|chown|fchown|lchown|fchownat|mkdir|mkdirat|rmdir|truncate|ftruncate|utimensat|setxattr|` +
	`open(at2?)?\(.*(O_WRONLY|O_RDWR|O_CREAT|O_TRUNC))`)

// changes returns the system calls of a process that could have changed /dev.
func (b *board) changes(cmd *exec.Cmd) []string {
	b.Helper()
	trace := filepath.Join(b.dir, "trace")
	strace := exec.Command(kerneltest.Need(b, "strace"), append([]string{"-f", "-qq", "-o", trace, "-e", "trace=file,desc", cmd.Path}, cmd.Args[1:]...)...)
	strace.Env = cmd.Env
	b.must(b.finish(strace))
	var found []string
	for line := range strings.Lines(b.read(trace)) {
		refused := strings.Contains(line, "open") && strings.Contains(line, ") = -1 ")
		if writing.MatchString(line) && !refused && !strings.Contains(line, `"/dev/null"`) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

func TestSecondTimeWritesNothing(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, stormConf+"sdb 4:4 644 =deep/er/%0\n")
	b.add(disk(0), partition(disk(0), 1), disk(1), input(0), input(1), terminal(3), terminal(33))
	if len(b.changes(b.command("-s"))) == 0 {
		t.Fatal("strace shows nothing of the first scan")
	}
	before := b.snapshot()
	if again := b.changes(b.command("-s")); len(again) > 0 {
		t.Errorf("the second scan writes:\n%s", strings.Join(again, "\n"))
	}
	if again := b.changes(b.helper(disk(0).Event("add"))); len(again) > 0 {
		t.Errorf("a helper for what a scan made writes:\n%s", strings.Join(again, "\n"))
	}
	e := b.plug(disk(2))
	b.tell(e)
	if again := b.changes(b.helper(e)); len(again) > 0 {
		t.Errorf("the same helper again writes:\n%s", strings.Join(again, "\n"))
	}
	e = b.unplug(disk(2))
	b.tell(e)
	if again := b.changes(b.helper(e)); len(again) > 0 {
		t.Errorf("the same helper for a remove again writes:\n%s", strings.Join(again, "\n"))
	}
	if diff := kerneltest.Diff(before, b.snapshot()); diff != "" {
		t.Errorf("/dev differs:\n%s", diff)
	}
}

// TestTakenOver begins with a /dev that another manager, or devtmpfs, has filled.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	b.add(disk(0), disk(1))
	b.scan()
	if err := os.RemoveAll(filepath.Join(b.dev, ".devspool")); err != nil {
		t.Fatal(err)
	}
	want := b.snapshot()
	b.scan()
	if diff := kerneltest.Diff(want, b.snapshot()); diff != "" {
		t.Errorf("/dev differs:\n%s", diff)
	}
	b.tell(b.unplug(disk(0)))
	b.has("sdb block 0660 0:0 8:16")
}

func TestPrivateDirectory(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	b.add(disk(0))
	b.scan()
	info, err := os.Stat(filepath.Join(b.dev, ".devspool"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info, err)
	}
	entries, _ := os.ReadDir(b.dev)
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, []string{".devspool", "sda"}) {
		t.Errorf("/dev holds %q", names)
	}
}
