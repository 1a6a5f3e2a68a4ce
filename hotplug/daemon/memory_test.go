package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
)

// TestGiveBack shows that the program goes on without its pages, and that one which
// was changed before the right to write it was taken away stays as it is.
func TestGiveBack(t *testing.T) {
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
