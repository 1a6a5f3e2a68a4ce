package systemtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
)

// Sizes of images.
const mega = 1 << 20

// images are what disks hold, and the links by that where udev does not count.
var images = []struct {
	name string
	size int64
	tool string
	line string
}{
	{"ext4", 8 * mega, "mke2fs", `mke2fs -q -t ext4 -L 'my disk/1' "$I"`},
	{"vfat", 8 * mega, "mkfs.vfat", `mkfs.vfat -n 'CARD 1' "$I" >/dev/null`},
	{"xfs", 400 * mega, "mkfs.xfs", `mkfs.xfs -q -L exfs "$I"`},
	{"btrfs", 128 * mega, "mkfs.btrfs", `mkfs.btrfs -q -L 'größe "日本"' "$I"`},
	{"exfat", 8 * mega, "mkfs.exfat", `mkfs.exfat -L extra "$I" >/dev/null`},
	{"ntfs", 8 * mega, "mkntfs", `mkntfs -q -F -f -L windows "$I" >/dev/null`},
	{"swap", 8 * mega, "mkswap", `mkswap -q -L swapped "$I"`},
	{"luks", 20 * mega, "cryptsetup", `echo pw | cryptsetup -q luksFormat --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --label vault "$I" -`},
	{"gpt", 32 * mega, "sfdisk", `printf 'label: gpt\nsize=8M,name="my root/1"\nsize=8M,name=other\n' | sfdisk -q "$I" && mke2fs -q -t ext4 -L inner "$I.x" 8M && dd if="$I.x" of="$I" bs=1M seek=1 conv=notrunc status=none`},
	{"mbr", 16 * mega, "sfdisk", `printf 'label: dos\nsize=4M\nsize=4M\n' | sfdisk -q "$I"`},
	{"two signatures", 8 * mega, "mkswap", `mke2fs -q -t ext4 -L both "$I" && printf SWAPSPACE2 | dd of="$I" bs=1 seek=4086 conv=notrunc status=none`},
	{"nothing", 8 * mega, "sh", `:`},
}

// udevScript runs udev's rules over devices in a /dev that is the script's alone. It reads
// lines with a devpath, a node's name and its numbers.
const udevScript = `
mount --make-rprivate / || exit 1
mount -t tmpfs none /run && mkdir -p /run/udev && mount -t tmpfs none /dev || exit 1
while read -r devpath name major minor; do
	mknod "/dev/$name" b "$major" "$minor"
	printf 'device %s\n' "$name"
	udevadm test -a add "/sys$devpath" 2>/dev/null
done
:
`

// udevLinks returns the links that udev says block devices deserve, by name.
func udevLinks(t *testing.T, names []string) map[string][]string {
	t.Helper()
	kerneltest.Need(t, "udevadm")
	var asked strings.Builder
	for _, name := range names {
		devpath, err := filepath.EvalSymlinks("/sys/class/block/" + name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(devpath + "/dev")
		if err != nil {
			t.Fatal(err)
		}
		major, minor, _ := strings.Cut(strings.TrimSpace(string(text)), ":")
		fmt.Fprintln(&asked, strings.TrimPrefix(devpath, "/sys"), name, major, minor)
	}
	cmd := exec.Command("unshare", "-m", "sh", "-c", udevScript)
	cmd.Stdin, cmd.Stderr = strings.NewReader(asked.String()), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	said, name := map[string][]string{}, ""
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSuffix(line, "\n")
		if next, is := strings.CutPrefix(line, "device "); is {
			name = next
		} else if links, is := strings.CutPrefix(line, "DEVLINKS="); is {
			for _, path := range strings.Fields(links) {
				said[name] = append(said[name], strings.TrimPrefix(path, "/dev/"))
			}
		}
	}
	return said
}

// differences is a file of testdata that says where links may differ.
type differences struct {
	lines []string // side, pattern
	seen  map[string]bool
}

func loadDifferences(t *testing.T, path string) *differences {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := &differences{seen: map[string]bool{}}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 2 && f[0] != "#" {
			d.lines = append(d.lines, f[0]+" "+f[1])
		}
	}
	return d
}

// explain reports whether one side alone may have that link.
func (d *differences) explain(side, path string) bool {
	for _, line := range d.lines {
		its, pattern, _ := strings.Cut(line, " ")
		if its == side && kerneltest.Glob(pattern, path) {
			d.seen[line] = true
			return true
		}
	}
	return false
}

// compare fails where a device's links are not those that udev says.
func (d *differences) compare(t *testing.T, what string, ours, theirs []string) {
	t.Helper()
	for _, path := range theirs {
		if !slices.Contains(ours, path) && !d.explain("udev", path) {
			t.Errorf("%s: only udev has %s", what, path)
		}
	}
	for _, path := range ours {
		if !slices.Contains(theirs, path) && !d.explain("ours", path) {
			t.Errorf("%s: only we have %s", what, path)
		}
	}
}

