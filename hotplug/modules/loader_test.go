package modules

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/log"
)

// kernel takes the place of finit_module: it keeps what it was given, in order.
type kernel struct {
	t      *testing.T
	root   string
	loader *Loader
	lines  *hotplugtest.Log

	mu     sync.Mutex
	began  []string
	ended  []string
	fails  map[string]error
	blocks map[string]chan struct{}
	most   int
	now    int
}

// newKernel writes a tree of modules, each given as a line of modules.dep by their names,
// and the other files of the tree as they are.
func newKernel(t *testing.T, dep string, files map[string]string) *kernel {
	t.Helper()
	k := &kernel{t: t, root: t.TempDir(), fails: map[string]error{}, blocks: map[string]chan struct{}{}}
	dir := k.root + "/lib/modules/1/"
	text := ""
	for line := range strings.Lines(dep) {
		name, needs, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "" {
			continue
		}
		text += "kernel/" + name + ".ko:"
		for _, need := range strings.Fields(needs) {
			text += " kernel/" + need + ".ko"
		}
		text += "\n"
		hotplugtest.WriteFile(t, dir+"kernel/"+name+".ko", name)
	}
	hotplugtest.WriteFile(t, dir+"modules.dep", text)
	for name, text := range files {
		path := dir + name
		if strings.HasPrefix(name, "/") {
			path = k.root + name
		}
		hotplugtest.WriteFile(t, path, text)
	}
	k.open(Source{Root: k.root, Release: "1"}, Options{})
	return k
}

func (k *kernel) open(s Source, o Options) {
	k.t.Helper()
	k.lines = hotplugtest.NewLog(k.t)
	k.lines.SetLevel(log.Notice)
	o.Log = k.lines.Logger
	o.Sys = k.root + "/sys"
	loader, err := Open(s, o)
	hotplugtest.Must(k.t, err)
	loader.finit = k.finit
	k.loader = loader
}

func (k *kernel) finit(fd int, options string, flags int) error {
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return err
	}
	name := moduleName(path)
	entry := strings.TrimSpace(name + " " + options)
	if flags != 0 {
		entry += " flags " + strconv.Itoa(flags)
	}
	k.mu.Lock()
	k.began = append(k.began, entry)
	k.now++
	k.most = max(k.most, k.now)
	block, fails := k.blocks[name], k.fails[name]
	k.mu.Unlock()
	if block != nil {
		<-block
	}
	if fails == nil || fails == unix.EEXIST {
		k.live(name)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now--
	k.ended = append(k.ended, name)
	return fails
}

// live has /sys show a module.
func (k *kernel) live(name string) {
	path := k.root + "/sys/module/" + name + "/initstate"
	_ = os.MkdirAll(filepath.Dir(path), 0o755)
	_ = os.WriteFile(path, []byte("live\n"), 0o644)
}

// request asks for an alias, and waits for the answer.
func (k *kernel) request(alias string) (err error) {
	k.t.Helper()
	done := make(chan error, 1)
	k.loader.Request(alias, func(err error) { done <- err })
	hotplugtest.Within(k.t, alias, func() { err = <-done })
	return err
}

func (k *kernel) loaded() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.began)
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("loaded %q, want %q", got, want)
	}
}

// TestLoad shows that what a module needs is loaded before it, with parameters, and what
// is there is not read.
func TestLoad(t *testing.T) {
	k := newKernel(t, "top: mid low\nmid: low\nlow:\n", map[string]string{
		"modules.alias": "alias usb:v1* top\n", "/etc/modprobe.d/a.conf": "options low a=1\n"})
	hotplugtest.Must(t, k.request("usb:v1234"))
	expect(t, k.loaded(), "low a=1", "mid", "top")
	hotplugtest.Must(t, k.request("usb:v1234"))
	hotplugtest.Must(t, k.request("usb:v1999"))
	expect(t, k.loaded(), "low a=1", "mid", "top")
	hotplugtest.Must(t, os.RemoveAll(k.root+"/sys/module/top"))
	hotplugtest.Must(t, k.request("usb:v1234"))
	expect(t, k.loaded(), "low a=1", "mid", "top", "top")
	for range 2 {
		if err := k.request("pci:v1"); err != ErrNotFound {
			t.Errorf("an alias that nothing has: %v", err)
		}
	}
}

