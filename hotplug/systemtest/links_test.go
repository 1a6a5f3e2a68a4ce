package systemtest

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"devspool/hotplug/kerneltest"
)

// clone returns a disk that says of itself what others say too.
func clone(n int, extra ...string) kerneltest.Device {
	d := disk(n)
	d.Extra = append(d.Extra, extra...)
	return d
}

// TestRuleLinks has rules give links by what events say. Clones share a link: the one with
// the highest priority has it, in each mode, and when it leaves the best that is left.
func TestRuleLinks(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	conf := `-prio=9;BEST=1;sd.* 0:6 660
-names=no;property=BAY:%1;link=bay/$BAY;sd([a-z]) 0:6 660
ID_FS_LABEL=.;link=disk/by-label/$ID_FS_LABEL_ENC;link=disk/by-uuid/$ID_FS_UUID;sd.* 0:6 660
sd.* 0:6 600
`
	const label, uuid = "ID_FS_LABEL=a b/", `ID_FS_LABEL_ENC=a\x20b\x2f`
	a, b_, c := clone(0, label, uuid, "ID_FS_UUID=7"), clone(1, label, uuid, "BEST=1"), clone(2, label, uuid)
	inEachMode(t, conf, func(b *board, tell func(kerneltest.Event)) {
		links := func(want ...string) {
			b.Helper()
			var got []string
			ok := kerneltest.Eventually(patience, func() bool {
				got = nil
				for _, line := range b.snapshot() {
					if strings.Contains(line, " link ") {
						got = append(got, line)
					}
				}
				return slices.Equal(got, want)
			})
			if !ok {
				b.Errorf("the links are %q, want %q", got, want)
			}
		}
		const byLabel = `disk/by-label/a\x20b\x2f link -> ../../`
		tell(b.plug(a))
		links("bay/a link -> ../sda", byLabel+"sda", "disk/by-uuid/7 link -> ../../sda")
		tell(b.plug(b_))
		tell(b.plug(c))
		links("bay/a link -> ../sda", "bay/b link -> ../sdb", "bay/c link -> ../sdc", byLabel+"sdb", "disk/by-uuid/7 link -> ../../sda")
		b.likeFresh("three clones")
		tell(b.unplug(b_))
		links("bay/a link -> ../sda", "bay/c link -> ../sdc", byLabel+"sdc", "disk/by-uuid/7 link -> ../../sda")
		tell(b.unplug(c))
		links("bay/a link -> ../sda", byLabel+"sda", "disk/by-uuid/7 link -> ../../sda")
		tell(b.unplug(a))
		links()
	})
}

// TestHostileLinks has a device say what would lead elsewhere, or run something.
func TestHostileLinks(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	conf := "link=disk/by-label/$ID_FS_LABEL;link=$ID_FS_LABEL;sd.* 0:6 660\n"
	for _, label := range []string{"../../../etc/x", "..", ".", "/", "a/../../b", "$(touch /x)", "`touch /x`", "\x1b]0;x\a", "\xff\xfe", ".devspool",
		strings.Repeat("x", 4000), strings.Repeat("../", 900), "sda", "null"} {
		b := newBoard(t, conf)
		outside := func() []string {
			var names []string
			err := filepath.WalkDir(b.dir, func(path string, d os.DirEntry, err error) error {
				if err == nil && !strings.HasPrefix(path, b.tree.Dir) && !strings.HasPrefix(path, b.dev+"/") {
					names = append(names, path)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
			return names
		}
		before := outside()
		e := b.plug(disk(0)).With("ID_FS_LABEL=" + label)
		r := b.finish(b.helper(e))
		if r.code != exitDone && r.code != exitEvent {
			t.Errorf("%.40q: exit code %d; %s", label, r.code, r.stderr)
		}
		if strings.ContainsAny(r.stderr, "\x1b\a") {
			t.Errorf("%.40q is in the log: %q", label, r.stderr)
		}
		for _, line := range b.snapshot() {
			name, _, _ := strings.Cut(line, " ")
			if text, err := os.Readlink(filepath.Join(b.dev, name)); err == nil {
				if target := filepath.Join(b.dev, filepath.Dir(name), text); target != b.dev+"/sda" {
					t.Errorf("%.40q: %s leads to %s", label, name, target)
				}
			}
		}
		if after := outside(); !slices.Equal(before, after) {
			t.Errorf("%.40q: %q became %q", label, before, after)
		}
		b.finish(b.helper(b.unplug(disk(0)).With("ID_FS_LABEL=" + label)))
		b.has()
	}
}

// TestAttributes has rules look at files of the device's directory in /sys, and of one
// above it; --plan shows what comes of them, and --check what is wrong.
func TestAttributes(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	ports := []kerneltest.Device{terminal(1), terminal(2)}
	ports[0].Attrs = map[string]string{"name": "org.agent  \n"}
	ports[1].Attrs = map[string]string{"name": "org.other\n"}
	inEachMode(t, "if_attr=name:^org.agent$;link=ports/agent;ttyS(.*) 0:20 660 =serial%1\n", func(b *board, tell func(kerneltest.Event)) {
		for _, d := range ports {
			tell(b.plug(d))
		}
		b.has("ports dir 0755 0:0", "ports/agent link -> ../serial1", "serial1 char 0660 0:20 204:1", "ttyS2 char 0660 0:0 204:2")
		r := b.run("--plan", ports[0].Devpath)
		if r.code != exitDone || !strings.Contains(r.stdout, "make link ports/agent -> ../serial1") {
			b.Errorf("--plan says %+v", r)
		}
		for _, d := range ports {
			tell(b.unplug(d))
		}
		b.has()
	})
	b := newBoard(t, "if_attr=../..:x;sda 0:0 660\nlink=${A};sda 0:0 660\nattr:vendor=1;sda 0:0 660\n")
	r := b.run("--check")
	if r.code == exitDone || !strings.Contains(r.stdout, ":1:9: ") || !strings.Contains(r.stdout, "write $NAME") || !strings.Contains(r.stdout, "write if_attr=PATH:EXPR;") {
		t.Errorf("--check says %+v", r)
	}
}

// TestLinksUnderBusyBox gives BusyBox a config with all that is our own. It makes of each
// device what it would without these rules, and complains of nothing.
func TestLinksUnderBusyBox(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	r := newRig(t)
	r.put("mdev.conf", `link=disk/by-uuid/$ID_FS_UUID-%1;sd.|sda 0:6 611
prio=-5;sda|sdb 0:6 611
names=no;sda|sdb 0:6 611
names=no; 0:0 660
name=lan0;sda|sdb 0:6 611
property=ID_X:$SLOT.%0;sda|sdb 0:6 611
if_attr=vendor:^0x8086|sda$;sda|sdb 0:6 611
if_attr=../../x:a;-link=x;sda|sdb 0:6 611
sdb 0:6 640
`)
	for n := range 2 {
		if _, err := r.tree.Add(disk(n)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := r.command(r.busybox, "-s")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := r.busybox.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || said.Len() > 0 {
		t.Errorf("BusyBox: %v, %s", err, &said)
	}
	want := []string{"sda block 0660 0:0 8:0", "sdb block 0640 0:6 8:16"}
	got := slices.DeleteFunc(r.state(r.busybox), func(line string) bool { return !strings.HasPrefix(line, "sd") })
	if !slices.Equal(got, want) {
		t.Errorf("BusyBox makes %q, want %q", got, want)
	}
}