// TestNamesLikeUdev attaches images of many types, and compares the links that the loop,
// a scan and helpers make with what udev says.
func TestNamesLikeUdev(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := onRealDisks(t)
	l := b.startLoop()
	var names []string
	holds := map[string]string{} // name: what it holds
	for i, image := range images {
		path := filepath.Join(b.dir, "image "+strconv.Itoa(i))
		b.write(path, "")
		if err := os.Truncate(path, image.size); err != nil {
			t.Fatal(err)
		}
		kerneltest.Need(t, image.tool)
		kerneltest.Sh(t, "I='"+path+"'; "+image.line)
		d := b.newLoopDisk()
		d.attach(path, path)
		names = append(names, d.name)
		holds[d.name] = image.name
		if image.name == "gpt" || image.name == "mbr" {
			node := filepath.Join(b.dev, d.name)
			kerneltest.Until(t, patience, "the node", func() bool { _, err := os.Stat(node); return err == nil })
			kerneltest.Sh(t, "partx -u "+node) // a kernel may know no partition tables
			t.Cleanup(func() { _ = exec.Command("partx", "-d", node).Run() })
			for _, n := range []string{"1", "2"} {
				names = append(names, d.name+"p"+n)
				holds[d.name+"p"+n] = image.name + " partition " + n
			}
		}
	}
	b.settle()
	said := udevLinks(t, names)
	table := loadDifferences(t, "testdata/names.txt")
	compare := func(way, dev string) {
		t.Helper()
		found := linksTo(t, dev)
		for _, name := range names {
			table.compare(t, way+": "+holds[name], found[name], said[name])
		}
	}
	compare("loop", b.dev)
	labels := 0
	for _, paths := range linksTo(t, b.dev) {
		for _, path := range paths {
			if strings.HasPrefix(path, "disk/by-label/") {
				labels++
			}
		}
	}
	if labels < 9 {
		t.Errorf("only %d labels", labels)
	}
	if code := l.stop(); code != exitDone || l.stderr.String() != "" {
		t.Errorf("the loop ended with %d:\n%s", code, l.stderr)
	}

	again := b.another(t)
	again.scan()
	compare("scan", again.dev)
	again.scan()
	compare("second scan", again.dev)

	helped := b.another(t)
	for _, name := range names {
		helped.tell(eventOf(t, "add", name))
	}
	compare("helper", helped.dev)
	for _, name := range names {
		helped.tell(eventOf(t, "change", name))
	}
	compare("helper at a change", helped.dev)
	for _, line := range table.lines {
		if !table.seen[line] {
			t.Errorf("names.txt: nothing differs so: %s", line)
		}
	}
}

// another returns a board with the same /sys and a /dev of its own.
func (b *board) another(t *testing.T) *board {
	dev, err := os.MkdirTemp(b.dir, "dev")
	if err != nil {
		t.Fatal(err)
	}
	return &board{T: t, tree: b.tree, dir: b.dir, dev: dev, conf: b.conf, firmware: b.firmware, program: b.program, null: b.null}
}

// eventOf returns an event as the kernel would send it for a block device of this machine.
func eventOf(t *testing.T, action, name string) kerneltest.Event {
	t.Helper()
	devpath, err := filepath.EvalSymlinks("/sys/class/block/" + name)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(devpath + "/uevent")
	if err != nil {
		t.Fatal(err)
	}
	vars := append([]string{"SUBSYSTEM=block"}, strings.Split(strings.TrimSpace(string(text)), "\n")...)
	return kerneltest.Event{Action: action, Devpath: strings.TrimPrefix(devpath, "/sys"), Vars: vars}
}

