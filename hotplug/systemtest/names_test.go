package systemtest

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// namedBoard makes a board whose /sys is the machine's own, for devices that have names.
func namedBoard(t *testing.T, conf string) *board {
	t.Helper()
	b := newBoard(t, conf)
	b.tree.Dir = "/sys"
	return b
}

// image makes a file of so many MiB that tools of file systems can write to.
func (b *board) image(name string, size int64) string {
	b.Helper()
	path := filepath.Join(b.dir, name)
	b.write(path, "")
	if err := os.Truncate(path, size<<20); err != nil {
		b.Fatal(err)
	}
	return path
}

// attach makes a loop device of a file and returns its name. It is taken down after the
// test.
func (b *board) attach(image string) string {
	b.Helper()
	kerneltest.Need(b, "losetup")
	// Nodes for losetup, which looks below /dev alone.
	kerneltest.Sh(b, "test -e /dev/loop-control || mknod /dev/loop-control c 10 237")
	for n := range 64 {
		_ = unix.Mknod("/dev/loop"+strconv.Itoa(n), unix.S_IFBLK|0o600, int(unix.Mkdev(7, uint32(n))))
	}
	free := filepath.Base(strings.TrimSpace(kerneltest.Sh(b, "losetup -f --show "+image)))
	b.Cleanup(func() { _ = exec.Command("losetup", "-d", "/dev/"+free).Run() })
	return free
}

// leadsTo fails unless a link leads to a node, or soon does.
func (b *board) leadsTo(link, node string) {
	b.Helper()
	var found string
	if !kerneltest.Eventually(patience, func() bool {
		found, _ = filepath.EvalSymlinks(filepath.Join(b.dev, link))
		return found == filepath.Join(b.dev, node)
	}) {
		b.Fatalf("%s leads to %q, not to %s", link, found, node)
	}
}

// lacks fails unless there is nothing at a path below /dev, or soon will be.
func (b *board) lacks(path string) {
	b.Helper()
	kerneltest.Until(b, patience, "the end of "+path, func() bool {
		_, err := os.Lstat(filepath.Join(b.dev, path))
		return err != nil
	})
}

// makeFS makes an ext4 file system.
func makeFS(t testing.TB, path, uuid, label string) {
	t.Helper()
	kerneltest.Need(t, "mkfs.ext4")
	kerneltest.Sh(t, "mkfs.ext4 -q -F -U "+uuid+" -L '"+label+"' "+path)
}

// newUUID returns one that no other test has: all see the disks of this machine.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// TestWaitForNames waits for a disk by what it holds, with a loop and without.
func TestWaitForNames(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := namedBoard(t, "")
	image := b.image("disk.img", 16)
	uuid := newUUID()
	makeFS(t, image, uuid, "a b/c")
	b.startLoop()
	targets := []string{"UUID=" + uuid, "LABEL=a b/c", `LABEL=a\x20b\x2fc`, "/dev/disk/by-uuid/" + uuid,
		b.dev + `/disk/by-label/a\x20b\x2fc`, "ID_FS_TYPE=ext4", "ID_FS_LABEL_ENC=a\\x20b\\x2fc"}
	before := b.command(append(append([]string{"wait"}, targets...), "20")...)
	if err := b.start(before); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	disk := b.attach(image)
	if err := before.Wait(); err != nil {
		t.Errorf("a wait that began before the disk came: %v", err)
	}
	targets = append(targets, "DEVNAME="+disk, "DEVNAME=/dev/"+disk)
	for _, target := range targets {
		b.must(b.run("wait", target, "5"))
	}
	if r := b.run("wait", "UUID="+newUUID(), "0.2"); r.code != exitEvent {
		t.Errorf("a disk that is not there: exit code %d", r.code)
	}
	b.leadsTo("disk/by-uuid/"+uuid, disk)
}

// TestWaitForNamesAlone waits where no loop can be asked.
func TestWaitForNamesAlone(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := namedBoard(t, "")
	image := b.image("disk.img", 16)
	uuid := newUUID()
	makeFS(t, image, uuid, "alone")
	b.attach(image)
	b.scan()
	for _, target := range []string{"UUID=" + uuid, "LABEL=alone", "ID_FS_UUID=" + uuid, "/dev/disk/by-label/alone"} {
		b.must(b.run("wait", target, "5"))
	}
}

