package systemtest

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"devspool/conf"
	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares text with a file in testdata.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		hotplugtest.Must(t, os.WriteFile(path, []byte(text), 0o644))
	}
	want, err := os.ReadFile(path)
	hotplugtest.Must(t, err)
	if text != string(want) {
		t.Errorf("%s differs; got\n%s", path, text)
	}
}

// sandbox has what the options name (a /dev, a /sys, a config), for tests that need
// neither events nor namespaces.
type sandbox struct {
	*testing.T
	program, dir, dev, conf string
	sys                     *hotplugtest.Sysfs
}

// newSandbox makes one with a disk, a partition, a tty and a network interface. TMP in
// the config stands for its directory.
func newSandbox(t *testing.T, config string) *sandbox {
	t.Helper()
	dir := t.TempDir()
	b := &sandbox{T: t, program: kerneltest.Build(t), dir: dir, dev: dir + "/dev", conf: dir + "/mdev.conf", sys: hotplugtest.NewSysfs(t)}
	hotplugtest.Must(t, os.Mkdir(b.dev, 0o755))
	b.write(b.conf, strings.ReplaceAll(config, "TMP", dir))
	b.sys.Add("/devices/pci0/block/sda", "block", "8:0", "DEVNAME=sda", "DEVTYPE=disk")
	b.sys.Add("/devices/pci0/block/sda/sda1", "block", "8:1", "DEVNAME=sda1", "DEVTYPE=partition")
	b.sys.Add("/devices/virtual/tty/tty0", "tty", "4:0", "DEVNAME=tty0", "DEVMODE=0620")
	b.sys.Add("/devices/pci0/net/eth0", "net", "", "INTERFACE=eth0")
	return b
}

func (b *sandbox) write(path, text string) {
	b.Helper()
	hotplugtest.WriteFile(b.T, path, text)
}

// do runs the program with environ and nothing else as its environment.
func (b *sandbox) do(environ []string, args ...string) result {
	b.Helper()
	roots := []string{"--dev", b.dev, "--sys", string(b.sys.FS), "--conf", b.conf, "--firmware", b.dir + "/firmware"}
	cmd := exec.Command(b.program, append(roots, args...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, environ...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	hotplugtest.Must(b.T, cmd.Start())
	return await(b, cmd, &stdout, &stderr)
}

// has reports whether the sandbox has a file of that name.
func (b *sandbox) has(name string) bool {
	_, err := os.Lstat(filepath.Join(b.dir, name))
	return err == nil
}

// wantNodes fails the test unless /dev holds these names, and what is private.
func (b *sandbox) wantNodes(want ...string) {
	b.Helper()
	entries, err := os.ReadDir(b.dev)
	hotplugtest.Must(b.T, err)
	var got []string
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), ".") {
			got = append(got, entry.Name())
		}
	}
	if !slices.Equal(got, want) {
		b.Errorf("/dev holds %q, want %q", got, want)
	}
}

func TestUsage(t *testing.T) { golden(t, "usage.txt", newSandbox(t, "").do(nil, "--help").stdout) }

func TestDryRunTable(t *testing.T) {
	b := newSandbox(t, "sda 0:0 640 >disk @touch TMP/said\n")
	for _, c := range []struct {
		environ []string
		args    string
		rows    int // of the table
	}{
		{nil, "-snt", 4},
		{[]string{"ACTION=add", "DEVPATH=/devices/pci0/block/sda", "SEQNUM=7"}, "-nt", 2},
	} {
		o := b.do(c.environ, c.args)
		if rows := strings.Count(o.stdout, "\n"); o.code != exitDone || rows != c.rows || !strings.Contains(o.stdout, "sda -> disk") {
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
	b := newSandbox(t, "-tag=card;sda.* 0:6 640 >disk/ @logger $MDEV\n-if_exists=mask;timeout=5;sda 0:6 640 *sync\n$INTERFACE=eth.* 0:0 660 @ifup $INTERFACE\n")
	for _, c := range []struct {
		name   string
		action string
		args   []string
	}{
		{"plan-all.txt", "", nil},
		{"plan-remove.txt", "ACTION=remove", []string{"/devices/pci0/block/sda"}},
		{"plan-class.txt", "", []string{string(b.sys.FS) + "/class/net/eth0"}},
	} {
		var environ []string
		if c.action != "" {
			environ = []string{c.action}
		}
		o := b.do(environ, append([]string{"--plan"}, c.args...)...)
		if o.code != exitDone || o.stderr != "" {
			t.Errorf("%s: %+v", c.name, o)
		}
		golden(t, c.name, strings.ReplaceAll(o.stdout, b.conf, "mdev.conf"))
	}
	o := b.do(nil, "--plan", "/devices/nothing")
	if o.code != exitEvent || o.stdout != "" || !strings.HasPrefix(o.stderr, "devspool: error: ") || !strings.Contains(o.stderr, "/devices/nothing: no such file") {
		t.Errorf("a device that is not there: %+v", o)
	}
	entries, err := os.ReadDir(b.dev)
	if err != nil || len(entries) > 0 {
		t.Errorf("/dev holds %v, error %v", entries, err)
	}
}

func TestCheck(t *testing.T) {
	b := newSandbox(t, "sda 0:0 660\nbad\nsd( 0:0 660\nsda 0:0 999\nsda 0:0 660 =../x\n.* 0:0 660 hello\n")
	o := b.do(nil, "--check")
	if o.code != exitConfig || o.stderr != "" {
		t.Errorf("%+v", o)
	}
	golden(t, "check.txt", strings.ReplaceAll(o.stdout, b.conf, "mdev.conf"))
	b.write(b.conf, conf.Default)
	if o := b.do(nil, "--check"); o.code != exitDone || o.stdout+o.stderr != "" {
		t.Errorf("the default config: %+v", o)
	}
}