// TestTwoClaimants has two disks of one label come and go while the loop is killed and
// other devices keep it busy: while one of them stays the link is there, and it never
// leads to a disk that has gone for good.
func TestTwoClaimants(t *testing.T) {
	if !jailed(t) {
		return
	}
	b := onRealDisks(t)
	rnd := newRand(seed(t))
	var files [2]string
	for i := range files {
		files[i] = filepath.Join(b.dir, "claimant"+strconv.Itoa(i))
		b.write(files[i], string(kerneltest.Image(t, 4*mega, "mke2fs", `mke2fs -q -t ext4 -O ^has_journal -L twin "$I"`)))
	}
	disks := [2]*loopDisk{b.newLoopDisk(), b.newLoopDisk()}
	link := filepath.Join(b.dev, "disk/by-label/twin")
	l := b.startLoop()

	stop := make(chan struct{})
	var workers sync.WaitGroup
	t.Cleanup(func() { workers.Wait() })
	t.Cleanup(func() { close(stop) })
	workers.Go(func() { // other events
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, name := range []string{"null", "zero", "full", "random"} {
				_ = os.WriteFile("/sys/class/mem/"+name+"/uevent", []byte("change"), 0)
			}
			time.Sleep(2 * time.Millisecond)
		}
	})
	var held atomic.Int32 // a claimant stays, and the link was seen: what follows is to have it
	var missing, looks atomic.Int32
	workers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			before := held.Load()
			_, err := os.Stat(link)
			if before > 0 && held.Load() == before {
				looks.Add(1)
				if err != nil {
					missing.Add(1)
				}
			}
			time.Sleep(200 * time.Microsecond)
		}
	})

	leadsTo := func() string { target, _ := os.Readlink(link); return filepath.Base(target) }
	round := int32(0)
	on := [2]bool{}
	toggle := func(i int) {
		if on[i] {
			disks[i].detach()
		} else {
			disks[i].attach(files[i], files[i])
		}
		on[i] = !on[i]
	}
	toggle(0)
	b.settle()
	const rounds = 200
	for round < rounds {
		round++
		stays := rnd.IntN(2)
		if !on[stays] {
			stays = 1 - stays
		}
		held.Store(round)
		other := 1 - stays
		kill := rnd.IntN(3) == 0
		if kill && rnd.IntN(2) == 0 {
			l.kill() // what happens then nobody hears
			toggle(other)
			l = b.startLoop()
			kill = false
		} else {
			for range 1 + rnd.IntN(3) {
				toggle(other)
			}
		}
		if kill {
			time.Sleep(time.Duration(rnd.IntN(3000)) * time.Microsecond)
			l.kill()
			l = b.startLoop()
		}
		b.settle()
		want := []string{disks[stays].name}
		if on[other] {
			want = append(want, disks[other].name)
		}
		// A disk that was being read when it was to be detached is so after that; the kernel
		// tells of it when settle has its answer already.
		if !kerneltest.Eventually(patience, func() bool { return slices.Contains(want, leadsTo()) }) {
			t.Fatalf("round %d: the link leads to %q, and %q have the label", round, leadsTo(), want)
		}
		for target, paths := range linksTo(t, b.dev) {
			if _, err := os.Lstat(filepath.Join(b.dev, target)); err != nil {
				t.Errorf("round %d: %q dangle: %v", round, paths, err)
			}
		}
		held.Store(0)
		if !on[other] && rnd.IntN(4) == 0 { // none
			toggle(stays)
			b.settle()
			if !kerneltest.Eventually(patience, func() bool { return leadsTo() == "." }) {
				t.Fatalf("round %d: the link leads to %s, and nobody has the label", round, leadsTo())
			}
			toggle(rnd.IntN(2))
			b.settle()
		}
	}
	if n := missing.Load(); n > 0 || looks.Load() < rounds {
		t.Errorf("%d times of %d the link was missing while a claimant was there", n, looks.Load())
	}
	t.Logf("%d looks", looks.Load())
}

// TestNamesThatLie has disks whose labels and files' names are meant to do harm.
func TestNamesThatLie(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := onRealDisks(t)
	outside := b.dir + "/outside"
	b.write(outside, "untouched\n")
	l := b.startLoop()
	labels := []string{"../../outside", "..", ".", "/", "//a//", "a\nb", "\x1b[31mred", "a\tb c", "\xff\xfe\xc0", `\x2f\x2e`, "$(id)`id`", "*?[a]", "-rf", "%s%n{ID}"}
	image := kerneltest.Image(t, 4*mega, "mke2fs", `mke2fs -q -t ext2 "$I"`)
	const label, uuid = 1024 + 120, 1024 + 104
	var names []string
	for i, text := range labels {
		path := filepath.Join(b.dir, strconv.Itoa(i))
		own := slices.Clone(image)
		copy(own[label:label+16], text+strings.Repeat("\x00", 16))
		own[uuid] = byte(i) // each has its own
		b.write(path, string(own))
		d := b.newLoopDisk()
		d.attach(path, "../../"+text)
		names = append(names, d.name)
	}
	b.settle()
	check := func(way, dev string) {
		t.Helper()
		found := linksTo(t, dev)
		seen := map[string]bool{}
		for _, name := range names {
			n := 0
			for _, path := range found[name] {
				dir, base := filepath.Split(path)
				switch dir {
				case "disk/by-label/":
					n++
				case "disk/by-uuid/", "disk/by-diskseq/", "disk/by-loop-inode/", "disk/by-loop-ref/", "block/":
				default:
					t.Errorf("%s: a link at %q", way, path)
				}
				if seen[path] {
					t.Errorf("%s: two links at %q", way, path)
				}
				seen[path] = true
				for _, c := range []byte(base) {
					if c < ' ' || c == 0x7f || c == ' ' {
						t.Errorf("%s: a link at %q", way, path)
					}
				}
			}
			if n > 1 {
				t.Errorf("%s: %d labels", way, n)
			}
		}
		for path := range seen {
			if target, err := os.Readlink(filepath.Join(dev, path)); err != nil || !strings.HasPrefix(filepath.Base(target), "loop") {
				t.Errorf("%s: %q leads to %q, %v", way, path, target, err)
			}
		}
	}
	check("loop", b.dev)
	if got := b.read(outside); got != "untouched\n" {
		t.Errorf("what lies outside holds %q", got)
	}
	if code := l.stop(); code != exitDone {
		t.Errorf("the loop ended with %d:\n%s", code, l.stderr)
	}
	if strings.Contains(l.stderr.String(), "\x1b") {
		t.Errorf("the log holds escapes: %q", l.stderr)
	}
	again := b.another(t)
	again.scan()
	check("scan", again.dev)
}
