package pieces

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"devspool/hotplug/hotplugtest"
)

// TestList lists what is a piece by its name, in the order of the names.
func TestList(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "x.conf")
	for _, name := range []string{"b.conf", "a.conf", "10-z.conf", "B.conf", ".conf", ".a.conf", "a.conf~", "a.conf.dpkg-new", "a", "README"} {
		hotplugtest.WriteFile(t, file+".d/"+name, "")
	}
	want := []string{file + ".d/10-z.conf", file + ".d/B.conf", file + ".d/a.conf", file + ".d/b.conf", file}
	if got := Files(file); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := Files("/nonexistent/x"); !slices.Equal(got, []string{"/nonexistent/x"}) {
		t.Errorf("without a directory: %q", got)
	}
	if got := strings.Join(Dirs(Main), " "); got != "/usr/lib/mdev.conf.d /etc/mdev.conf.d" {
		t.Errorf("the system's: %s", got)
	}
}

// TestListStops shows that a directory full of files is not listed to its end.
func TestListStops(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "x.conf")
	for i := range 2 * Max {
		hotplugtest.WriteFile(t, file+".d/"+strconv.Itoa(i)+".conf", "")
	}
	if used, hidden := List(file); len(used) != Max+1 || len(hidden) > 0 {
		t.Errorf("%d pieces, %d hidden", len(used), len(hidden))
	}
}
