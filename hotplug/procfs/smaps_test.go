package procfs_test

import (
	"slices"
	"testing"

	"devspool/hotplug/procfs"
)

// TestFileMappings shows which mappings are as in their files.
func TestFileMappings(t *testing.T) {
	t.Parallel()
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