// TestOnce shows that a module which many ask for is loaded once, and that all hear of it
// only then.
func TestOnce(t *testing.T) {
	k := newKernel(t, "a: common\nb: common\ncommon:\nother:\n", nil)
	k.blocks["common"] = make(chan struct{})
	var answers hotplugtest.Collected[string]
	var all sync.WaitGroup
	for range 20 {
		for _, name := range []string{"a", "b", "common"} {
			all.Add(1)
			k.loader.Request(name, func(err error) {
				hotplugtest.Must(t, err)
				answers.Add(name)
				all.Done()
			})
		}
	}
	hotplugtest.Must(t, k.request("other")) // what waits holds nobody else up
	if got := answers.List(); len(got) > 0 {
		t.Errorf("told before it was loaded: %q", got)
	}
	close(k.blocks["common"])
	hotplugtest.Within(t, "all answers", all.Wait)
	got := k.loaded()
	slices.Sort(got)
	expect(t, got, "a", "b", "common", "other")
}

// TestParallel shows that modules which do not need each other are loaded at once, and no
// more than there are workers.
func TestParallel(t *testing.T) {
	k := newKernel(t, "a:\nb:\nc:\nd:\ne:\n", nil)
	k.open(Source{Root: k.root, Release: "1"}, Options{Workers: 3})
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		k.blocks[name] = make(chan struct{})
	}
	done := make(chan error, 1)
	go func() { done <- k.loader.Load("a", "b", "c", "d", "e") }()
	hotplugtest.Eventually(t, "three at once", func() bool { return len(k.loaded()) == 3 })
	time.Sleep(20 * time.Millisecond)
	for _, block := range k.blocks {
		close(block)
	}
	hotplugtest.Within(t, "the end", func() { hotplugtest.Must(t, <-done) })
	if k.most != 3 {
		t.Errorf("%d at once, want 3", k.most)
	}
}

// TestFailure shows that a module which fails costs itself and what needs it, is said once
// and not tried again, until somebody asks for that.
func TestFailure(t *testing.T) {
	k := newKernel(t, "top: bad\nbad:\nwisher:\ngood:\n", map[string]string{
		"modules.softdep": "softdep wisher pre: bad\n", "modules.alias": "alias x:* good\nalias x:1 bad\n"})
	k.fails["bad"] = unix.ENOEXEC
	var failed *Error
	if err := k.request("top"); !errors.As(err, &failed) || failed.Module != "bad" && failed.Module != "top" {
		t.Errorf("top: %v", err)
	}
	if err := k.request("x:1"); !errors.Is(err, unix.ENOEXEC) {
		t.Errorf("x:1: %v", err)
	}
	hotplugtest.Must(t, k.request("wisher"))
	if err := k.request("top"); err == nil {
		t.Error("top is a success")
	}
	got := k.loaded()
	slices.Sort(got)
	expect(t, got, "bad", "good", "wisher")
	if said := strings.Join(k.lines.Lines(), "\n"); strings.Count(said, "bad") != 2 || strings.Contains(said, "top") { // the name and the path
		t.Errorf("the log says:\n%s", said)
	}
	delete(k.fails, "bad")
	hotplugtest.Must(t, k.loader.Load("top"))
	if got := k.loaded(); !slices.Equal(got[3:], []string{"bad", "top"}) {
		t.Errorf("then loaded %q", got)
	}
}

// TestNoDevice shows that a module which found no device is tried again for an alias that
// is new, and only then.
func TestNoDevice(t *testing.T) {
	k := newKernel(t, "a:\nb: a\n", map[string]string{"modules.alias": "alias x:* b\n"})
	k.fails["a"] = unix.ENODEV
	for range 3 {
		if err := k.request("x:1"); !errors.Is(err, unix.ENODEV) {
			t.Error(err)
		}
	}
	expect(t, k.loaded(), "a")
	delete(k.fails, "a")
	hotplugtest.Must(t, k.request("x:2"))
	expect(t, k.loaded(), "a", "a", "b")
	hotplugtest.Must(t, k.request("x:1"))
	if lines := k.lines.Lines(); len(lines) > 0 {
		t.Errorf("the log says %q", lines)
	}
}

// TestSoftdep shows the order of softdeps, and that a request is done when those behind are.
func TestSoftdep(t *testing.T) {
	k := newKernel(t, "a:\nb:\nc: d\nd:\nx:\ny:\n", map[string]string{
		"modules.softdep": "# comment\nsoftdep b pre: a post: c missing\nsoftdep x pre: y\nsoftdep y pre: x\n"})
	hotplugtest.Must(t, k.request("b"))
	got := k.ended
	if slices.Index(got, "a") > slices.Index(got, "b") || slices.Index(got, "b") > slices.Index(got, "c") || len(got) != 4 {
		t.Errorf("ended: %q", got)
	}
	hotplugtest.Must(t, k.loader.Load("x", "y"))
	expect(t, k.ended[4:], "y", "x")
}

