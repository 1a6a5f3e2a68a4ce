package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBootProgram builds the program as distributions do, and inspects what comes of it.
func TestBootProgram(t *testing.T) {
	for name, environ := range map[string][]string{
		"plain":             nil,
		"Alpine":            {"GOFLAGS=-buildmode=pie -modcacherw -trimpath"},
		"Yocto":             {"GOFLAGS=-buildmode=pie -trimpath", "CGO_ENABLED=1", "GO_EXTLINK_ENABLED=1"},
		"external linking":  {"GOFLAGS=-ldflags=-linkmode=external"},
		"all of them":       {"GOFLAGS=-buildmode=pie -ldflags=-linkmode=external -tags=x", "LINK=-linkmode=external"},
		"shared by default": {"GOFLAGS=-linkshared=false -buildmode=shared"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "devspool")
			if err := Program(path, ".", Options{Environ: environ}); err != nil {
				t.Fatal(err)
			}
			if err := Inspect(path); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestBootBuilt inspects the programs that make has built for all architectures.
func TestBootBuilt(t *testing.T) {
	for _, path := range strings.Fields(os.Getenv("DEVSPOOL_BUILT")) {
		if err := Inspect(path); err != nil {
			t.Error(err)
		}
	}
}

// TestBootRefused shows that Inspect sees what is wrong: with flags after ours, which prevail.
func TestBootRefused(t *testing.T) {
	for _, c := range []struct {
		what, want string
		flags      []string
		o          Options
	}{
		{".", "dynamic linker", []string{"-buildmode=pie"}, Options{}},
		{".", "does not begin at", nil, Options{Plain: true}},
		{"./hotplug/bench", "holds the package", nil, Options{Plain: true}},
	} {
		path := filepath.Join(t.TempDir(), "program")
		if err := c.o.program(path, c.what, c.flags...); err != nil {
			t.Fatal(err)
		}
		if err := Inspect(path); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %v: %v, want %q", c.what, c.flags, err, c.want)
		}
	}
	if Inspect("inspect.go") == nil {
		t.Error("a text passes")
	}
}
