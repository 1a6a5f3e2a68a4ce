package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"devspool/initramfs"
	"devspool/initramfs/mkinitramfs/packer/packtest"
)

var update = flag.Bool("update", false, "write testdata/usage.txt anew")

// result is what a run of the program said.
type result struct {
	code        int
	out, errors string
}

// do runs the program in this process.
func do(env map[string]string, args ...string) result {
	var out, errors bytes.Buffer
	code := run(args, func(name string) string { return env[name] }, streams{&out, &errors, false})
	return result{code, out.String(), errors.String()}
}

// pack packs an image, which is not compressed unless args say so.
func pack(t testing.TB, args ...string) (image string) {
	t.Helper()
	image = filepath.Join(t.TempDir(), "image")
	if r := do(nil, append([]string{"--compress", "none", "-o", image}, args...)...); r.code != exitDone {
		t.Fatalf("%q: exit %d: %s", args, r.code, r.errors)
	}
	return image
}

// static is a program that is linked statically, in place of devspool.
func static(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "static")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", name, "./testdata/init")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return name
}

// unpack does to a directory what the kernel does to its first root (init/initramfs.c):
// later entries come over earlier ones, and what is of another kind goes.
func unpack(t testing.TB, image string) (root string) {
	t.Helper()
	root = t.TempDir()
	file, err := os.Open(image)
	packtest.Must(t, err)
	defer file.Close()
	err = walk(file, func(_ place, h initramfs.Header, body io.Reader) error {
		name := filepath.Join(root, h.Path)
		mode := fs.FileMode(h.Mode & 0o777)
		if info, err := os.Lstat(name); err == nil && (info.IsDir() != h.IsDir() || !info.IsDir()) {
			packtest.Must(t, os.Remove(name))
		}
		switch {
		case h.IsDir():
			if err := os.Mkdir(name, mode); err != nil && !os.IsExist(err) {
				return err
			}
			return os.Chmod(name, mode)
		case h.IsSymlink():
			target, err := io.ReadAll(body)
			packtest.Must(t, err)
			return os.Symlink(string(target), name)
		case h.IsFile():
			text, err := io.ReadAll(body)
			packtest.Must(t, err)
			return os.WriteFile(name, text, mode)
		}
		return os.WriteFile(name, nil, mode) // for a node
	})
	packtest.Must(t, err)
	return root
}

func TestUsage(t *testing.T) {
	r := do(nil, "--help")
	const golden = "testdata/usage.txt"
	if *update {
		packtest.Must(t, os.WriteFile(golden, []byte(r.out), 0o644))
	}
	want, err := os.ReadFile(golden)
	packtest.Must(t, err)
	if r.code != exitDone || r.out != string(want) {
		t.Errorf("--help has changed (write it by -update): %d\n%s", r.code, r.out)
	}
	for _, command := range []string{"ls", "cat"} {
		if other := do(nil, command, "--help"); other != r {
			t.Errorf("%s --help: %+v", command, other)
		}
	}
	for line := range strings.Lines(r.out) {
		if len(line) > 92 {
			t.Errorf("a line of %d characters: %s", len(line), line)
		}
	}
	// The manual page has every option that the help has.
	page, err := os.ReadFile("../../../docs/devspool-mkinitramfs.8")
	packtest.Must(t, err)
	text := strings.ReplaceAll(string(page), `\-`, "-")
	for _, option := range regexp.MustCompile(`--[a-z-]+`).FindAllString(r.out, -1) {
		if !strings.Contains(text, option) {
			t.Errorf("the manual page does not tell of %s", option)
		}
	}
	for _, set := range sets {
		if !strings.Contains(text, "\n.B "+set.name+"\n") {
			t.Errorf("the manual page does not tell of the set %s", set.name)
		}
	}
}

