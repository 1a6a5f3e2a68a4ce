package build

import (
	"debug/buildinfo"
	"path/filepath"
	"strings"
	"testing"
)

// TestFlags shows that programs are built by the flags with which make builds the one
// that is released.
func TestFlags(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	var o Options
	released, err := o.run(root, "make", "-s", "-n", "devspool")
	if err != nil {
		t.Fatal(err)
	}
	flags, err := o.flags(root)
	if err != nil || len(flags) < 5 {
		t.Fatalf("%q, %v", flags, err)
	}
	for _, flag := range flags {
		if !strings.Contains(released, flag) {
			t.Errorf("make builds without %s: %s", flag, released)
		}
	}
}

func TestBudgets(t *testing.T) {
	text, err := Budgets()
	if fields := strings.Fields(text); err != nil || len(fields) != 4 {
		t.Errorf("%q, %v", text, err)
	}
}

// TestProgram builds a program that differs from the released one in all that it may.
func TestProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	err := Program(path, "./hotplug/handoff/testdata/probe", Options{Arch: "mips", Tags: "nospool,x", Link: []string{"-X=main.a=b"}, Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range info.Settings {
		want, checked := map[string]string{"GOARCH": "mips", "-tags": "nospool,x", "CGO_ENABLED": "0", "-trimpath": "true"}[s.Key]
		if checked && s.Value != want {
			t.Errorf("%s is %s, want %s", s.Key, s.Value, want)
		}
	}
	if err := Program(path, "./nothing", Options{}); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("a package that is not there: %v", err)
	}
}
