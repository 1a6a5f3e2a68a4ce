package hotplug

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestProgramParts(t *testing.T) {
	const clean = "Rss: 980 kB\nAnonymous:             0 kB\nSwap:                  0 kB\nVmFlags: rd ex\n"
	for _, c := range []struct {
		smaps string
		want  []part
	}{
		{"00400000-004f5000 r-xp 00000000 fe:00 10100907                           /sbin/devspool\n" + clean, []part{{0x400000, 0x4f5000}}},
		{"004f5000-0061c000 r--p 000f5000 fe:00 10100907 /a:path with-blanks\n" + clean, []part{{0x4f5000, 0x61c000}}},
		{"0061c000-00630000 rw-p 0021c000 fe:00 10100907 /sbin/devspool\n" + clean, nil}, // our data
		{"0061c000-00630000 r--p 0021c000 fe:00 10100907 /sbin/devspool\nAnonymous:             4 kB\n", nil},
		{"0061c000-00630000 r--p 0021c000 fe:00 10100907 /sbin/devspool\nAnonymous: 0 kB\nSwap: 8 kB\n", nil},
		{"0061c000-00630000 r--s 0021c000 fe:00 10100907 /dev/.devspool/spool/counter\n" + clean, nil},
		{"3ef4b400000-3ef51400000 rw-p 00000000 00:00 0 \n" + clean, nil},
		{"400-500 r-xp 00000000 fe:00 7 /x\n" + clean + "600-700 r--p 00000000 fe:00 7 /x\nAnonymous: 4 kB\n800-900 r--p 0 fe:00 7 /x\n" + clean,
			[]part{{0x400, 0x500}, {0x800, 0x900}}},
		{"7ffda7400000-7ffda7401000 r-xp 00000000 00:00 0 [vdso]\n" + clean, nil},
		{"00400000 r-xp 00000000 fe:00 1 x\n", nil},
		{"x-y r-xp 00000000 fe:00 1 x\n", nil},
		{"", nil},
	} {
		if got := programParts(c.smaps); !slices.Equal(got, c.want) {
			t.Errorf("%q: %x, want %x", c.smaps, got, c.want)
		}
	}
}

// TestGiveBack shows that the program goes on without its pages, and that one which
// was changed before the right to write it was taken away stays as it is.
func TestGiveBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	writeFile(t, path, "as in the file")
	file, err := os.Open(path)
	must(t, err)
	defer file.Close()
	page, err := unix.Mmap(int(file.Fd()), 0, len("as in the file"), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	must(t, err)
	defer unix.Munmap(page)
	copy(page, "changed")
	must(t, unix.Mprotect(page, unix.PROT_READ))
	for range 3 {
		giveBack()
	}
	if got := string(page[:len("changed")]); got != "changed" {
		t.Errorf("the page is %q", got)
	}
}