// TestWaitForPartition waits for a partition, by what its table says of it.
func TestWaitForPartition(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	kerneltest.Need(t, "sfdisk")
	kerneltest.Need(t, "partx")
	b := namedBoard(t, "")
	image := b.image("disk.img", 32)
	part := strings.ToUpper(newUUID())
	kerneltest.Sh(t, "printf 'label: gpt\\nsize=8M, uuid="+part+", name=\"my root\"\\n' | sfdisk -q "+image)
	b.startLoop()
	disk := b.attach(image)
	kerneltest.Sh(t, "partx -u /dev/"+disk+"; :")
	t.Cleanup(func() { _ = exec.Command("partx", "-d", "/dev/"+disk).Run() })
	for _, target := range []string{"PARTUUID=" + part, "PARTUUID=" + strings.ToLower(part), "PARTLABEL=my root", `PARTLABEL=my\x20root`} {
		b.must(b.run("wait", target, "10"))
	}
}

// TestWaitWithoutNames has a program that was built without names say so.
func TestWaitWithoutNames(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := namedBoard(t, "")
	b.program = b.dir + "/nonames"
	kerneltest.Sh(t, "cd ../.. && CGO_ENABLED=0 go build -tags nonames -o "+b.program+" .")
	for _, target := range []string{"UUID=x", "LABEL=x", "PARTUUID=x", "PARTLABEL=x"} {
		if r := b.run("wait", target, "1"); r.code != exitEvent || !strings.Contains(r.stderr, "nonames") {
			t.Errorf("%s: exit code %d, %q", target, r.code, r.stderr)
		}
	}
	if r := b.run("info", "/dev/null"); r.code != exitUsage {
		t.Errorf("info: exit code %d", r.code)
	}
}

// TestInfo shows a device's names: those that it has, where a loop serves /dev, with those
// that a rule gives.
func TestInfo(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := namedBoard(t, "loop.* 0:0 600 >my/%0\n.* 0:0 600\n")
	image := b.image("disk.img", 16)
	uuid := newUUID()
	makeFS(t, image, uuid, "shown")
	info := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(b.program, append([]string{"info", "--dev", b.dev, "--sys", "/sys"}, args...)...)
		r := b.finish(cmd)
		b.must(r)
		return r.stdout
	}
	disk := b.attach(image)
	b.startLoop()
	b.ask("settle", "20")
	all := info(b.dev + "/disk/by-uuid/" + uuid)
	for _, line := range []string{"N: " + disk, "S: disk/by-uuid/" + uuid, "S: disk/by-label/shown", "S: " + disk, "E: ID_FS_TYPE=ext4"} {
		if !strings.Contains(all, "\n"+line+"\n") {
			t.Errorf("no line %q in\n%s", line, all)
		}
	}
	if err := os.Remove(b.dev + "/disk/by-label/shown"); err != nil {
		t.Fatal(err)
	}
	if links := info("-q", "symlink", disk); strings.Contains(links, "by-label") || !strings.Contains(links, "disk/by-uuid/"+uuid) {
		t.Errorf("links %q", links)
	}
	if got := info("-q", "property", "--property=ID_FS_LABEL", "-x", "/block/"+disk); got != "ID_FS_LABEL='shown'\n" {
		t.Errorf("%q", got)
	}
	if r := b.finish(exec.Command(b.program, "info")); r.code != exitUsage || !strings.Contains(r.stderr, "name a device") {
		t.Errorf("%d %q", r.code, r.stderr)
	}
}

// TestContents writes to a disk while a loop runs, by the tools that people use.
func TestContents(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := namedBoard(t, "")
	uuid, other, locked := newUUID(), newUUID(), newUUID()
	l := b.startLoop()
	disk := b.attach(b.image("disk.img", 32))
	node := filepath.Join(b.dev, disk)
	kerneltest.Until(t, patience, "the node", func() bool { _, err := os.Stat(node); return err == nil })
	b.ask("settle", "10")

	makeFS(t, node, uuid, "first"+uuid[:8])
	b.ask("settle", "10") // which is enough: nobody has to know that it takes a moment
	if got, err := os.Readlink(b.dev + "/disk/by-uuid/" + uuid); got != "../../"+disk {
		t.Errorf("after mkfs and settle: %q, %v", got, err)
	}
	b.leadsTo("disk/by-label/first"+uuid[:8], disk)

	kerneltest.Sh(t, "e2label "+node+" second"+uuid[:8])
	b.leadsTo("disk/by-label/second"+uuid[:8], disk)
	b.lacks("disk/by-label/first" + uuid[:8])

	kerneltest.Sh(t, "dd if=/dev/zero of="+node+" bs=1M count=1 conv=notrunc status=none")
	b.lacks("disk/by-uuid/" + uuid)
	b.lacks("disk/by-label/second" + uuid[:8])

	kerneltest.Need(t, "mkswap")
	kerneltest.Sh(t, "mkswap -q -U "+other+" "+node)
	b.leadsTo("disk/by-uuid/"+other, disk)

	kerneltest.Need(t, "cryptsetup")
	kerneltest.Sh(t, "echo secret | cryptsetup -q luksFormat --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --uuid "+locked+" "+node+" -")
	b.leadsTo("disk/by-uuid/"+locked, disk)
	b.lacks("disk/by-uuid/" + other)

	kerneltest.Sh(t, "losetup -d /dev/"+disk)
	b.lacks("disk/by-uuid/" + locked)
	if code := l.stop(); code != exitDone {
		t.Errorf("the loop ended with %d", code)
	}
	if text := l.stderr.String(); text != "" {
		t.Errorf("the loop says:\n%s", text)
	}
}

