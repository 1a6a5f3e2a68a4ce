package kerneltest

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"devspool/hotplug/handoff"
)

// Build returns the path of the program, built once a run with the flags of a release. DEVSPOOL_BINARY
// names another program to test. The package's TestMain must call Main.
func Build(tb testing.TB) string {
	tb.Helper()
	path := build(tb, "devspool", ".", handoff.LinkerFlag)
	if os.Getenv(program) == "" {
		// The tests of InNamespaces, which are processes of their own, use the same one.
		os.Setenv(program, path)
	}
	return path
}

// BuildHelper returns the path of the program for a test that starts it in the kernel's place: it takes
// any process that starts it for the kernel, and is otherwise as Build returns it.
func BuildHelper(tb testing.TB) string {
	tb.Helper()
	return build(tb, "devspool-helper", ".", handoff.LinkerFlag, handoff.AnyParent)
}

// BuildPackage builds the program in a directory of the module, once a run, and returns its path. flags
// are further ones for the linker.
func BuildPackage(tb testing.TB, dir string, flags ...string) string {
	tb.Helper()
	return build(tb, filepath.Base(dir), "./"+dir, flags...)
}

var building sync.Mutex

func build(tb testing.TB, name, dir string, flags ...string) string {
	tb.Helper()
	variable := program
	if name != "devspool" {
		variable = program + "_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	}
	if path := os.Getenv(variable); path != "" {
		return path
	}
	if scratch == "" {
		tb.Fatal("TestMain does not call kerneltest.Main")
	}
	building.Lock()
	defer building.Unlock()
	path := filepath.Join(scratch, name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	root := moduleRoot(tb)
	statSources(tb, root)
	// As in the Makefile.
	cmd := exec.Command("go", "build", "-trimpath", "-gcflags=devspool/...=-l", "-ldflags=-s -w "+strings.Join(flags, " "), "-o", path, dir)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("go build %s: %v\n%s", dir, err, out)
	}
	os.Setenv(variable, path)
	return path
}

// moduleRoot returns the directory of go.mod.
func moduleRoot(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == "/" {
			tb.Fatal("no go.mod above the package")
		}
		dir = filepath.Dir(dir)
	}
}

// statSources calls stat for every source file of the module. The go command records which files a test
// looks at, and takes the result from its cache while these are the same. It cannot know of the files
// that go build reads.
func statSources(tb testing.TB, root string) {
	tb.Helper()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if ext := filepath.Ext(name); ext == ".go" || ext == ".s" || ext == ".conf" {
			_, _ = os.Stat(name)
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
}
