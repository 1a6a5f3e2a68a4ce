package systemtest

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
)

// TestPieces checks, plans, prints and scans with the pieces beside a config that is named.
func TestPieces(t *testing.T) {
	kerneltest.NeedRoot(t)
	b := newSandbox(t, "sda.* 0:0 640\n.* 0:0 600 =last/\n")
	at := b.conf + ".d/"
	b.write(at+"10-first.conf", "sda 0:6 660 >disk \\")
	b.write(at+"9-second.conf", "-sda1 0:0 600 >part\nbad\n")
	b.write(at+"no-piece", "bad\n")
	hotplugtest.Must(t, os.Mkdir(at+"dir.conf", 0o755))
	hotplugtest.Must(t, unix.Mkfifo(at+"fifo.conf", 0o644))
	hotplugtest.Must(t, os.Symlink("nowhere", at+"link.conf"))
	hotplugtest.Must(t, os.Symlink("/dev/null", at+"off.conf"))

	o := b.do(nil, "--check")
	for _, want := range []string{at + "9-second.conf:2:1: a rule has at least", at + "dir.conf:1:1: ", at + "fifo.conf:1:1: ", at + "link.conf:1:1: "} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("--check does not say %s:\n%s", want, o.stdout)
		}
	}
	if n := strings.Count(o.stdout, "\n"); n != 4 || o.code != exitConfig {
		t.Errorf("--check: %d lines, exit code %d\n%s", n, o.code, o.stdout)
	}
	o = b.do(nil, "--plan", "/devices/pci0/block/sda/sda1")
	if !strings.Contains(o.stdout, b.conf+":1\n") || !strings.Contains(o.stdout, "make link sda1 -> part                        "+at+"9-second.conf:1\n") {
		t.Errorf("--plan: %s", o.stdout)
	}
	printed := b.do(nil, "--print-conf")
	if printed.code != exitDone || !strings.Contains(printed.stdout, "# "+at+"10-first.conf \nsda 0:6 660 >disk \\\n\n# "+at+"9-second.conf \n-sda1") ||
		!strings.HasSuffix(printed.stdout, "# "+b.conf+" \nsda.* 0:0 640\n.* 0:0 600 =last/\n\n\n") || !strings.Contains(printed.stdout, "# "+at+"fifo.conf open ") {
		t.Errorf("--print-conf: %+v", printed)
	}
	before := b.do(nil, "--plan").stdout
	if o := b.do(nil, "-s"); o.code != exitDone || !strings.Contains(o.stderr, at+"9-second.conf:2:1: ") {
		t.Errorf("-s: %+v", o)
	}
	b.wantNodes("disk", "last", "part", "sda", "sda1")

	// What was printed says the same.
	hotplugtest.Must(t, os.RemoveAll(at))
	b.write(b.conf, printed.stdout)
	stripped := func(plan string) (all string) {
		for line := range strings.Lines(plan) {
			all += strings.TrimSpace(line[:min(len(line), 47)]) + "\n"
		}
		return all
	}
	if after := b.do(nil, "--plan").stdout; stripped(after) != stripped(before) {
		t.Errorf("the plan of what was printed:\n%s\nwant\n%s", after, before)
	}
}

// TestPiecesTooMany refuses what is more than one file may be.
func TestPiecesTooMany(t *testing.T) {
	b := newSandbox(t, "")
	long := "#" + strings.Repeat("x", 600<<10) + "\n"
	b.write(b.conf+".d/1.conf", long)
	b.write(b.conf+".d/2.conf", long)
	if o := b.do(nil, "--check"); o.code != exitConfig || !strings.Contains(o.stderr, "longer than 1 MiB (1048576 bytes) together; ") {
		t.Errorf("too long: %+v", o)
	}
	b.write(b.conf+".d/2.conf", "")
	if o := b.do(nil, "--check"); o.code != exitDone {
		t.Errorf("not too long: %+v", o)
	}
	for i := range 201 {
		b.write(b.conf+".d/"+strings.Repeat("x", i)+".y.conf", "")
	}
	if o := b.do(nil, "--check"); o.code != exitConfig || !strings.Contains(o.stderr, "more than 200 pieces; ") {
		t.Errorf("too many: %+v", o)
	}
}