// TestNoSettings shows that a directory of modprobe.d that holds nothing is no problem.
func TestNoSettings(t *testing.T) {
	k := newKernel(t, "a:\n", map[string]string{})
	hotplugtest.Must(t, os.MkdirAll(k.root+"/etc/modprobe.d", 0o755))
	c := config{}
	c.read([]string{k.root + "/etc/modprobe.d", k.root + "/nothing"})
	if len(c.problems) > 0 {
		t.Errorf("problems: %q", c.problems)
	}
}

// TestWrongSettings shows that a line which is told as wrong has no effect.
func TestWrongSettings(t *testing.T) {
	var c config
	for _, text := range []string{"alias x a]b", "alias x", "alias a]b x", "options x", "frobnicate x y"} {
		if c.line(text) || len(c.lines) > 0 {
			t.Errorf("%q is taken as %q", text, c.lines)
		}
	}
	if !c.line("alias x a-b") || len(c.lines) != 1 || c.lines[0].value != "a_b" {
		t.Errorf("a right one is taken as %q", c.lines)
	}
}

// TestBlacklist shows what the kernel's command line and modprobe.d keep out or alter.
func TestBlacklist(t *testing.T) {
	k := newKernel(t, "a-b:\nc:\nd:\ne: c\ninst:\nnone:\nno:\nzipped:\n", map[string]string{
		"modules.alias":           "alias x:* a_b\nalias x:* c\n",
		"/etc/modprobe.d/a.conf":  "blacklist a-b\noptions e p=\"a b\"\n",
		"/lib/modprobe.d/a.conf":  "blacklist c\n",
		"/lib/modprobe.d/b.conf":  "install inst /bin/echo hello\ninstall none /bin/true\ninstall no /bin/false\nnonsense x\n",
		"/run/modprobe.d/c.other": "blacklist c\n",
	})
	k.open(Source{Root: k.root, Release: "1", Cmdline: "quiet e.q=1 modprobe.blacklist=d module_blacklist=x,y \"e.s=a b\" -- e.r=1\n"}, Options{})
	hotplugtest.Must(t, k.request("x:1"))
	hotplugtest.Must(t, k.request("d"))
	hotplugtest.Must(t, k.request("none"))
	expect(t, k.loaded(), "c")
	hotplugtest.Must(t, k.request("e"))
	expect(t, k.loaded(), "c", `e p="a b" q=1 s=a b`)
	if err := k.request("no"); !errors.Is(err, errRefused) {
		t.Error(err)
	}
	if err := k.request("inst"); !errors.Is(err, errInstall) {
		t.Error(err)
	}
	if said := strings.Join(k.lines.Lines(), "\n"); !strings.Contains(said, "b.conf:4: not understood") {
		t.Errorf("the log says:\n%s", said)
	}
	var ran []string
	k.open(Source{Root: k.root, Release: "1"}, Options{Program: func(args []string) error { ran = args; return nil }})
	hotplugtest.Must(t, k.request("inst"))
	expect(t, ran, "-b", "-q", "--", "inst")
}

// TestCompressed shows that a compressed module goes to a kernel that can read it, and
// else to the modprobe program.
func TestCompressed(t *testing.T) {
	k := newKernel(t, "", map[string]string{"modules.dep": "kernel/a.ko.xz:\n", "kernel/a.ko.xz": "x", "/sys/module/compression": "zstd\n"})
	if err := k.request("a"); !errors.Is(err, errCompressed) {
		t.Error(err)
	}
	hotplugtest.WriteFile(t, k.root+"/sys/module/compression", "xz\n")
	hotplugtest.Must(t, k.loader.Load("a"))
	expect(t, k.loaded(), "a flags 4")
}

// TestExists shows that a module which somebody else has loaded meanwhile is a success.
func TestExists(t *testing.T) {
	k := newKernel(t, "a:\nb: a\n", nil)
	k.fails["a"] = unix.EEXIST
	hotplugtest.Must(t, k.request("b"))
	expect(t, k.loaded(), "a", "b")
}

func TestNoTree(t *testing.T) {
	if _, err := Open(Source{Root: t.TempDir(), Release: "1"}, Options{}); err != ErrNoTree {
		t.Error(err)
	}
}

