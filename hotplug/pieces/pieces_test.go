package pieces

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"devspool/hotplug/hotplugtest"
)

// TestFiles lists what is a piece by its name, in the order of the names.
func TestFiles(t *testing.T) {
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
	if got := strings.Join(Dirs(Main), " "); got != "/etc/mdev.conf.d /usr/lib/mdev.conf.d" {
		t.Errorf("the system's: %s", got)
	}
}

// TestFilesStops shows that a directory full of files is not listed to its end.
func TestFilesStops(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "x.conf")
	for i := range 2 * Max {
		hotplugtest.WriteFile(t, file+".d/"+strconv.Itoa(i)+".conf", "")
	}
	if n := len(Files(file)); n != Max+2 {
		t.Errorf("%d pieces", n)
	}
}
