package hotplug

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/procfs"
)

func TestProgramParts(t *testing.T) {
	const clean = "Rss: 980 kB\nAnonymous:             0 kB\nSwap:                  0 kB\nVmFlags: rd ex\n"
	for _, c := range []struct {
		smaps string
		want  []procfs.Mapping
	}{
		{"00400000-004f5000 r-xp 00000000 fe:00 10100907                           /sbin/devspool\n" + clean, []procfs.Mapping{{From: 0x400000, To: 0x4f5000}}},
		{"004f5000-0061c000 r--p 000f5000 fe:00 10100907 /a:path with-blanks\n" + clean, []procfs.Mapping{{From: 0x4f5000, To: 0x61c000}}},
		{"0061c000-00630000 rw-p 0021c000 fe:00 10100907 /sbin/devspool\n" + clean, nil}, // our data
		{"0061c000-00630000 r--p 0021c000 fe:00 10100907 /sbin/devspool\nAnonymous:             4 kB\n", nil},
		{"0061c000-00630000 r--p 0021c000 fe:00 10100907 /sbin/devspool\nAnonymous: 0 kB\nSwap: 8 kB\n", nil},
		{"0061c000-00630000 r--s 0021c000 fe:00 10100907 /dev/.devspool/spool/counter\n" + clean, nil},
		{"3ef4b400000-3ef51400000 rw-p 00000000 00:00 0 \n" + clean, nil},
		{"400-500 r-xp 00000000 fe:00 7 /x\n" + clean + "600-700 r--p 00000000 fe:00 7 /x\nAnonymous: 4 kB\n800-900 r--p 0 fe:00 7 /x\n" + clean,
			[]procfs.Mapping{{From: 0x400, To: 0x500}, {From: 0x800, To: 0x900}}},
		{"7ffda7400000-7ffda7401000 r-xp 00000000 00:00 0 [vdso]\n" + clean, nil},
		{"00400000 r-xp 00000000 fe:00 1 x\n", nil},
		{"x-y r-xp 00000000 fe:00 1 x\n", nil},
		{"", nil},
	} {
		if got := procfs.FileMappings(c.smaps); !slices.Equal(got, c.want) {
			t.Errorf("%q: %x, want %x", c.smaps, got, c.want)
		}
	}
}

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
		releaseMemory()
	}
	if got := string(page[:len("changed")]); got != "changed" {
		t.Errorf("the page is %q", got)
	}
}
