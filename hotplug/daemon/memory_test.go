package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
)

// TestReleaseMemory shows that the program runs on without its pages, and that a page stays as it is
// which was changed before its mapping became read-only.
func TestReleaseMemory(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	hotplugtest.WriteFile(t, path, "as in the file")
	file, err := os.Open(path)
	hotplugtest.Must(t, err)
	defer file.Close()
	page, err := unix.Mmap(int(file.Fd()), 0, len("as in the file"), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	hotplugtest.Must(t, err)
	defer unix.Munmap(page)
	copy(page, "changed")
	hotplugtest.Must(t, unix.Mprotect(page, unix.PROT_READ))
	for range 3 {
		ReleaseMemory()
	}
	if got := string(page[:len("changed")]); got != "changed" {
		t.Errorf("the page is %q", got)
	}
}
