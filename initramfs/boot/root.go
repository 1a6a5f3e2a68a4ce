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
	Pack   []string                        // arguments of mkinitramfs: what the image has
	Param  string                          // the parameters of the kernel that name the root
	Attach func(disk string) []string      // arguments of the machine for the disk
	Format func(t *testing.T, disk string) // puts the file system elsewhere than on the disk itself; may be nil
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
	dir := filepath.Dir(image)
	tree := filepath.Join(dir, "tree")
	l.plant(t, tree, o.Files)
	disk := filepath.Join(dir, "disk")
	run(t, "truncate", "-s", "128M", disk)
	run(t, "mkfs.ext4", "-q", "-F", "-U", RootUUID, "-L", RootLabel, "-d", tree, disk)
	if o.Root.Format != nil {
		o.Root.Format(t, disk)
	}
	if o.Root.Attach != nil {
		o.Devices = append(slices.Clone(o.Devices), o.Root.Attach(disk)...)
	}
	o.Append = append(slices.Clone(o.Append), strings.Fields(o.Root.Param)...)
	run(t, "go", append([]string{"run", "devspool/initramfs/mkinitramfs", "-q", "--devspool", l.devspool(),
		"--modules-dir", m.modules, "-o", image}, o.Root.Pack...)...)
}

// devspool is the program's file.
func (l *Lab) devspool() string {
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
