package kerneltest

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"devspool/hotplug/handoff"
	"devspool/hotplug/kerneltest/build"
)

// Build returns the path of the program, built once a run with the flags of a release. DEVSPOOL_BINARY
// names another program to test. The package's TestMain must call Main.
func Build(tb testing.TB) string {
	tb.Helper()
	path := buildOnce(tb, "devspool", ".", build.Options{})
	if os.Getenv(program) == "" {
		// The tests of InNamespaces, which are processes of their own, use the same one.
		_ = os.Setenv(program, path)
	}
	return path
}

// BuildHelper returns the path of the program for a test that starts it in the kernel's place: it takes
// any process that starts it for the kernel, and is otherwise as Build returns it.
func BuildHelper(tb testing.TB) string {
	tb.Helper()
	return buildOnce(tb, "devspool-helper", ".", build.Options{Link: []string{handoff.AnyParent}})
}

// BuildPackage builds the program in a directory of the module, once a run, and returns its path.
func BuildPackage(tb testing.TB, dir string, o build.Options) string {
	tb.Helper()
	return buildOnce(tb, filepath.Base(dir), "./"+dir, o)
}

var building sync.Mutex

func buildOnce(tb testing.TB, name, dir string, o build.Options) string {
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
	statSources(tb)
	if err := build.Program(path, dir, o); err != nil {
		tb.Fatal(err)
	}
	_ = os.Setenv(variable, path)
	return path
}

// statSources calls stat for every source file of the module. The go command records which files a test
// looks at, and takes the result from its cache while these are the same. It cannot know of the files
// that go build reads.
func statSources(tb testing.TB) {
	tb.Helper()
	root, err := build.Root()
	if err != nil {
		tb.Fatal(err)
	}
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if ext := filepath.Ext(name); ext == ".go" || ext == ".s" || ext == ".conf" || d.Name() == "Makefile" {
			_, _ = os.Stat(name)
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
}
