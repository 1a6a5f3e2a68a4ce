package programs

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"devspool/initramfs/mkinitramfs/packer/packtest"
)

// copyTo makes a root of what a Finder found.
func copyTo(t testing.TB, f *Finder) (root string) {
	t.Helper()
	root = t.TempDir()
	for _, l := range f.Links() {
		packtest.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, l.Path)), 0o755))
		packtest.Must(t, os.Symlink(l.Target, filepath.Join(root, l.Path)))
	}
	for _, file := range f.Files() {
		data, err := os.ReadFile(f.root.File(file.Path))
		packtest.Must(t, err)
		packtest.Write(t, filepath.Join(root, file.Path), string(data))
		packtest.Must(t, os.Chmod(filepath.Join(root, file.Path), 0o755))
	}
	return root
}

// chrooted runs a program in a root with /proc, of which the loader learns $ORIGIN.
func chrooted(t testing.TB, root string, args ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		packtest.NotTested(t, "programs in a root of their own", "needs root")
	}
	const script = `mkdir -p "$1/proc" && mount -t proc proc "$1/proc" && exec chroot "$@"`
	out, err := exec.Command("unshare", append([]string{"-m", "sh", "-c", script, "sh", root}, args...)...).CombinedOutput()
	if err != nil {
		t.Errorf("%q in the root: %v\n%s", args, err, out)
	}
	return string(out)
}

// TestProgramsRun runs real programs in a root that has nothing but what was found.
func TestProgramsRun(t *testing.T) {
	f := NewFinder("/")
	for _, name := range []string{"bash", "/bin/ls", "cryptsetup", "ldd"} {
		if _, err := f.root.Find(name); err != nil {
			packtest.NotTested(t, "programs in a root of their own", name+" is missing")
		}
		_, err := f.Add(name, "test")
		packtest.Must(t, err)
	}
	root := copyTo(t, f)
	if out := chrooted(t, root, "/bin/bash", "-c", "echo hello $(ls /)"); !strings.HasPrefix(out, "hello bin lib") {
		t.Errorf("bash says %q", out)
	}
	if out := chrooted(t, root, "/usr/sbin/cryptsetup", "--version"); !strings.HasPrefix(out, "cryptsetup ") {
		t.Errorf("cryptsetup says %q", out)
	}
	// A script, and so its interpreter.
	if out := chrooted(t, root, "/usr/bin/ldd", "--version"); !strings.HasPrefix(out, "ldd (") {
		t.Errorf("ldd says %q", out)
	}
}

// TestLibrariesAreLdds compares with what the loader itself finds.
func TestLibrariesAreLdds(t *testing.T) {
	packtest.Needs(t, "libraries beside ldd's", "ldd")
	for _, program := range []string{"/bin/bash", "/usr/bin/git", "/usr/bin/qemu-system-x86_64", "/usr/sbin/cryptsetup"} {
		if _, err := os.Stat(program); err != nil {
			continue
		}
		f := NewFinder("/")
		_, err := f.Add(program, "test")
		packtest.Must(t, err)
		for line := range strings.Lines(packtest.Run(t, "ldd", program)) {
			_, rest, ok := strings.Cut(line, "=> ")
			if !ok {
				continue
			}
			_, end, err := f.root.Walk(strings.Fields(rest)[0])
			packtest.Must(t, err)
			if f.files[end] == "" {
				t.Errorf("%s: ldd has %s, which was not found", program, end)
			}
		}
	}
}

// build makes a shared library or a program.
func build(t testing.TB, out, source string, args ...string) {
	t.Helper()
	packtest.Must(t, os.MkdirAll(filepath.Dir(out), 0o755))
	cmd := exec.Command("gcc", append([]string{"-o", out, "-x", "c", "-", "-x", "none"}, args...)...)
	cmd.Stdin = strings.NewReader(source)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, text)
	}
}

