package boot

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"devspool/initramfs"
)

// Root is a root file system on a disk, which an image brings about whose /init is the
// program. The test's guest side runs there, as the child of that root's init.
type Root struct {
	Pack   []string                   // arguments of mkinitramfs: what the image has
	Param  string                     // the parameters of the kernel that name the root
	Attach func(disk string) []string // arguments of the machine for the disk
	// Shape is a shell script that puts the file system, of /dev/vda, on what it makes of
	// /dev/vdb and /dev/vdc, which become the disk and DISK.2. "" leaves it on the disk itself.
	Shape string
}

// The names that the test's file system has.
const (
	RootUUID  = "9a1f5c7e-0b1d-4a5e-8c55-3d1f0e2b4a66"
	RootLabel = "a root"
)

// packRoot writes the image, by the packer, and the disk.
func (l *Lab) packRoot(t *testing.T, image string, m *machine, o *Options) {
	t.Helper()
	needs(t, "boots from a root of its own", "mkfs.ext4")
	args := []string{"run", "devspool/initramfs/mkinitramfs", "-q", "--modules-dir", m.modules, "-o", image}
	if l.board.arch == "" {
		args = append(args, "--devspool", l.devspool())
	}
	run(t, "go", append(args, o.Root.Pack...)...)
	dir := filepath.Dir(image)
	tree := filepath.Join(dir, "tree")
	l.plant(t, tree, o.Files)
	disk := filepath.Join(dir, "disk")
	run(t, "truncate", "-s", "128M", disk)
	run(t, "mkfs.ext4", "-q", "-F", "-U", RootUUID, "-L", RootLabel, "-d", tree, disk)
	if o.Root.Shape != "" {
		l.shape(t, m, disk, o.Root.Shape)
	}
	if o.Root.Attach != nil {
		o.Devices = append(slices.Clone(o.Devices), o.Root.Attach(disk)...)
	}
	o.Append = append(slices.Clone(o.Append), strings.Fields(o.Root.Param)...)
}

// ShapeTools are the programs of a script of Root, and what an image needs that is to bring
// about what it has made.
var ShapeTools = []string{"--set", "virtio,md,crypt,filesystem", "--program", "/bin/busybox,cryptsetup,lvm,mdadm", "--link", "bin/sh:busybox"}

// shape boots a kernel, in which the script runs.
func (l *Lab) shape(t *testing.T, m *machine, disk, script string) {
	t.Helper()
	for _, tool := range []string{"cryptsetup", "lvm", "mdadm"} {
		needs(t, "boots from a root on other disks", tool)
	}
	dir := t.TempDir()
	init := filepath.Join(dir, "init")
	text := `#!/bin/busybox sh
export PATH=/sbin:/usr/sbin:/bin:/usr/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
busybox mkdir -p /run/lock
modprobe -a virtio_pci virtio_blk dm_crypt raid1 md_mod xts aes_generic sha256
set -e
` + script + `
busybox sync
echo devspool-boot: shaped
busybox poweroff -f
`
	if err := os.WriteFile(init, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "image")
	run(t, "go", append([]string{"run", "devspool/initramfs/mkinitramfs", "-q", "--devspool", l.devspool(),
		"--modules-dir", m.modules, "-o", image, "--init", init}, ShapeTools...)...)
	o := Options{Memory: 512}.withDefaults()
	for i, file := range []string{disk, dir + "/b", dir + "/c"} {
		if i > 0 {
			run(t, "truncate", "-s", "176M", file)
		}
		o.Devices = append(o.Devices, "-drive", "file="+file+",if=virtio,format=raw")
	}
	if console, err := m.boot(image, "shape", o); err != nil || !strings.Contains(console, "devspool-boot: shaped") {
		t.Fatalf("%v; the console's end:\n%s", err, tail(console, 60))
	}
	for from, to := range map[string]string{dir + "/b": disk, dir + "/c": disk + ".2"} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
}

// devspool is the program's file. For a foreign lab the packer has made it.
func (l *Lab) devspool() string {
	if l.board.dist != "" {
		return filepath.Join("../..", l.board.dist)
	}
	if path := os.Getenv("DEVSPOOL_BINARY"); path != "" {
		return path
	}
	return filepath.Join(l.dir, "devspool")
}

// plant makes the tree of the root.
func (l *Lab) plant(t *testing.T, tree string, files []initramfs.Entry) {
	t.Helper()
	entries := programs(filepath.Join(l.dir, "init"), l.devspool())
	entries[0] = initramfs.File{Path: "sbin/init", Mode: 0o755, Source: filepath.Join(l.dir, "init")}
	if l.board.arch != "" {
		entries = slices.DeleteFunc(entries, func(e initramfs.Entry) bool { f, is := e.(initramfs.File); return is && f.Source == busybox })
	}
	entries = append(entries, initramfs.Dir{Path: "dev", Mode: 0o755})
	archive := filepath.Join(filepath.Dir(tree), "tree.cpio")
	if err := create(archive, func(w io.Writer) error { return initramfs.Archive(w, append(entries, files...)...) }); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "sh", "-c", `cd "$1" && cpio -idm --quiet <"$2"`, "sh", tree, archive)
}

// Console boots, and returns what the console said until the machine ended.
func (l *Lab) Console(t *testing.T, o Options) string {
	t.Helper()
	o = o.withDefaults()
	m := o.Kernel.machine(t)
	image := filepath.Join(t.TempDir(), "image")
	l.packRoot(t, image, m, &o)
	console, err := m.boot(image, t.Name(), o)
	t.Logf("the end: %v", err) // a panic of the kernel is one with an error
	return console
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}
