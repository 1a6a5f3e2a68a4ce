package systemtest

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestFewFiles starts the program with hardly any descriptors to be had. It says what
// is wrong, and does not crash.
func TestFewFiles(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	for _, mode := range [][]string{{"-df"}, {"-s"}, {"watch"}, {"event", "ls"}} {
		for _, n := range []int{8, 10, 15} {
			args := mode
			if mode[0][0] == '-' {
				args = append(b.roots(), mode...)
			}
			script := "ulimit -n " + strconv.Itoa(n) + `; exec "$@"`
			cmd := exec.Command("/bin/sh", append([]string{"-c", script, "sh", b.program}, args...)...)
			cmd.Stdin = b.null
			r := b.finish(cmd)
			if r.code != exitSystem || !strings.Contains(r.stderr, "ulimit -n") || strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("%q with %d: exit code %d, stderr %q", mode, n, r.code, head(r.stderr, 5))
			}
		}
	}
}
