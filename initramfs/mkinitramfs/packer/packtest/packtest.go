// Package packtest is what the packer's tests share. It is for tests only.
package packtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// NotTested ends a test for want of something, loudly: it is skipped, or fails where
// DEVSPOOL_TEST_ALL=1 says that everything has to be there.
func NotTested(t testing.TB, what, missing string) {
	t.Helper()
	line := "NOT TESTED: " + what + ": " + missing
	if os.Getenv("DEVSPOOL_TEST_ALL") == "1" {
		t.Fatal(line)
	}
	t.Skip(line)
}

// Needs calls NotTested unless all of the tools are there.
func Needs(t testing.TB, what string, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			NotTested(t, what, tool+" is missing")
		}
	}
}

// Must ends the test with an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Kernel returns the root that initramfs/fetch-kernels unpacked Debian's kernel for
// amd64 to, and its release. There depmod did not run.
func Kernel(t testing.TB) (root, release string) {
	t.Helper()
	root = filepath.Join(cache(t), "kernels/linux-image-amd64")
	found, _ := filepath.Glob(filepath.Join(root, "lib/modules/*/kernel"))
	if len(found) == 0 {
		found, _ = filepath.Glob(filepath.Join(root, "usr/lib/modules/*/kernel"))
	}
	if len(found) != 1 {
		NotTested(t, "a real kernel's modules", "initramfs/fetch-kernels did not unpack one to "+root)
	}
	return root, filepath.Base(filepath.Dir(found[0]))
}

// Root returns the root that initramfs/fetch-root made for an architecture of Debian.
func Root(t testing.TB, arch string) string {
	t.Helper()
	root := filepath.Join(cache(t), "roots", arch)
	if _, err := os.Stat(root); err != nil {
		NotTested(t, "programs for another architecture", "initramfs/fetch-root did not make "+root)
	}
	return root
}

// cache is where the scripts put what they fetch.
func cache(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("DEVSPOOL_CACHE"); dir != "" {
		return dir
	}
	user, err := os.UserCacheDir()
	Must(t, err)
	return filepath.Join(user, "devspool")
}

// Write writes a file, and the directories above it.
func Write(t testing.TB, path, text string) {
	t.Helper()
	Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	Must(t, os.WriteFile(path, []byte(text), 0o644))
}

// Run runs a program to its end, and returns what it wrote on standard output.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}