// TestContentsStorm has a rule write to the disk whenever that has changed.
func TestContentsStorm(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := namedBoard(t, "")
	uuid := newUUID()
	disk := b.attach(b.image("disk.img", 16))
	seen := filepath.Join(b.dir, "seen")
	b.configure("-" + disk + " 0:0 600 *test $ACTION = change && echo x >>" + seen + " && dd if=/dev/zero of=" + b.dev + "/" + disk + " bs=512 count=1 seek=100 conv=notrunc status=none\n.* 0:0 600\n")
	b.startLoop()
	count := func() int { text, _ := os.ReadFile(seen); return strings.Count(string(text), "x") }
	makeFS(t, b.dev+"/"+disk, uuid, "")
	b.leadsTo("disk/by-uuid/"+uuid, disk)
	time.Sleep(3 * time.Second)
	// At once, and after 250, 500, 1000, 2000 ms; with one more on either side.
	if n := count(); n < 2 || n > 7 {
		t.Errorf("%d events", n)
	}
	// What others write is still seen.
	again := newUUID()
	makeFS(t, b.dev+"/"+disk, again, "")
	b.leadsTo("disk/by-uuid/"+again, disk)
}

// loopChangeFD is LOOP_CHANGE_FD of linux/loop.h.
const loopChangeFD = 0x4c06

// TestMediaChange puts another medium into a disk: a loop device that gets another file while it
// is open. The kernel tells that as it does of a card reader.
func TestMediaChange(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := onRealDisks(t)
	l := b.startLoop()
	var media, uuids [2]string
	for i := range media {
		media[i], uuids[i] = b.image("medium"+strconv.Itoa(i), 8), newUUID()
		makeFS(t, media[i], uuids[i], "medium"+uuids[i][:8])
	}
	d := b.newLoopDisk()
	d.attach(media[0], media[0])
	b.leadsTo("disk/by-uuid/"+uuids[0], d.name)
	number := func() string { return "disk/by-diskseq/" + strings.TrimSpace(b.read("/sys/block/"+d.name+"/diskseq")) }
	was := number()
	b.leadsTo(was, d.name)
	for i := range 4 {
		in, out := uuids[(i+1)%2], uuids[i%2]
		file, err := os.Open(media[(i+1)%2])
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.IoctlSetInt(d.node, loopChangeFD, int(file.Fd())); err != nil {
			t.Fatal(err)
		}
		file.Close()
		b.leadsTo("disk/by-uuid/"+in, d.name)
		b.leadsTo("disk/by-label/medium"+in[:8], d.name)
		b.lacks("disk/by-uuid/" + out)
		b.lacks("disk/by-label/medium" + out[:8])
		if now := number(); now == was {
			t.Errorf("it is still %s", now)
		} else {
			b.leadsTo(now, d.name)
			b.lacks(was)
			was = now
		}
	}
	if code := l.stop(); code != exitDone || l.stderr.String() != "" {
		t.Errorf("the loop ended with %d:\n%s", code, l.stderr)
	}
}

// TestMediaPolling shows that the kernel is told to look for other media, once, and how to
// leave that off.
func TestMediaPolling(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	for _, c := range []struct{ conf, was, becomes string }{
		{"", "0\n", "2000"},
		{"SUBSYSTEM=module;names=no;block 0:0 660\n", "0\n", "0\n"},
		{"names=no; 0:0 660\n", "0\n", "0\n"},
		{"", "500\n", "500\n"},
	} {
		b := namedBoard(t, c.conf)
		setting := filepath.Join(b.dir, "setting")
		b.write(setting, c.was)
		const path = "/sys/module/block/parameters/events_dfl_poll_msecs"
		if err := unix.Mount(setting, path, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		l := b.startLoop()
		if got := b.read(setting); got != c.becomes {
			t.Errorf("%q, %q: %q, want %q", c.conf, c.was, got, c.becomes)
		}
		l.stop()
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
	}
}