// TestPiecesOfTheSystem has packages and the system bring pieces, while a loop runs without any
// option. A helper reads them too.
func TestPiecesOfTheSystem(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "sd.* 0:0 640\n")
	for _, dir := range []string{"/upper", "/work", "/etc/mdev.conf.d"} {
		hotplugtest.Must(t, os.MkdirAll(b.dir+dir, 0o755))
	}
	b.jail.Do(func() {
		hotplugtest.Must(t, unix.Mount("overlay", "/usr/lib", "overlay", 0, "lowerdir=/usr/lib,upperdir="+b.dir+"/upper,workdir="+b.dir+"/work"))
		hotplugtest.Must(t, os.Mkdir("/usr/lib/mdev.conf.d", 0o755))
		hotplugtest.Must(t, os.WriteFile("/usr/lib/mdev.conf.d/10-a.conf", []byte("sda 0:0 600\n"), 0o644))
		hotplugtest.Must(t, os.WriteFile("/usr/lib/mdev.conf.d/20-b.conf", []byte("sdb 0:0 600\n"), 0o644))
	})
	b.write(b.dir+"/etc/mdev.conf.d/20-b.conf", "")
	b.tell(b.plug(disk(0)))
	b.has("sda block 0600 0:0 8:0")
	l := b.startLoop()
	l.send(b.plug(disk(1)))
	b.has("sda block 0600 0:0 8:0", "sdb block 0640 0:0 8:16")
	if got := b.status("config"); got != "/etc/mdev.conf, after 2 of its pieces" {
		t.Errorf("config: %s", got)
	}
	if r := b.run("--print-conf"); !strings.HasPrefix(r.stdout, "# /usr/lib/mdev.conf.d/10-a.conf \nsda 0:0 600\n\n\n# /etc/mdev.conf.d/20-b.conf \n\n\n# /etc/mdev.conf \nsd.*") {
		t.Errorf("--print-conf: %s%s", r.stdout, r.stderr)
	}
	read := func(n int) {
		t.Helper()
		kerneltest.Until(t, patience, "the config is read anew", func() bool {
			return strings.Count(l.stderr.String(), "the config was read anew") == n
		})
	}
	// A package comes, another one is changed, one goes; the directory itself goes.
	b.jail.Do(func() {
		hotplugtest.Must(t, os.WriteFile("/usr/lib/mdev.conf.d/30-c.conf", []byte("sdc 0:0 600\n"), 0o644))
	})
	read(1)
	l.send(b.plug(disk(2)))
	b.has("sda block 0600 0:0 8:0", "sdb block 0640 0:0 8:16", "sdc block 0600 0:0 8:32")
	b.write(b.dir+"/etc/mdev.conf.d/20-b.conf", "sdd 0:0 400\n")
	read(2)
	l.send(b.plug(disk(3)))
	b.has("sda block 0600 0:0 8:0", "sdb block 0640 0:0 8:16", "sdc block 0600 0:0 8:32", "sdd block 0400 0:0 8:48")
	b.write(b.dir+"/etc/mdev.conf.d/40-d.conf", "bad\n")
	kerneltest.Until(t, patience, "the new problem is told", func() bool {
		return strings.Contains(l.stderr.String(), "/etc/mdev.conf.d/40-d.conf:1:1: a rule has at least three fields")
	})
	hotplugtest.Must(t, os.RemoveAll(b.dir+"/etc/mdev.conf.d"))
	read(3)
	if got := b.status("config"); got != "/etc/mdev.conf, after 3 of its pieces" {
		t.Errorf("without /etc/mdev.conf.d: config: %s", got)
	}
	b.jail.Do(func() { hotplugtest.Must(t, os.RemoveAll("/usr/lib/mdev.conf.d")) })
	read(4)
	if got := b.status("config"); got != "/etc/mdev.conf" {
		t.Errorf("without a piece: config: %s", got)
	}
}
