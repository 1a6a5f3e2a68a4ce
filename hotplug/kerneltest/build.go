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

// Build returns the path of the program, built once a run as it is released.
// DEVSPOOL_BINARY names another one to be tested. The package's TestMain must call Main.
func Build(tb testing.TB) string {
	tb.Helper()
	path := buildOnce(tb, "devspool", ".", build.Options{})
	if os.Getenv(program) == "" {
		// Processes in namespaces of their own use the same one.
		_ = os.Setenv(program, path)
	}
	return path
}

// BuildHelper returns the path of the program for a test that starts it in the
// kernel's place: built as Build does, but for what it takes for the kernel.
func BuildHelper(tb testing.TB) string {
	tb.Helper()
	return buildOnce(tb, "devspool-helper", ".", build.Options{Link: []string{handoff.AnyParent}})
}

// BuildPackage builds another program of the module, given by its directory below
// the module's, once a run.
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

// statSources looks at every source file of the module. The go command watches
// which files a test looks at and takes a result from its cache only while they
// are the same; it cannot know that go build reads them.
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