func TestParseCommand(t *testing.T) {
	for text, want := range map[string]string{
		`modprobe "$MODALIAS"`: "", `/sbin/modprobe -abqs $MODALIAS`: "bqs", `modprobe -a -b -q -s -- "${MODALIAS}"`: "bqs",
		`modprobe --quiet --use-blacklist --all ${MODALIAS} >/dev/null 2>&1`: "bq", `modprobe -s $MODALIAS 2>/dev/null`: "s",
		`modprobe`: "no", `modprobe -b`: "no", `modprobe -r $MODALIAS`: "no", `modprobe $DEVNAME`: "no", `modprobe $MODALIAS || true`: "no",
		`modprobe -b "$MODALIAS"x`: "no", `insmod $MODALIAS`: "no", `modprobe "$MODALIAS" x=1`: "no", `modprobe '$MODALIAS'`: "no",
		`/opt/modprobe $MODALIAS`: "no", `modprobe - $MODALIAS`: "no", `modprobe -C x $MODALIAS`: "no", ``: "no", `>/dev/null`: "no",
	} {
		c, ok := ParseCommand(text)
		got := ""
		for letter, is := range map[string]bool{"b": c.Blacklist, "q": c.Quiet, "s": c.Syslog} {
			if is {
				got += letter
			}
		}
		if !ok {
			got = "no"
		}
		letters := []byte(got)
		if ok {
			slices.Sort(letters)
		}
		if string(letters) != want {
			t.Errorf("%s: %s, want %s", text, letters, want)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "", true}, {"*", "", true}, {"a*", "a", true}, {"a*b*c", "aXbYbZc", true}, {"a*b*c", "aXbYbZ", false}, {"?", "", false},
		{"[0-4]x", "3x", true}, {"[0-4]x", "5x", false}, {"[!0-4]", "5", true}, {"[]a]", "]", true}, {"[a", "[a", true}, {"a[^b]*", "ac", true},
		{"a-b", "a_b", true}, {"a_b", "a-b", false}, {`\*`, "*", true}, {`\*`, "x", false}, {"*\\", "a\\", false}, {"[a-]", "-", true},
		{"pci:v00008086d*sv*sd*bc*sc*i*", "pci:v00008086d00001237sv00001AF4sd00001100bc06sc00i00", true},
		{strings.Repeat("*a", 50), strings.Repeat("a", 49), false},
	} {
		if got := match(c.pattern, c.name); got != c.want {
			t.Errorf("match(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
}

// TestFirst shows that modules which no disk can need are put off, that they do not hold up the
// others, and are loaded in the end; and that those which a disk's module needs are not put off.
func TestFirst(t *testing.T) {
	k := newKernel(t, "sound/tone: sound/core\nsound/core:\ndrivers/scsi/disk: drivers/scsi/mid\ndrivers/scsi/mid:\n"+
		"drivers/scsi/far: drivers/net/card drivers/net/base\ndrivers/net/card: drivers/net/base\ndrivers/net/base:\n",
		map[string]string{"modules.alias": "alias net:* base\n"})
	k.loader.First(true)
	answers := make(chan error, 2)
	for _, name := range []string{"tone", "net:x"} {
		k.loader.Request(name, func(err error) { answers <- err })
	}
	hotplugtest.Must(t, k.request("disk"))
	expect(t, k.loaded(), "mid", "disk")
	hotplugtest.Eventually(t, "nothing to do but what is put off", k.loader.IsIdle)
	hotplugtest.Must(t, k.request("far"))
	got := k.loaded()
	if len(got) != 5 || got[4] != "far" || slices.Contains(got, "core") {
		t.Errorf("loaded %q", got)
	}
	k.loader.First(false)
	for range 2 {
		hotplugtest.Within(t, "what was put off", func() { hotplugtest.Must(t, <-answers) })
	}
	if got := k.loaded(); !slices.Equal(got[5:], []string{"core", "tone"}) {
		t.Errorf("loaded %q", got)
	}
	for path, want := range map[string]bool{
		"/lib/modules/1/kernel/drivers/block/virtio_blk.ko": true,
		"/lib/modules/1/kernel/drivers/net/phy/a.ko":        false,
		"/lib/modules/1/kernel/sound/pci/hda/a.ko":          false,
		"/lib/modules/1/kernel/drivers/usb/storage/a.ko":    true,
		"/lib/modules/1/updates/a.ko":                       true,
		"":                                                  true,
	} {
		if got := (&Step{Path: path}).leadsToDisk(); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
}