// TestErrors shows what wrong and impossible wishes say, and the exit codes.
func TestErrors(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	packtest.Write(t, at("modules/1.0/modules.dep"), "kernel/gone.ko:\n")
	packtest.Write(t, at("modules/2.0/x"), "")
	packtest.Write(t, at("script"), "#!/bin/zsh\n")
	packtest.Write(t, at("text"), "no program")
	packtest.Must(t, os.MkdirAll(at("root"), 0o755))
	out := at("out")
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"", exitUsage, "no image to write: name one by -o"},
		{"-o OUT --compress rar", exitUsage, "zstd, gzip, xz, none"},
		{"-o OUT --nonsense", exitUsage, "nonsense"},
		{"-o OUT word", exitUsage, `"word" is no option`},
		{"-o OUT --set everything", exitUsage, "no set has this name"},
		{"-o OUT --arch vax", exitUsage, "amd64, arm64"},
		{"-o OUT --arch arm64 --devspool X", exitUsage, "--devspool gives one"},
		{"ls", exitUsage, "ls [-l] IMAGE"},
		{"cat DIR/text", exitUsage, "cat takes IMAGE PATH"},
		{"ls DIR/missing", exitFailed, "missing: no such file"},
		{"ls DIR", exitFailed, "is a directory"},
		{"ls DIR/text", exitFailed, "text: at byte 0: neither a cpio archive nor"},
		{"-o OUT --devspool DIR/missing", exitFailed, "--devspool"},
		{"-o OUT --devspool DIR/text", exitFailed, "--devspool"},
		{"-o OUT --devspool /bin/bash", exitFailed, "linked dynamically"},
		{"-o OUT --devspool none --conf DIR/missing", exitFailed, "--conf"},
		{"-o OUT --devspool none --init DIR/script", exitFailed, "add it by --program /bin/zsh"},
		{"-o OUT --devspool none --program no-such-program", exitFailed, "no program no-such-program in"},
		{"-o OUT --devspool none --modules x --root DIR/root", exitFailed, "--modules-dir"},
		{"-o OUT --devspool none --modules x --modules-dir DIR/modules", exitFailed, "choose by --kernel"},
		{"-o OUT --devspool none --modules x --modules-dir DIR/modules --kernel 3", exitFailed, "no modules of the kernel 3"},
		{"-o OUT --devspool none --modules x --modules-dir DIR/modules --kernel 2.0", exitFailed, "holds no kernel modules"},
		{"-o OUT --devspool none --modules gone --modules-dir DIR/modules --kernel 1.0", exitFailed, "run depmod 1.0"},
		{"-o OUT --devspool none --modules other --modules-dir DIR/modules --kernel 1.0", exitFailed, `no module and no alias "other"`},
		{"-o OUT --devspool none --for-this-machine --sys DIR --modules-dir DIR/modules --kernel 1.0", exitFailed, "--for-this-machine"},
		{"-o OUT --devspool none --node /dev/x", exitUsage, "PATH:b|c:MAJOR:MINOR"},
		{"-o OUT --devspool none --node /dev/x:c:1:2:888", exitUsage, "not permission bits"},
		{"-o OUT --devspool none --node /dev/x:c:5000:2", exitFailed, "not numbers of a device"},
		{"-o OUT --devspool none --file DIR/text", exitUsage, "SRC:DST"},
		{"-o OUT --devspool none --dir x:999", exitUsage, "--dir x:999"},
		{"-o OUT --devspool none --link x", exitUsage, "PATH:TARGET"},
		{"-o OUT --devspool none --file DIR/missing:x", exitFailed, "--file DIR/missing:x: "},
		{"-o OUT --devspool none --file DIR/text:x --file DIR/script:x", exitFailed, "two want this path"},
		{"-o OUT --devspool none --file DIR/text:../x", exitFailed, "not a path below"},
		{"-o OUT --devspool none --early DIR/text", exitFailed, "--early"},
		{"-o OUT --devspool none --microcode --root DIR/root", exitFailed, "install the microcode"},
		{"-o OUT --devspool none --append DIR/text", exitFailed, "--append"},
		{"-o DIR/no/directory --devspool none", exitSystem, "no such file"},
		{"-o DIR/root --devspool none", exitSystem, "is a directory"},
	} {
		args := strings.Fields(strings.NewReplacer("OUT", out, "DIR", dir).Replace(c.args))
		r := do(nil, args...)
		if r.code != c.code || !strings.Contains(r.errors, strings.ReplaceAll(c.says, "DIR", dir)) {
			t.Errorf("%s: exit %d: %s\nwant %d: %s", c.args, r.code, r.errors, c.code, c.says)
		}
	}
	if left, _ := filepath.Glob(at("*out*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if left, _ := filepath.Glob(at(".mk*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if r := do(map[string]string{"SOURCE_DATE_EPOCH": "soon"}, "-n"); r.code != exitUsage || !strings.Contains(r.errors, "seconds since 1970") {
		t.Errorf("%+v", r)
	}
}

// TestFullDisk writes where there is no room.
func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	packtest.Must(t, err)
	defer full.Close()
	var errors bytes.Buffer
	code := run([]string{"--devspool", "none", "-o", "-"}, func(string) string { return "" }, streams{full, &errors, false})
	if code != exitSystem || strings.Count(errors.String(), "no space left") != 1 {
		t.Errorf("exit %d: %s", code, &errors)
	}
}

// TestWriteToPipe writes to what is no file, and must not be replaced by one.
func TestWriteToPipe(t *testing.T) {
	pipe := t.TempDir() + "/pipe"
	packtest.Must(t, syscall.Mkfifo(pipe, 0o600))
	read, err := os.OpenFile(pipe, os.O_RDWR, 0) // or a write would wait for a reader
	packtest.Must(t, err)
	defer read.Close()
	if r := do(nil, "--devspool", "none", "--compress", "none", "-o", pipe); r.code != exitDone {
		t.Errorf("%+v", r)
	}
	head := make([]byte, 6)
	if _, err := io.ReadFull(read, head); err != nil || string(head) != "070701" {
		t.Errorf("the pipe has %q: %v", head, err)
	}
	if info, err := os.Lstat(pipe); err != nil || info.Mode().Type() != fs.ModeNamedPipe {
		t.Errorf("the pipe is now %v: %v", info, err)
	}
}

