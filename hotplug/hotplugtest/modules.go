package hotplugtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// ModulesTree is the modules of a real kernel, with depmod's files, below a root of
// their own: ROOT/lib/modules/RELEASE.
type ModulesTree struct{ Root, Release, Dir string }

var (
	modulesTree = sync.OnceValues(makeModulesTree)
	modulesRoot string // what it made
)

// DebianModules returns the modules of the kernel that initramfs/fetch-kernels keeps.
// All tests of a process share them, and must not change them. The test's TestMain calls
// RemoveModules.
func DebianModules(t testing.TB) ModulesTree {
	t.Helper()
	for _, tool := range []string{"depmod", "modprobe"} {
		if _, err := exec.LookPath(tool); err != nil {
			notTested(t, tool+" is missing")
		}
	}
	tree, err := modulesTree()
	if err != nil {
		notTested(t, err.Error())
	}
	return tree
}

// RemoveModules removes what DebianModules made.
func RemoveModules() {
	if modulesRoot != "" {
		os.RemoveAll(modulesRoot)
	}
}

func notTested(t testing.TB, why string) {
	t.Helper()
	line := "NOT TESTED: " + t.Name() + ": " + why
	if os.Getenv("DEVSPOOL_TEST_ALL") == "1" {
		t.Fatal(line)
	}
	t.Skip(line)
}

func makeModulesTree() (tree ModulesTree, err error) {
	cache := os.Getenv("DEVSPOOL_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return tree, err
		}
		cache = filepath.Join(user, "devspool")
	}
	found, _ := filepath.Glob(cache + "/kernels/linux-image-amd64/lib/modules/*")
	if more, _ := filepath.Glob(cache + "/kernels/linux-image-amd64/usr/lib/modules/*"); len(found) == 0 {
		found = more
	}
	if len(found) == 0 {
		return tree, fmt.Errorf("no modules in %s/kernels/linux-image-amd64: initramfs/fetch-kernels brings them", cache)
	}
	// Beside the cache, so that links can stand for the files.
	tree.Root, err = os.MkdirTemp(cache, "modules")
	if err != nil {
		return tree, err
	}
	modulesRoot = tree.Root
	tree.Release = filepath.Base(found[0])
	tree.Dir = filepath.Join(tree.Root, "lib/modules", tree.Release)
	if err := os.MkdirAll(filepath.Dir(tree.Dir), 0o755); err != nil {
		return tree, err
	}
	for _, command := range [][]string{{"cp", "-al", found[0], tree.Dir}, {"depmod", "-b", tree.Root, tree.Release}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			return tree, fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, out)
		}
	}
	return tree, nil
}
