package identity

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
)

// TestLock has a tool keep others from a disk for a while, as sfdisk --lock does.
func TestLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "disk")
	hotplugtest.WriteFile(t, path, "")
	tool, err := os.Open(path)
	hotplugtest.Must(t, err)
	defer tool.Close()
	fd := int(tool.Fd())
	hotplugtest.Must(t, unix.Flock(fd, unix.LOCK_EX))
	disk, err := os.Open(path)
	hotplugtest.Must(t, err)
	defer disk.Close()
	begun := time.Now()
	const held = 200 * time.Millisecond
	time.AfterFunc(held, func() { _ = unix.Flock(fd, unix.LOCK_UN) })
	if !lock(int(disk.Fd())) {
		t.Error("it is given up")
	}
	if took := time.Since(begun); took < held {
		t.Errorf("it is not waited for: %v", took)
	}
	if !lock(fd) {
		t.Error("two cannot read at once")
	}
}