// TestOtherProgramsOpenIt unpacks an image by cpio, and compares each file with its
// source; lsinitramfs lists it.
func TestOtherProgramsOpenIt(t *testing.T) {
	packtest.Needs(t, "the image opened by other programs", "cpio", "lsinitramfs", "zstd")
	root, release := packtest.Kernel(t)
	dir := t.TempDir()
	packtest.Write(t, dir+"/tree/sub/a", "a\n")
	packtest.Must(t, os.Symlink("sub/a", dir+"/tree/link"))
	packtest.Write(t, dir+"/mdev.conf", "sda 0:0 600\n")
	binary := static(t)
	args := []string{"--root", root, "--devspool", binary, "--conf", dir + "/mdev.conf", "--set", "virtio,nvme",
		"--file", dir + "/tree:/opt/tree", "--node", "/dev/ttyS0:c:4:64:0620", "--link", "/etc/mtab:/proc/mounts", "--dir", "/mnt:0700"}
	image := pack(t, args...)
	into := t.TempDir()
	cmd := exec.Command("cpio", "-id", "--quiet", "--no-absolute-filenames")
	if os.Geteuid() != 0 {
		cmd.Args = append(cmd.Args, "-f", "dev/*") // cpio cannot make these
	}
	cmd.Dir = into
	stdin, err := os.Open(image)
	packtest.Must(t, err)
	defer stdin.Close()
	cmd.Stdin, cmd.Stderr = stdin, t.Output()
	packtest.Must(t, cmd.Run())
	same := func(path, source string) {
		t.Helper()
		got, err := os.ReadFile(filepath.Join(into, path))
		packtest.Must(t, err)
		want, err := os.ReadFile(source)
		packtest.Must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not %s", path, source)
		}
	}
	same("sbin/devspool", binary)
	same("sbin/mdev", binary)
	same("init", binary)
	same("etc/mdev.conf", dir+"/mdev.conf")
	same("opt/tree/sub/a", dir+"/tree/sub/a")
	same("opt/tree/link", dir+"/tree/sub/a")
	modules := 0
	packtest.Must(t, filepath.WalkDir(into+"/lib/modules/"+release+"/kernel", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			modules++
			same(strings.TrimPrefix(name, into), root+strings.TrimPrefix(name, into))
		}
		return err
	}))
	if modules < 15 {
		t.Errorf("%d modules", modules)
	}
	if os.Geteuid() == 0 {
		info, err := os.Stat(into + "/dev/ttyS0")
		packtest.Must(t, err)
		if info.Mode() != fs.ModeDevice|fs.ModeCharDevice|0o620 || info.Sys().(*syscall.Stat_t).Rdev != 4<<8|64 {
			t.Errorf("ttyS0 is %v", info.Mode())
		}
	}
	ours := do(nil, "ls", image)
	// (lsinitramfs fails on any image that has nothing compressed.)
	packed := filepath.Join(t.TempDir(), "packed")
	if r := do(nil, append([]string{"-o", packed}, args...)...); r.code != exitDone {
		t.Fatal(r.errors)
	}
	if theirs := packtest.Run(t, "lsinitramfs", packed); theirs != ours.out {
		t.Errorf("lsinitramfs lists of the compressed image\n%s", theirs)
	}
	if r := do(nil, "cat", packed, "/sbin/mdev", "opt/tree/link"); r.out != text(t, binary)+"a\n" {
		t.Errorf("cat: exit %d, %d bytes: %s", r.code, len(r.out), r.errors)
	}
}

func text(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	packtest.Must(t, err)
	return string(text)
}

// TestEqualBytes packs the same twice, in every compression, from files that have other
// times and owners the second time.
func TestEqualBytes(t *testing.T) {
	packtest.Needs(t, "images by the program xz", "xz")
	root, _ := packtest.Kernel(t)
	binary := static(t)
	for _, format := range []string{"zstd", "gzip", "xz", "none"} {
		var images []string
		for _, age := range []time.Duration{0, time.Hour} {
			packtest.Must(t, os.Chtimes(binary, time.Time{}, time.Now().Add(-age)))
			dir := t.TempDir()
			image := dir + "/image"
			r := do(map[string]string{"SOURCE_DATE_EPOCH": "1700000000"}, "--root", root, "--devspool", binary, "--set", "nvme",
				"--compress", format, "-o", image)
			if r.code != exitDone {
				t.Fatal(r.errors)
			}
			images = append(images, text(t, image))
		}
		if images[0] != images[1] {
			t.Errorf("%s: two images", format)
		}
		if format == "none" && !strings.Contains(images[0], "6553F100") {
			t.Error("SOURCE_DATE_EPOCH is nowhere")
		}
	}
}

// TestAppend adds to images of other programs: behind early microcode, where /lib is a
// link or a directory; the kernel's way to unpack leaves both whole.
func TestAppend(t *testing.T) {
	packtest.Needs(t, "other programs' images", "cpio", "gzip")
	dir := t.TempDir()
	packtest.Write(t, dir+"/early/kernel/x86/microcode/GenuineIntel.bin", "microcode")
	packtest.Write(t, dir+"/merged/usr/lib/old", "old")
	packtest.Write(t, dir+"/merged/usr/sbin/tool", "tool")
	packtest.Write(t, dir+"/merged/init", "their init")
	packtest.Must(t, os.Symlink("usr/lib", dir+"/merged/lib"))
	packtest.Must(t, os.Symlink("/usr/sbin", dir+"/merged/sbin"))
	packtest.Must(t, os.Mkdir(dir+"/merged/etc", 0o700))
	packtest.Write(t, dir+"/split/lib/old", "old")
	archive := func(name, compress string) string {
		return packtest.Run(t, "sh", "-c", fmt.Sprintf("cd %s && find . | LC_ALL=C sort | cpio -o -H newc --quiet | %s", dir+"/"+name, compress))
	}
	packtest.Write(t, dir+"/image", archive("early", "cat")+archive("merged", "gzip"))
	packtest.Write(t, dir+"/conf", "conf")
	binary := static(t)
	image := pack(t, "--append", dir+"/image", "--devspool", binary, "--conf", dir+"/conf", "--file", dir+"/conf:lib/modules/new", "--compress", "zstd")
	if !strings.HasPrefix(text(t, image), text(t, dir+"/image")) {
		t.Error("the image does not begin with the one that it is added to")
	}
	root := unpack(t, image)
	for path, want := range map[string]string{"lib/old": "old", "usr/lib/modules/new": "conf", "lib/modules/new": "conf", "init": "their init",
		"usr/sbin/devspool": text(t, binary), "usr/sbin/tool": "tool", "etc/mdev.conf": "conf",
		"kernel/x86/microcode/GenuineIntel.bin": "microcode"} {
		if path = filepath.Join(root, path); strings.Contains(path, "/sbin/") {
			path = strings.Replace(path, "/sbin/", "/usr/sbin/", strings.Count(path, "/sbin/")-strings.Count(path, "/usr/sbin/"))
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: %.30q %v", path, got, err)
		}
	}
	if info, err := os.Stat(root + "/etc"); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("/etc has another mode: %v %v", info.Mode(), err)
	}
	if r := do(nil, "ls", "-l", image); strings.Count(r.out, "# archive") != 3 || !strings.Contains(r.out, ": gzip at byte") || !strings.Contains(r.out, ": zstd at byte") {
		t.Errorf("ls -l:\n%s", r.out)
	}

	// Programs of a machine where /lib is a link, in an image where it is a directory.
	packtest.Write(t, dir+"/image", archive("split", "gzip"))
	image = pack(t, "--append", dir+"/image", "--devspool", "none", "--program", "bash")
	root = unpack(t, image)
	if got, err := os.ReadFile(root + "/lib/old"); err != nil || string(got) != "old" {
		t.Errorf("lib/old: %q %v", got, err)
	}
	bash(t, root)

	// A file may not take the place of another for a directory of its own.
	if r := do(nil, "--append", dir+"/image", "--devspool", "none", "--file", dir+"/conf:lib/old/new", "-n"); r.code != exitFailed || !strings.Contains(r.errors, "lib/old is no directory") {
		t.Errorf("%+v", r)
	}
}

