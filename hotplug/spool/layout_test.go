package spool

import (
	"strconv"
	"strings"
	"testing"
)

func TestFileName(t *testing.T) {
	t.Parallel()
	for _, n := range []uint64{0, 1, 9, 10, 1 << 32, 1<<64 - 1} {
		name := EventName(n)
		if want := strconv.FormatUint(n, 10); len(name) != 20 || strings.TrimLeft(name, "0") != strings.TrimLeft(want, "0") {
			t.Errorf("%d is called %s", n, name)
		}
		if back, ok := EventNumber(name); !ok || back != n {
			t.Errorf("%s is read as %d, %t", name, back, ok)
		}
	}
	for _, name := range []string{"", "1", "head", "0000000000000000000x", "000000000000000000001", "18446744073709551616", "99999999999999999999"} {
		if n, ok := EventNumber(name); ok {
			t.Errorf("%q is read as %d", name, n)
		}
	}
}
