package contents_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/contents"
	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/uevent"
)

// bench is a Watcher over a sysfs that a test made. What stands for a disk is a node of
// /dev/null's numbers, which anybody may write to.
type bench struct {
	*testing.T
	*contents.Watcher
	sys *hotplugtest.Sysfs
	dir string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	hotplugtest.NeedRoot(t)
	s := hotplugtest.NewSysfs(t)
	w, err := contents.New(s.FS, hotplugtest.NewLog(t).Logger)
	hotplugtest.Must(t, err)
	t.Cleanup(w.Close)
	return &bench{t, w, s, t.TempDir()}
}

// plug makes a disk, and watches it.
func (b *bench) plug(devpath string) (e *uevent.Event, node string) {
	b.Helper()
	e = b.add(devpath)
	node = filepath.Join(b.dir, e.Sysname())
	hotplugtest.Must(b.T, unix.Mknod(node, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	b.Watch(e, node)
	return e, node
}

// add makes a disk and returns its event.
func (b *bench) add(devpath string) *uevent.Event {
	b.Helper()
	hotplugtest.Must(b.T, os.MkdirAll(b.sys.Path(devpath), 0o755))
	b.empty(devpath)
	return hotplugtest.NewEvent(b.T, "ACTION=add", "DEVPATH="+devpath, "SUBSYSTEM=mem", "MAJOR=1", "MINOR=3")
}

// empty forgets what was asked for.
func (b *bench) empty(devpath string) {
	hotplugtest.WriteFile(b.T, b.sys.Path(devpath+"/uevent"), "")
}

func (b *bench) asked(devpath string) bool {
	return strings.HasPrefix(hotplugtest.Contents(b.T, b.sys.Path(devpath+"/uevent")), "change")
}

func (b *bench) write(node string) {
	b.Helper()
	hotplugtest.WriteFile(b.T, node, "x")
}

// TestWatch shows when an event is asked for: at once, then after a pause; for a disk's
// partitions too; and not of a disk that was only read, or that is not watched any more.
func TestWatch(t *testing.T) {
	b := newBench(t)
	const disk = "/devices/virtual/mem/disk"
	e, node := b.plug(disk)
	for _, child := range []string{"/disk1", "/queue"} {
		hotplugtest.Must(t, os.Mkdir(b.sys.Path(disk+child), 0o755))
		b.empty(disk + child)
	}
	hotplugtest.WriteFile(t, b.sys.Path(disk+"/disk1/partition"), "1\n")
	if _, err := os.ReadFile(node); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	if b.asked(disk) {
		t.Error("to read it is enough")
	}
	begun := time.Now()
	b.write(node)
	hotplugtest.Eventually(t, "an event", func() bool { return b.asked(disk) && b.asked(disk+"/disk1") })
	if b.asked(disk + "/queue") {
		t.Error("what is no partition got an event")
	}
	b.empty(disk)
	for range 5 {
		b.write(node)
	}
	hotplugtest.Eventually(t, "a further event", func() bool { return b.asked(disk) })
	if pause := time.Since(begun); pause < 240*time.Millisecond {
		t.Errorf("it came after %v", pause)
	}
	// A node that was made anew is watched in the other's place.
	hotplugtest.Must(t, os.Remove(node))
	hotplugtest.Must(t, unix.Mknod(node, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	b.Watch(e, node)
	b.empty(disk)
	b.write(node)
	hotplugtest.Eventually(t, "an event of the new node", func() bool { return b.asked(disk) })
	b.Drop(disk)
	b.empty(disk)
	b.write(node)
	time.Sleep(1200 * time.Millisecond)
	if b.asked(disk) {
		t.Error("it is still watched")
	}
}

// TestNotWatched shows which disks are left alone.
func TestNotWatched(t *testing.T) {
	b := newBench(t)
	_, drive := b.plug("/devices/virtual/mem/sr0")
	b.write(drive)

	const other, linked = "/devices/virtual/mem/other", "/devices/virtual/mem/linked"
	b.add(other) // whose numbers are not those of the node
	b.Watch(hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH="+other, "SUBSYSTEM=mem", "MAJOR=1", "MINOR=5"), drive)
	link := filepath.Join(b.dir, "link")
	hotplugtest.Must(t, os.Symlink(drive, link))
	b.Watch(b.add(linked), link)
	const silent = "/devices/virtual/mem/silent" // of which no event can be asked for
	e := b.add(silent)
	hotplugtest.Must(t, os.Remove(b.sys.Path(silent+"/uevent")))
	b.Watch(e, drive)
	b.write(drive)

	time.Sleep(100 * time.Millisecond)
	for _, devpath := range []string{"/devices/virtual/mem/sr0", other, linked} {
		if b.asked(devpath) {
			t.Errorf("%s is watched", devpath)
		}
	}
}

// TestManyWatched writes to many disks at once.
func TestManyWatched(t *testing.T) {
	b := newBench(t)
	var nodes, devpaths []string
	for n := range 200 {
		devpath := "/devices/virtual/mem/d" + strconv.Itoa(n)
		_, node := b.plug(devpath)
		nodes, devpaths = append(nodes, node), append(devpaths, devpath)
	}
	for _, node := range nodes {
		b.write(node)
	}
	for _, devpath := range devpaths {
		hotplugtest.Eventually(t, "an event of "+devpath, func() bool { return b.asked(devpath) })
	}
}
