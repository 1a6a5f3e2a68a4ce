package systemtest

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// loopDisk is a loop device of the test's own: a disk that comes with a file.
type loopDisk struct {
	*board
	name    string // loopN
	control int    // /dev/loop-control
	number  int
	node    int // its node, open
}

// newLoopDisk adds a loop device, which is removed at the end of the test.
func (b *board) newLoopDisk() *loopDisk {
	b.Helper()
	dir := b.TempDir()
	control := filepath.Join(dir, "control")
	if err := unix.Mknod(control, unix.S_IFCHR|0o600, int(unix.Mkdev(10, 237))); err != nil {
		b.Fatal(err)
	}
	fd, err := unix.Open(control, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		kerneltest.Cannot(b, "loop-control: %v", err)
	}
	d := &loopDisk{board: b, control: fd, node: -1}
	for { // others may take the same number
		d.number = 100_000 + rand.IntN(900_000)
		if err := unix.IoctlSetInt(fd, unix.LOOP_CTL_ADD, d.number); err == nil {
			break
		} else if err != unix.EEXIST {
			kerneltest.Cannot(b, "a loop device: %v", err)
		}
	}
	d.name = "loop" + strconv.Itoa(d.number)
	b.Cleanup(func() {
		d.remove()
		unix.Close(fd)
	})
	return d
}

// open opens the device by a node that is not the program's.
func (d *loopDisk) open() {
	d.Helper()
	node := filepath.Join(d.TempDir(), d.name)
	major, minor, _ := strings.Cut(strings.TrimSpace(d.read("/sys/block/"+d.name+"/dev")), ":")
	if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(number(d, major), number(d, minor)))); err != nil {
		d.Fatal(err)
	}
	fd, err := unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		d.Fatal(err)
	}
	d.node = fd
}

// attach gives the device a file, and the name that it is said to have come by.
func (d *loopDisk) attach(path, said string) {
	d.Helper()
	file, err := os.Open(path)
	if err != nil {
		d.Fatal(err)
	}
	defer file.Close()
	config := unix.LoopConfig{Fd: uint32(file.Fd())}
	config.Info.Flags = unix.LO_FLAGS_READ_ONLY
	copy(config.Info.File_name[:len(config.Info.File_name)-1], said)
	// While somebody reads it, a device that was detached keeps its file; until all have
	// closed it, which is us too.
	kerneltest.Until(d, patience, "attach "+path+" to "+d.name, func() bool {
		d.open()
		err = unix.IoctlLoopConfigure(d.node, &config)
		if err == unix.EBUSY {
			d.close()
		} else if err != nil {
			d.Fatalf("attach %s to %s: %v", path, d.name, err)
		}
		return err == nil
	})
}

// close closes the node.
func (d *loopDisk) close() {
	unix.Close(d.node)
	d.node = -1
}

// detach takes the file away. The kernel does that when nobody has the device open.
func (d *loopDisk) detach() {
	d.Helper()
	if d.node < 0 {
		return
	}
	if err := unix.IoctlSetInt(d.node, unix.LOOP_CLR_FD, 0); err != nil {
		d.Errorf("detach %s: %v", d.name, err)
	}
	d.close()
}

// remove removes the device.
func (d *loopDisk) remove() {
	if d.node >= 0 {
		_ = unix.IoctlSetInt(d.node, unix.LOOP_CLR_FD, 0)
		d.close()
	}
	kerneltest.Eventually(patience, func() bool {
		err := unix.IoctlSetInt(d.control, unix.LOOP_CTL_REMOVE, d.number)
		return err == nil || err == unix.ENODEV
	})
}

// linksTo returns the paths of the links below dir, sorted by the name of the node that
// each leads to.
func linksTo(tb testing.TB, dir string) map[string][]string {
	tb.Helper()
	found := map[string][]string{}
	lines, err := kerneltest.Snapshot(dir)
	if err != nil {
		tb.Fatal(err)
	}
	for _, line := range lines {
		path, target, is := strings.Cut(line, " link -> ")
		if !is {
			continue
		}
		target = filepath.Join(filepath.Dir(path), target)
		found[target] = append(found[target], path)
	}
	for _, paths := range found {
		slices.Sort(paths)
	}
	return found
}

// settle waits for the loop's events, those that the kernel has yet to send too.
func (b *board) settle() {
	b.Helper()
	b.must(b.run("settle", "20", "--quiet", "0"))
}

// onRealDisks makes a board whose /sys is the machine's own. Only block devices get nodes
// where that is all that counts.
func onRealDisks(t *testing.T) *board {
	t.Helper()
	b := newBoard(t, "")
	b.tree.Dir = "/sys"
	return b
}
