package sysfs_test

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/sysfs"
)

// TestWalk compares the list of this machine's devices with a search for uevent files.
func TestWalk(t *testing.T) {
	t.Parallel()
	const sys = sysfs.FS("/sys")
	if !sys.IsKernels() {
		t.Skip("NOT TESTED: TestWalk: needs a sysfs")
	}
	search := func() (found []string) {
		err := filepath.WalkDir("/sys/devices", func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == "uevent" {
				found = append(found, strings.TrimPrefix(filepath.Dir(name), "/sys"))
			}
			return nil
		})
		hotplugtest.Must(t, err)
		slices.Sort(found)
		return found
	}
	var got, want []string
	hotplugtest.Eventually(t, "a moment without a change", func() bool {
		want = search()
		got = sys.Walk()
		return slices.Equal(want, search())
	})
	for i, devpath := range got {
		if j := slices.Index(got, filepath.Dir(devpath)); j > i {
			t.Errorf("%s comes before its parent", devpath)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("it lists %d devices, the search %d", len(got), len(want))
	}
	if b := hotplugtest.NewSysfs(t); b.IsKernels() {
		t.Error("a tree of files is taken for the kernel's sysfs")
	}
}
