package kerneltest

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"devspool/hotplug/handoff"
)

// Build returns the path of the program, built once a run as it is released:
// without cgo. Beside it lies a link named mdev. DEVSPOOL_BINARY names another one
// to be tested. The package's TestMain must call Main.
func Build(tb testing.TB) string {
	tb.Helper()
	path := build(tb, "devspool", ".", handoff.LinkerFlag)
	if os.Getenv(program) == "" {
		// Processes in namespaces of their own use the same one.
		os.Setenv(program, path)
	}
	return path
}

// BuildHelper returns the path of the program for a test that starts it in the
// kernel's place: built as Build does, but for what it takes for the kernel.
func BuildHelper(tb testing.TB) string {
	tb.Helper()
	return build(tb, "devspool-helper", ".", handoff.LinkerFlag, handoff.AnyParent)
}

// Mdev returns the path of the link to the program by which it is mdev.
func Mdev(tb testing.TB) string {
	tb.Helper()
	link := filepath.Join(scratch, "mdev")
	err := os.Symlink(Build(tb), link)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		tb.Fatal(err)
	}
	return link
}

// BuildPackage builds another program of the module, given by its directory below
// the module's, once a run. The linker gets the flags.
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
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags="+strings.Join(flags, " "), "-o", path, dir)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("go build %s: %v\n%s", dir, err, out)
	}
	os.Setenv(variable, path)
	return path
}

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

// statSources looks at every source file of the module. The go command watches
// which files a test looks at and takes a result from its cache only while they
// are the same; it cannot know that go build reads them.
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