// TestAppendModules adds modules to an image that has some, one compressed: the indexes
// name all of them.
func TestAppendModules(t *testing.T) {
	packtest.Needs(t, "modules added to an image", "xz", "modprobe")
	root, release := packtest.Kernel(t)
	dir := t.TempDir()
	at := root + "/lib/modules/" + release + "/kernel/"
	packtest.Write(t, dir+"/virtio_ring.ko", text(t, at+"drivers/virtio/virtio_ring.ko"))
	packtest.Run(t, "xz", "--check=crc32", dir+"/virtio_ring.ko")
	first := pack(t, "--root", root, "--devspool", "none", "--compress", "gzip", "--modules", "loop", "--index", "bin",
		"--file", dir+"/virtio_ring.ko.xz:lib/modules/"+release+"/kernel/drivers/virtio/virtio_ring.ko.xz")
	image := pack(t, "--root", root, "--devspool", "none", "--append", first, "--modules", "virtio_blk,virtio_pci")
	into := unpack(t, image)
	for name, want := range map[string]string{"loop": "loop.ko", "virtio_blk": "virtio_ring.ko.xz"} {
		out := packtest.Run(t, "modprobe", "-C", dir, "-d", into, "-S", release, "-D", name)
		if !strings.Contains(out, want) {
			t.Errorf("modprobe %s: %s", name, out)
		}
		for line := range strings.Lines(out) {
			if _, err := os.Stat(strings.Fields(line)[1]); err != nil {
				t.Error(err)
			}
		}
	}
	if r := do(nil, "ls", image); strings.Contains(r.out, "virtio_ring.ko\n") {
		t.Error("virtio_ring is there twice")
	}
}

