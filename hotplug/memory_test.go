package hotplug

import "testing"

func TestProgramPart(t *testing.T) {
	for _, c := range []struct {
		line     string
		from, to uintptr
		ok       bool
	}{
		{"00400000-004f5000 r-xp 00000000 fe:00 10100907                           /sbin/devspool\n", 0x400000, 0x4f5000, true},
		{"004f5000-0061c000 r--p 000f5000 fe:00 10100907 /a path with blanks\n", 0x4f5000, 0x61c000, true},
		{"0061c000-00630000 rw-p 0021c000 fe:00 10100907 /sbin/devspool\n", 0, 0, false}, // our data
		{"0061c000-00630000 r--s 0021c000 fe:00 10100907 /dev/.devspool/spool/counter\n", 0, 0, false},
		{"3ef4b400000-3ef51400000 rw-p 00000000 00:00 0 \n", 0, 0, false},
		{"7ffda7400000-7ffda7401000 r-xp 00000000 00:00 0 [vdso]\n", 0, 0, false},
		{"00400000 r-xp 00000000 fe:00 1 x\n", 0, 0, false},
		{"x-y r-xp 00000000 fe:00 1 x\n", 0, 0, false},
		{"\n", 0, 0, false},
	} {
		from, to, ok := programPart(c.line)
		if ok != c.ok || ok && (from != c.from || to != c.to) {
			t.Errorf("%q: %#x-%#x, %v", c.line, from, to, ok)
		}
	}
}

// TestGiveBack shows that a program goes on without its pages.
func TestGiveBack(t *testing.T) {
	for range 3 {
		giveBack()
	}
	if now() == 0 {
		t.Error("no time has passed")
	}
}
