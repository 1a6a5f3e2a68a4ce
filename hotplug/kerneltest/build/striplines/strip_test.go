package main

import (
	"debug/buildinfo"
	"debug/elf"
	"debug/gosym"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// emulators are QEMU's programs for what Linux runs on, by GOARCH.
var emulators = map[string]string{"amd64": "x86_64", "arm64": "aarch64", "arm": "arm", "386": "i386", "riscv64": "riscv64",
	"mips": "mips", "mipsle": "mipsel", "s390x": "s390x", "ppc64le": "ppc64le", "loong64": "loongarch64"}

// TestStripped runs a program on each architecture before and after.
func TestStripped(t *testing.T) {
	t.Setenv("GODEBUG", "asyncpreemptoff=1") // QEMU's 386 delivers signals to a wrong stack
	for arch, emulator := range emulators {
		t.Run(arch, func(t *testing.T) {
			path := build(t, arch)
			words := []string{"qemu-" + emulator + "-static", path}
			if arch == runtime.GOARCH {
				words = words[1:]
			}
			if _, err := exec.LookPath(words[0]); err != nil {
				line := fmt.Sprintf("NOT TESTED: a program without lines on %s: %v", arch, err)
				if os.Getenv("DEVSPOOL_TEST_ALL") == "1" {
					t.Fatal(line)
				}
				t.Skip(line)
			}
			before, full := run(t, words...), size(t, path)
			trace, _ := exec.Command(words[0], append(words[1:], "crash")...).CombinedOutput()
			if !strings.Contains(string(trace), "main.go:") {
				t.Fatalf("a program with lines does not tell them:\n%s", trace)
			}
			if err := stripFile(path); err != nil {
				t.Fatal(err)
			}
			if after := run(t, words...); after != before {
				t.Errorf("it says:\n%s\nand before:\n%s", after, before)
			}
			names := functions(t, path)
			for name, want := range map[string]bool{"glob.Match": true, "devspool/hotplug/glob.Match": false, "internal/sync.(*Mutex).lockSlow": true} {
				if names[name] != want {
					t.Errorf("there is a function %s: %v, want %v", name, !want, want)
				}
			}
			if stripped := size(t, path); stripped > full*17/20 {
				t.Errorf("%d bytes, and %d before", stripped, full)
			}
			trace, _ = exec.Command(words[0], append(words[1:], "crash")...).CombinedOutput()
			for _, want := range []string{"panic: asked for", "\nmain.main()\n\t?:0 +0x"} {
				if !strings.Contains(string(trace), want) {
					t.Errorf("%q is not in its traceback:\n%s", want, trace)
				}
			}
			if info, err := buildinfo.ReadFile(path); err != nil || info.Main.Path != "devspool" {
				t.Errorf("what it was built of: %v, %v", info, err)
			}
		})
	}
}

// TestUnknown shows that what striplines does not know stays as it is.
func TestUnknown(t *testing.T) {
	pie := build(t, runtime.GOARCH, "-buildmode=pie")
	stripped := build(t, runtime.GOARCH)
	if err := stripFile(stripped); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, fails := range map[string]bool{pie: false, stripped: false, text: true} {
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := stripFile(path); fails != (err != nil) {
			t.Errorf("%s: %v", path, err)
		}
		if after, err := os.ReadFile(path); err != nil || len(after) != len(before) {
			t.Errorf("%s has %d bytes, and %d before; %v", path, len(after), len(before), err)
		}
	}
	if _, err := strip([]byte("\x7fELF")); err == nil || errors.Is(err, errUnknown) {
		t.Errorf("of half a header: %v", err)
	}
}

// functions returns the names of a program's functions.
func functions(t *testing.T, path string) map[string]bool {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := f.Section(tableSection).Data()
	if err != nil {
		t.Fatal(err)
	}
	table, err := gosym.NewTable(nil, gosym.NewLineTable(data, f.Section(".text").Addr))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, function := range table.Funcs {
		names[function.Name] = true
	}
	return names
}

func build(t *testing.T, arch string, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "walk")
	cmd := exec.Command("go", append(append([]string{"build", "-ldflags=-s -w", "-o", path}, flags...), "./testdata/walk")...)
	cmd.Env = append(os.Environ(), "GOARCH="+arch, "CGO_ENABLED=0", "GOFLAGS=")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return path
}

func run(t *testing.T, words ...string) string {
	t.Helper()
	said, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", words, err, said)
	}
	return string(said)
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Size()
}

// TestShortName shows which names lose the directories of their package.
func TestShortName(t *testing.T) {
	for name, want := range map[string]string{
		"a/b/c.F": "c.F", "a/c.(*T).F.func1": "c.(*T).F.func1", "a/c.F[go.shape.struct { a/b.x int }]": "c.F[go.shape.struct { a/b.x int }]",
		"x/y/z.F": "z.F", "a.F": "a.F", "ab/c.F": "ab/c.F", "internal/poll.F": "internal/poll.F", "a/runtime.F": "a/runtime.F",
		"type:.eq.a/b.T": "type:.eq.a/b.T", "slices.F[a/b.T]": "slices.F[a/b.T]",
	} {
		if got, err := shortName([]byte(name+"\x00more\x00"), []string{"a", "x/y"}); string(got) != want+"\x00" || err != nil {
			t.Errorf("%s: %s, %v; want %s", name, got, err, want)
		}
	}
	if _, err := shortName([]byte("a.F"), nil); err == nil {
		t.Error("a name without an end is one")
	}
}