// TestLinkedDirectory packs a directory over a link: its files go to where that leads.
func TestLinkedDirectory(t *testing.T) {
	dir := t.TempDir()
	packtest.Write(t, dir+"/tree/mine", "mine")
	image := pack(t, "--devspool", "none", "--link", "/bin:usr/bin", "--file", dir+"/tree:/bin", "--file", dir+"/tree/mine:usr/bin/other")
	root := unpack(t, image)
	for _, name := range []string{"bin/mine", "usr/bin/mine", "bin/other"} {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
}

// TestInterrupted ends the program while it writes: nothing is left, and the image that
// was there stays.
func TestInterrupted(t *testing.T) {
	dir := t.TempDir()
	packtest.Run(t, "go", "build", "-o", dir+"/mkinitramfs", ".")
	packtest.Write(t, dir+"/out/image", "old")
	packtest.Must(t, os.Chmod(dir+"/out/image", 0o600))
	packtest.Must(t, os.WriteFile(dir+"/big", bytes.Repeat([]byte("some text "), 20<<20), 0o644))
	cmd := exec.Command(dir+"/mkinitramfs", "--devspool", "none", "--file", dir+"/big:big", "-o", dir+"/out/image")
	packtest.Must(t, cmd.Start())
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if found, _ := filepath.Glob(dir + "/out/.mkinitramfs-*"); len(found) > 0 {
			break
		} else if time.Now().After(end) {
			t.Fatal("it does not write")
		}
	}
	time.Sleep(20 * time.Millisecond)
	packtest.Must(t, cmd.Process.Signal(os.Interrupt))
	if err := cmd.Wait(); err == nil {
		t.Error("the signal did not end it")
	}
	left, err := os.ReadDir(dir + "/out")
	packtest.Must(t, err)
	if len(left) != 1 || text(t, dir+"/out/image") != "old" {
		t.Errorf("left behind: %v", left)
	}
	// Written over, the image keeps its mode.
	if r := do(nil, "--devspool", "none", "-o", dir+"/out/image"); r.code != exitDone {
		t.Fatal(r.errors)
	}
	if info, err := os.Stat(dir + "/out/image"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

// bash runs the bash of an unpacked image in it.
func bash(t testing.TB, root string) {
	t.Helper()
	if os.Geteuid() != 0 {
		packtest.NotTested(t, "programs in an unpacked image", "needs root")
	}
	if out := packtest.Run(t, "chroot", root, "/bin/bash", "-c", "echo $((6*7))"); out != "42\n" {
		t.Errorf("bash says %q", out)
	}
}

// TestPrograms runs programs in the unpacked image, beside our own paths below /sbin.
func TestPrograms(t *testing.T) {
	for _, name := range []string{"bash", "cryptsetup"} {
		packtest.Needs(t, "programs in an unpacked image", name)
	}
	image := pack(t, "--devspool", static(t), "--program", "bash", "--program", "cryptsetup,/bin/ls")
	root := unpack(t, image)
	bash(t, root)
	if out := packtest.Run(t, "chroot", root, "/sbin/cryptsetup", "--version"); !strings.HasPrefix(out, "cryptsetup ") {
		t.Errorf("cryptsetup says %q", out)
	}
	if out := packtest.Run(t, "chroot", root, "/bin/ls", "/sbin/devspool"); out != "/sbin/devspool\n" {
		t.Errorf("ls says %q", out)
	}
}

// TestForeignRoot packs programs for arm64, and runs them under emulation.
func TestForeignRoot(t *testing.T) {
	const emulator = "qemu-aarch64-static"
	packtest.Needs(t, "programs for another architecture", emulator)
	foreign := packtest.Root(t, "arm64")
	if r := do(nil, "-n", "--root", foreign, "--program", "bash"); !strings.Contains(r.out, "would be built for arm64") {
		t.Errorf("%+v", r)
	}
	if r := do(nil, "-n", "--root", foreign, "--program", "bash", "--devspool", static(t)); r.code != exitFailed || !strings.Contains(r.errors, "choose by --arch") {
		t.Errorf("%+v", r)
	}
	qemu, err := exec.LookPath(emulator)
	packtest.Must(t, err)
	root := unpack(t, pack(t, "--root", foreign, "--devspool", "none", "--program", "bash,ls", "--file", qemu+":qemu"))
	if os.Geteuid() != 0 {
		packtest.NotTested(t, "programs for another architecture", "needs root")
	}
	if out := packtest.Run(t, "chroot", root, "/qemu", "/bin/bash", "-c", "echo $HOSTTYPE $((6*7))"); out != "aarch64 42\n" {
		t.Errorf("bash says %q", out)
	}
	if out := packtest.Run(t, "chroot", root, "/qemu", "/bin/ls", "/qemu"); out != "/qemu\n" {
		t.Errorf("ls says %q", out)
	}
}

// TestFirmware packs what real modules ask for: plain, by a link, compressed, from
// updates/, and what is not there.
func TestFirmware(t *testing.T) {
	packtest.Needs(t, "compressed firmware", "xz", "zstd")
	root, _ := packtest.Kernel(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	packtest.Write(t, at("rtl_nic/rtl8168d-1.fw"), "old")
	packtest.Write(t, at("updates/rtl_nic/rtl8168d-1.fw"), "new")
	packtest.Write(t, at("rtl_nic/rtl8168d-2.fw"), "two")
	packtest.Run(t, "xz", "-C", "crc32", at("rtl_nic/rtl8168d-2.fw"))
	packtest.Write(t, at("rtl_nic/real.fw"), "real")
	packtest.Run(t, "zstd", "-q", "--rm", at("rtl_nic/real.fw"))
	packtest.Must(t, os.Symlink("real.fw.zst", at("rtl_nic/rtl8168e-1.fw.zst")))
	// What is not compressed goes before what is, in whichever directory, and zstd before xz.
	packtest.Write(t, at("updates/rtl_nic/rtl8168e-2.fw"), "xz")
	packtest.Run(t, "xz", "-C", "crc32", at("updates/rtl_nic/rtl8168e-2.fw"))
	packtest.Write(t, at("rtl_nic/rtl8168e-2.fw"), "plain")
	packtest.Write(t, at("rtl_nic/rtl8168e-3.fw"), "zstd")
	packtest.Run(t, "zstd", "-q", "--rm", at("rtl_nic/rtl8168e-3.fw"))
	packtest.Write(t, at("rtl_nic/rtl8168e-3.fw"), "xz")
	packtest.Run(t, "xz", "-C", "crc32", at("rtl_nic/rtl8168e-3.fw"))
	packtest.Write(t, at("other/unasked"), "")
	image := pack(t, "--root", root, "--devspool", "none", "--modules", "r8169", "--firmware-dir", dir)
	into := unpack(t, image)
	for name, want := range map[string]string{"rtl8168d-1.fw": "new", "rtl8168d-2.fw": "two", "rtl8168e-1.fw": "real", "real.fw": "real",
		"rtl8168e-2.fw": "plain", "rtl8168e-3.fw": "zstd"} {
		if got, err := os.ReadFile(into + "/lib/firmware/rtl_nic/" + name); err != nil || string(got) != want {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	if found, _ := filepath.Glob(into + "/lib/firmware/*"); len(found) != 1 {
		t.Errorf("%q", found)
	}
	r := do(nil, "-n", "-v", "--root", root, "--devspool", "none", "--modules", "r8169", "--firmware-dir", dir)
	if !strings.Contains(r.errors, "r8169 may ask for the firmware rtl_nic/rtl8411-1.fw, which is not there") {
		t.Errorf("%+v", r)
	}
	if r := do(nil, "-n", "--no-firmware", "--root", root, "--devspool", "none", "--modules", "r8169", "--firmware-dir", dir); strings.Contains(r.out, "rtl_nic") {
		t.Errorf("%+v", r)
	}
}

// TestThisMachine has a /sys of a virtual machine with a virtio disk and a sound card.
func TestThisMachine(t *testing.T) {
	root, release := packtest.Kernel(t)
	sys := t.TempDir()
	for device, alias := range map[string]string{
		"pci0000:00/0000:00:01.0":         "pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00",
		"pci0000:00/0000:00:01.0/virtio0": "virtio:d00000002v00001AF4",
		"pci0000:00/0000:00:02.0":         "pci:v00008086d00002668sv00001AF4sd00001100bc04sc03i00",
		"platform/nothing":                "platform:nothing-of-the-kind",
	} {
		packtest.Write(t, filepath.Join(sys, "devices", device, "modalias"), alias+"\n")
	}
	r := do(nil, "-n", "--for-this-machine", "--sys", sys, "--root", root, "--kernel", release, "--devspool", "none", "--exclude", "sound,snd")
	if r.code != exitDone {
		t.Fatal(r.errors)
	}
	if !strings.Contains(r.out, "virtio_blk.ko  device /devices/pci0000:00/0000:00:01.0/virtio0") || !strings.Contains(r.out, "virtio_pci.ko ") {
		t.Errorf("no module of the disk:\n%s", r.out)
	}
	if strings.Contains(r.out, "snd") {
		t.Errorf("sound, which is excluded:\n%s", r.out)
	}
	if n, f := rootMount("22 1 0:5 / /proc rw - proc proc rw\n23 1 8:1 / / rw - rootfs x rw\n24 1 254:0 / / rw,x shared:1 - ext4 /dev/vda rw\n"); n != "254:0" || f != "ext4" {
		t.Errorf("%q %q", n, f)
	}
}

// TestRootStack has LUKS on RAID below the root.
func TestRootStack(t *testing.T) {
	root, release := packtest.Kernel(t)
	text, err := os.ReadFile("/proc/self/mountinfo")
	packtest.Must(t, err)
	numbers, _ := rootMount(string(text))
	sys := t.TempDir()
	packtest.Write(t, sys+"/devices/x/modalias", "virtio:d00000002v00001AF4\n")
	packtest.Write(t, sys+"/dev/block/"+numbers+"/dm/uuid", "CRYPT-LUKS2-1234-name\n")
	packtest.Write(t, sys+"/dev/block/"+numbers+"/slaves/md0/x", "")
	packtest.Write(t, sys+"/class/block/md0/md/level", "raid1\n")
	r := do(nil, "-n", "--for-this-machine", "--sys", sys, "--root", root, "--kernel", release, "--devspool", "none")
	for _, want := range []string{"dm-mod.ko ", "dm-crypt.ko ", "xts.ko ", "raid1.ko ", "virtio_blk.ko "} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %s:\n%s%s", want, r.out, r.errors)
		}
	}
}

// TestAllStorage asks for every set; and for a list in a file.
func TestAllStorage(t *testing.T) {
	root, _ := packtest.Kernel(t)
	r := do(nil, "-n", "--root", root, "--devspool", "none", "--all-storage")
	for _, want := range []string{"ahci", "nvme", "virtio_blk", "usb-storage", "uas", "sdhci-pci", "mmc_block", "megaraid_sas", "hv_storvsc",
		"xen-blkfront", "ext4", "btrfs", "dm-crypt", "raid456", "usbhid", "xhci-pci"} {
		if !strings.Contains(r.out, "/"+want+".ko ") {
			t.Errorf("no %s", want)
		}
	}
	for _, unwanted := range []string{"/sound/", "/drm/", "/net/ethernet/", "/wireless/"} {
		if strings.Contains(r.out, unwanted) {
			t.Errorf("there is %s", unwanted)
		}
	}
	// A set that is asked for twice counts once.
	noted := func(args ...string) []string {
		r := do(nil, append([]string{"-n", "-v", "--root", root, "--devspool", "none", "--no-firmware"}, args...)...)
		return strings.SplitAfter(r.errors, "\n")
	}
	if once, twice := noted("--all-storage"), noted("--all-storage", "--set", "nvme,scsi,nvme"); !slices.Equal(once, twice) {
		t.Errorf("%d notes, and %d where sets are named too", len(once), len(twice))
	}
	list := t.TempDir() + "/list"
	packtest.Write(t, list, "# disks\nvirtio-blk\n\ndrivers/nvme/host # all\n")
	r = do(nil, "-n", "--root", root, "--devspool", "none", "--modules", "@"+list)
	if !strings.Contains(r.out, "virtio_blk.ko") || !strings.Contains(r.out, "nvme.ko") || !strings.Contains(r.out, "--modules drivers/nvme/host") {
		t.Errorf("%+v", r)
	}
}

// TestEarly puts microcode and an archive in front.
func TestEarly(t *testing.T) {
	root := t.TempDir()
	packtest.Write(t, root+"/lib/firmware/amd-ucode/microcode_amd.bin", "amd1 ")
	packtest.Write(t, root+"/lib/firmware/amd-ucode/microcode_amd_fam15h.bin", "amd2")
	packtest.Write(t, root+"/lib/firmware/intel-ucode/06-55-04", "intel")
	table := pack(t, "--devspool", "none", "--file", root+"/lib/firmware/intel-ucode/06-55-04:kernel/firmware/acpi/dsdt.aml")
	image := pack(t, "--devspool", "none", "--root", root, "--microcode", "--early", table, "--compress", "gzip")
	r := do(nil, "ls", "-l", image)
	if !regexp.MustCompile(`(?s)^# archive 1: cpio at byte 0\n.*dsdt.aml.*# archive 2: cpio .*AuthenticAMD.bin.*# archive 3: gzip`).MatchString(r.out) {
		t.Errorf("%+v", r)
	}
	if r := do(nil, "cat", image, "kernel/x86/microcode/AuthenticAMD.bin", "kernel/x86/microcode/GenuineIntel.bin"); r.out != "amd1 amd2intel" {
		t.Errorf("%+v", r)
	}
}

// TestHardLinks prints files that cpio archived under two names.
func TestHardLinks(t *testing.T) {
	packtest.Needs(t, "hard links in an image", "cpio")
	dir := t.TempDir()
	packtest.Write(t, dir+"/a", "text")
	packtest.Must(t, os.Link(dir+"/a", dir+"/b"))
	packtest.Write(t, dir+"/image", packtest.Run(t, "sh", "-c", "cd "+dir+" && printf 'a\\nb\\n' | cpio -o -H newc --quiet"))
	if r := do(nil, "cat", dir+"/image", "a", "b"); r.out != "texttext" {
		t.Errorf("%+v", r)
	}
	// A later archive writes into the file that has both names.
	packtest.Write(t, dir+"/new/b", "new")
	packtest.Write(t, dir+"/image", packtest.Run(t, "sh", "-c", "cat "+dir+"/image && cd "+dir+"/new && echo b | cpio -o -H newc --quiet"))
	if r := do(nil, "cat", dir+"/image", "a", "b"); r.out != "newnew" {
		t.Errorf("%+v", r)
	}
}

// TestLinkWithNUL lists a link of an archive as gen_init_cpio of the kernel writes it: with the NUL.
func TestLinkWithNUL(t *testing.T) {
	image := t.TempDir() + "/image"
	var b bytes.Buffer
	packtest.Must(t, initramfs.Archive(&b, initramfs.Symlink{Path: "link", Target: "target!"}))
	packtest.Write(t, image, strings.Replace(b.String(), "target!", "target\x00", 1))
	if r := do(nil, "ls", "-l", image); !strings.HasSuffix(r.out, " link -> target\n") {
		t.Errorf("%+v", r)
	}
}

// TestControlBytes lists what would steer a terminal, and look like another entry.
func TestControlBytes(t *testing.T) {
	image := t.TempDir() + "/image"
	var b bytes.Buffer
	packtest.Must(t, initramfs.Archive(&b, initramfs.Symlink{Path: "a\x1b[2J", Target: "b\nc"}))
	packtest.Write(t, image, b.String())
	if r := do(nil, "ls", "-l", image); !strings.HasSuffix(r.out, ` a\x1b[2J -> b\x0ac`+"\n") {
		t.Errorf("%+v", r)
	}
	if r := do(nil, "ls", image); r.out != `a\x1b[2J`+"\n" {
		t.Errorf("%+v", r)
	}
	packtest.Write(t, image, b.String()[:100])
	if r := do(nil, "ls", image); r.code != exitFailed || strings.Count(r.errors, "\n") != 1 {
		t.Errorf("%+v", r)
	}
}

// TestConfWithoutModules packs modules, and a config that would leave them where they are.
func TestConfWithoutModules(t *testing.T) {
	binary, dir := static(t), t.TempDir()
	packtest.Write(t, dir+"/1.0/modules.dep", "kernel/gone.ko:\n")
	packtest.Write(t, dir+"/1.0/modules.builtin", "kernel/fs/ext4/ext4.ko\n")
	packtest.Write(t, dir+"/conf", "# modprobe\nsd.* 0:0 660\n")
	packtest.Write(t, dir+"/good", "-$MODALIAS=.* 0:0 660 @modprobe \"$MODALIAS\"\n")
	packing := func(args ...string) string {
		return do(nil, append([]string{"--devspool", binary, "-o", dir + "/image", "--modules-dir", dir, "--kernel", "1.0", "--modules", "ext4"}, args...)...).errors
	}
	if said := packing("--conf", dir+"/conf"); !strings.Contains(said, "has no rule that loads modules") || !strings.Contains(said, dir+"/conf") {
		t.Error(said)
	}
	for _, args := range [][]string{{"--conf", dir + "/good"}, {}, {"--conf", dir + "/conf", "--file", dir + "/good:etc/mdev.conf.d/good.conf"}} {
		if said := packing(args...); said != "" {
			t.Errorf("%q: %s", args, said)
		}
	}
}

// TestUnreadableModules packs programs beside modules that do not tell what they are for: the programs do.
func TestUnreadableModules(t *testing.T) {
	foreign := packtest.Root(t, "arm64")
	dir := t.TempDir()
	packtest.Write(t, dir+"/1.0/modules.dep", "kernel/gone.ko:\n")
	packtest.Write(t, dir+"/1.0/modules.builtin", "kernel/fs/ext4/ext4.ko\n")
	r := do(nil, "-n", "--root", foreign, "--program", "bash", "--modules-dir", dir, "--modules", "ext4")
	if !strings.Contains(r.out, "would be built for arm64") {
		t.Errorf("%+v", r)
	}
}

// TestModprobeConf packs a file under a name that modprobe reads.
func TestModprobeConf(t *testing.T) {
	dir := t.TempDir()
	packtest.Write(t, dir+"/board", "options x y=1\n")
	packtest.Write(t, dir+"/d/a.conf", "")
	packtest.Write(t, dir+"/d/b", "")
	r := do(nil, "-n", "--devspool", "none", "--modprobe-conf", dir+"/board", "--modprobe-conf", dir+"/d")
	for name, want := range map[string]bool{"board.conf ": true, "a.conf ": true, "b ": false, "board ": false} {
		if strings.Contains(r.out, "etc/modprobe.d/"+name) != want {
			t.Errorf("%s: not %v\n%s", name, want, r.out)
		}
	}
}

// TestModeString compares with ls.
func TestModeString(t *testing.T) {
	dir := t.TempDir()
	for _, mode := range []uint32{0, 0o644, 0o4755, 0o2644, 0o1777, 0o7000, 0o7777} {
		name := filepath.Join(dir, fmt.Sprint(mode))
		packtest.Write(t, name, "")
		packtest.Must(t, syscall.Chmod(name, mode))
		want, _, _ := strings.Cut(packtest.Run(t, "ls", "-l", name), " ")
		if got := modeString(0o100000 | mode); got != strings.TrimRight(want, ".+") {
			t.Errorf("%o: %s, ls has %s", mode, got, want)
		}
	}
}

// TestProgress shows the line that changes: on a terminal, late, and gone at the end.
func TestProgress(t *testing.T) {
	var b bytes.Buffer
	r := newReport(&options{}, streams{io.Discard, &b, true})
	r.progress("soon", 1, 2)
	if b.Len() > 0 {
		t.Errorf("at once: %q", &b)
	}
	r.start = r.start.Add(-time.Second)
	r.progress("reading", 1, 2)
	r.progress("again too soon", 2, 2)
	r.clear()
	if b.String() != "\r\x1b[Kreading: 1 of 2\r\x1b[K" {
		t.Errorf("%q", &b)
	}
	b.Reset()
	r = newReport(&options{}, streams{io.Discard, &b, false})
	r.start = r.start.Add(-time.Second)
	if r.progress("reading", 1, 2); b.Len() > 0 {
		t.Errorf("on no terminal: %q", &b)
	}
}

// TestAsAUser runs the program as a person would, from the directory that holds the
// source, which builds devspool too; then as a user with no rights.
func TestAsAUser(t *testing.T) {
	root, _ := packtest.Kernel(t)
	packtest.Needs(t, "the whole program", "make", "go")
	image := t.TempDir() + "/image"
	cmd := exec.Command("go", "run", "./initramfs/mkinitramfs", "--root", root, "--set", "virtio,nvme", "--conf", "conf/default.conf", "--why", "-o", image)
	cmd.Dir = "../../.."
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	packtest.Must(t, err)
	if !strings.Contains(string(out), "sbin/devspool") || !strings.Contains(string(out), "built for amd64") || !strings.Contains(string(out), "bytes  "+image+", zstd\n") {
		t.Errorf("it says\n%s", out)
	}
	// The budget in bytes: all but the kernel's own modules.
	const budget = 1_250_000
	unpacked := unpack(t, image)
	packtest.Run(t, "find", unpacked+"/lib/modules", "-name", "*.ko", "-delete")
	small := pack(t, "--compress", "zstd", "--devspool", unpacked+"/sbin/devspool", "--conf", unpacked+"/etc/mdev.conf", "--file", unpacked+"/lib/modules:lib/modules")
	info, err := os.Stat(small)
	packtest.Must(t, err)
	t.Logf("binary, config and what tells of the modules, as zstd: %d bytes", info.Size())
	if info.Size() > budget {
		t.Errorf("the image without modules has %d bytes, more than %d", info.Size(), budget)
	}

	// Nodes need no root.
	if os.Geteuid() != 0 {
		return
	}
	dir, err := os.MkdirTemp("/tmp", "packer")
	packtest.Must(t, err)
	defer os.RemoveAll(dir)
	packtest.Must(t, os.Chmod(dir, 0o777))
	packtest.Run(t, "go", "build", "-o", dir+"/mkinitramfs", ".")
	nobody := exec.Command(dir+"/mkinitramfs", "--devspool", "none", "--node", "dev/sda:b:8:0", "-o", dir+"/image")
	nobody.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := nobody.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if r := do(nil, "ls", "-l", dir+"/image"); !strings.Contains(r.out, "brw-------     0     0       8,0 dev/sda") {
		t.Errorf("%+v", r)
	}
}

// TestBoot boots Debian's kernel with an image that was added to another one, behind
// early microcode. The marker comes from a program in it, which loads modules by kmod's
// modprobe.
func TestBoot(t *testing.T) {
	if testing.Short() {
		t.Skip("a boot takes long")
	}
	packtest.Needs(t, "a boot from the image", "qemu-system-x86_64", "modprobe", "cpio")
	root, release := packtest.Kernel(t)
	dir := t.TempDir()
	packtest.Write(t, dir+"/early/kernel/x86/microcode/AuthenticAMD.bin", "none")
	packtest.Must(t, os.MkdirAll(dir+"/base/private", 0o700))
	packtest.Write(t, dir+"/base/private/old", "old")
	archive := func(name string) string {
		return packtest.Run(t, "sh", "-c", fmt.Sprintf("cd %s && find . | LC_ALL=C sort | cpio -o -H newc --quiet", dir+"/"+name))
	}
	packtest.Write(t, dir+"/first", archive("early"))
	packtest.Write(t, dir+"/second", archive("base"))
	packtest.Run(t, "gzip", dir+"/second")
	packtest.Write(t, dir+"/image", text(t, dir+"/first")+text(t, dir+"/second.gz"))
	packtest.Run(t, "make", "-s", "-C", "../../..", "dist/devspool-amd64")

	// Programs of this machine, modules of the kernel that is booted.
	image := pack(t, "--append", dir+"/image", "--compress", "zstd", "--devspool", "../../../dist/devspool-amd64", "--init", static(t),
		"--program", "bash,modprobe", "--modules-dir", filepath.Join(root, "lib/modules"), "--kernel", release,
		"--modules", "virtio_pci,virtio_blk,ext4", "--file", "packer_test.go:private/added")
	disk := dir + "/disk"
	packtest.Must(t, os.WriteFile(disk, make([]byte, 1<<20), 0o644))
	cmd := exec.Command("qemu-system-x86_64", "-accel", "tcg", "-m", "512", "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio",
		"-kernel", filepath.Join(root, "boot/vmlinuz-"+release), "-initrd", image, "-append", "console=ttyS0 panic=-1 quiet",
		"-drive", "file="+disk+",format=raw,if=none,id=d", "-device", "virtio-blk-pci,drive=d")
	var console bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &console
	packtest.Must(t, cmd.Start())
	limit := time.AfterFunc(4*time.Minute, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	err := cmd.Wait()
	lines := strings.Split(strings.ReplaceAll(console.String(), "\r", ""), "\n")
	if err != nil || !strings.Contains(console.String(), "packer-test: all is there") {
		t.Errorf("%v; the console:\n%s", err, strings.Join(lines[max(0, len(lines)-40):], "\n"))
	}
}