// TestWaysToALibrary has libraries found by RPATH that is handed down, RUNPATH, $ORIGIN,
// and the cache alone, in a root where /lib is a link.
func TestWaysToALibrary(t *testing.T) {
	packtest.Needs(t, "the ways to a library", "gcc", "ldconfig")
	root := t.TempDir()
	at := func(p string) string { return filepath.Join(root, p) }
	real := NewFinder("/")
	_, err := real.Add("/bin/bash", "test")
	packtest.Must(t, err)
	for _, file := range real.Files() { // the C library and its loader
		data, err := os.ReadFile("/" + file.Path)
		packtest.Must(t, err)
		packtest.Write(t, at(file.Path), string(data))
		packtest.Must(t, os.Chmod(at(file.Path), 0o755))
	}
	for _, l := range real.Links() {
		packtest.Must(t, os.MkdirAll(filepath.Dir(at(l.Path)), 0o755))
		packtest.Must(t, os.Symlink(l.Target, at(l.Path)))
	}
	build(t, at("opt/deep/libdeep.so"), "int deep(void) { return 1; }", "-shared", "-fPIC", "-Wl,-soname,libdeep.so")
	build(t, at("opt/mid/libmid.so"), "int deep(void); int mid(void) { return deep(); }", "-shared", "-fPIC", "-Wl,-soname,libmid.so.1", at("opt/deep/libdeep.so"))
	packtest.Must(t, os.Rename(at("opt/mid/libmid.so"), at("opt/mid/libmid.so.1.5")))
	packtest.Must(t, os.Symlink("libmid.so.1.5", at("opt/mid/libmid.so.1")))
	build(t, at("usr/local/lib/libcached.so.2"), "int cached(void) { return 2; }", "-shared", "-fPIC", "-Wl,-soname,libcached.so.2")
	const program = "int mid(void); int cached(void); int main(void) { return mid() + cached() != 3; }"
	build(t, at("opt/bin/program"), program, "-Wl,--disable-new-dtags", "-Wl,-rpath,$ORIGIN/../mid:/opt/deep", "-Wl,--allow-shlib-undefined",
		at("opt/mid/libmid.so.1"), at("usr/local/lib/libcached.so.2"))
	packtest.Write(t, at("etc/ld.so.conf"), "include /etc/ld.so.conf.d/*.conf\n")
	packtest.Write(t, at("etc/ld.so.conf.d/x.conf"), "# comment\n/usr/local/lib\n")

	check := func(how string) {
		f := NewFinder(Root(root))
		_, err = f.Add("opt/bin/program", "test")
		packtest.Must(t, err)
		for _, want := range []string{"opt/mid/libmid.so.1.5", "opt/deep/libdeep.so", "usr/local/lib/libcached.so.2"} {
			if f.files[want] == "" {
				t.Errorf("%s: %s was not found: %v", how, want, f.files)
			}
		}
		chrooted(t, copyTo(t, f), "/opt/bin/program")
	}
	check("ld.so.conf")
	packtest.Run(t, "ldconfig", "-r", root)
	packtest.Must(t, os.Remove(at("etc/ld.so.conf.d/x.conf")))
	check("ld.so.cache")

	packtest.Must(t, os.Remove(at("usr/local/lib/libcached.so.2")))
	f := NewFinder(Root(root))
	if _, err := f.Add("opt/bin/program", "test"); err == nil || !strings.Contains(err.Error(), "opt/bin/program needs the library libcached.so.2") {
		t.Errorf("%v", err)
	}
}

// TestMusl runs a program that is linked to musl, whose loader is its C library.
func TestMusl(t *testing.T) {
	packtest.Needs(t, "programs for musl", "musl-gcc")
	root := Root(t.TempDir())
	const loader = "lib/ld-musl-x86_64.so.1"
	_, end, err := Root("/").Walk(loader)
	if err != nil {
		packtest.NotTested(t, "programs for musl", "/"+loader)
	}
	data, err := os.ReadFile("/" + end)
	packtest.Must(t, err)
	packtest.Write(t, root.File(loader), string(data))
	packtest.Must(t, os.Chmod(root.File(loader), 0o755))
	source := filepath.Join(t.TempDir(), "a.c")
	packtest.Write(t, source, "int puts(const char *); int main(void) { puts(\"musl\"); return 0; }\n")
	packtest.Must(t, os.MkdirAll(root.File("bin"), 0o755))
	packtest.Run(t, "musl-gcc", "-o", root.File("bin/program"), source)
	f := NewFinder(root)
	_, err = f.Add("program", "test")
	packtest.Must(t, err)
	if out := chrooted(t, copyTo(t, f), "/bin/program"); out != "musl\n" || len(f.Files()) != 2 {
		t.Errorf("%q, %v", out, f.Files())
	}
}

// TestCacheIsLdconfigs compares with what ldconfig reads from the same file.
func TestCacheIsLdconfigs(t *testing.T) {
	packtest.Needs(t, "the cache beside ldconfig's", "ldconfig")
	data, err := os.ReadFile("/etc/ld.so.cache")
	packtest.Must(t, err)
	var want []string
	for line := range strings.Lines(packtest.Run(t, "ldconfig", "-p")) {
		name, p, ok := strings.Cut(strings.TrimSpace(line), " => ")
		if ok && !strings.Contains(name, "hwcap") {
			want = append(want, strings.Fields(name)[0]+" "+p)
		}
	}
	var got []string
	for _, c := range parseCache(data, binary.NativeEndian) {
		got = append(got, c.soname+" "+c.path)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d libraries, ldconfig has %d", len(got), len(want))
	}
}

func TestWalk(t *testing.T) {
	root := Root(t.TempDir())
	packtest.Write(t, root.File("usr/lib/real"), "")
	for link, target := range map[string]string{"lib": "usr/lib", "usr/lib/out": "../../../../../usr/lib/real", "abs": "/lib/real", "loop": "loop"} {
		packtest.Must(t, os.Symlink(target, root.File(link)))
	}
	for _, p := range []string{"/lib/real", "lib/out", "abs", "../../abs", "usr/../lib/./real"} {
		if _, end, err := root.Walk(p); end != "usr/lib/real" || err != nil {
			t.Errorf("%s: %q %v", p, end, err)
		}
	}
	for _, p := range []string{"loop", "missing", "lib/real/below"} {
		if _, end, err := root.Walk(p); err == nil {
			t.Errorf("%s: no error, %q", p, end)
		}
	}
}

// FuzzCache reads caches that may be broken.
func FuzzCache(f *testing.F) {
	data, _ := os.ReadFile("/etc/ld.so.cache")
	f.Add(data[:min(len(data), 4096)])
	f.Add([]byte(cacheMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, c := range parseCache(b, binary.BigEndian) {
			if !bytes.Contains(b, []byte(c.path)) {
				t.Fatalf("a path from nowhere: %q", c.path)
			}
		}
	})
}
