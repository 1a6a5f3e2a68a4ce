package boot

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// uml is Debian's package user-mode-linux.
func uml(t *testing.T) *machine {
	t.Helper()
	const program = "linux.uml"
	needs(t, "boots of User Mode Linux", program)
	return &machine{kernel: program, modules: "/usr/lib/uml/modules", command: func(image, dir string, o Options, params []string) *exec.Cmd {
		cmd := exec.Command(program, append([]string{
			"mem=" + strconv.Itoa(o.Memory) + "M",
			"initrd=" + image,
			"uml_dir=" + dir, // or it leaves a directory in the user's home
			"con=null", "con0=fd:0,fd:1",
		}, append(params, o.Devices...)...)...)
		cmd.Env = append(os.Environ(), "TMPDIR="+memoryDir(dir))
		return cmd
	}}
}

// memoryDir returns where User Mode Linux shall keep its memory: a file that it
// maps with the right to execute.
func memoryDir(fallback string) string {
	const shm = "/dev/shm"
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return fallback
	}
	usable := false
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 3 && f[1] == shm {
			usable = f[2] == "tmpfs" && !strings.Contains(f[3], "noexec") && !strings.HasPrefix(f[3], "ro")
		}
	}
	if usable {
		return shm
	}
	return fallback
}

// board is a machine of QEMU, without virtualisation of the hardware: it runs everywhere.
type board struct {
	program string
	kernel  string // Debian's package, as the script fetch-kernels keeps it
	console string // the parameter of the kernel for it
	args    []string
	arch    string   // GOARCH, where it is not this machine's
	environ []string // of the build
	dist    string   // the program of the Makefile for it
}

var boards = map[Kernel]board{
	QEMU: {program: "qemu-system-x86_64", kernel: "linux-image-amd64", console: "console=ttyS0",
		args: []string{
			"-M", "q35", // has the ports of PCI Express that disks are plugged into
			"-smp", "2", // so that events come from two processors at once
		}},
	Arm64: {program: "qemu-system-aarch64", kernel: "linux-image-arm64", console: "console=ttyAMA0",
		args: []string{"-M", "virt", "-cpu", "cortex-a53"}, arch: "arm64", dist: "dist/devspool-arm64"},
	Arm: {program: "qemu-system-arm", kernel: "linux-image-armmp", console: "console=ttyAMA0",
		args: []string{"-M", "virt,highmem=off", "-cpu", "cortex-a15"}, arch: "arm", environ: []string{"GOARM=6"}, dist: "dist/devspool-arm-6"},
	S390x: {program: "qemu-system-s390x", kernel: "linux-image-s390x", console: "console=ttysclp0",
		args: []string{"-M", "s390-ccw-virtio"}, arch: "s390x", dist: "dist/devspool-s390x"},
}

// machine finds the board's program and its kernel.
func (b board) machine(t *testing.T) *machine {
	t.Helper()
	needs(t, "boots of Debian's kernel", b.program)
	root := fetchedKernel(t, b.kernel)
	kernels, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		t.Fatalf("kernels in %s: %q, %v", root, kernels, err)
	}
	return &machine{kernel: filepath.Base(kernels[0]), modules: filepath.Join(root, "lib/modules"), command: func(image, dir string, o Options, params []string) *exec.Cmd {
		args := append([]string{
			"-accel", "tcg",
			"-m", strconv.Itoa(o.Memory),
			"-nodefaults", "-display", "none", "-no-reboot",
			"-kernel", kernels[0], "-initrd", image,
			"-append", strings.Join(append(params, b.console), " "),
			"-serial", "stdio",
		}, b.args...)
		if b.arch == "" {
			// The guest plugs its own devices: its second serial line is a client of
			// the machine's monitor, so a test is one sequence of steps.
			monitor := filepath.Join(dir, "qmp")
			args = append(args, "-chardev", "socket,id=qmp,server=on,wait=off,path="+monitor,
				"-mon", "chardev=qmp,mode=control", "-serial", "unix:"+monitor)
		}
		return exec.Command(b.program, append(args, o.Devices...)...)
	}}
}

// fetchedKernel returns the directory in the cache of a package that the script
// fetch-kernels was asked for.
func fetchedKernel(t *testing.T, name string) string {
	t.Helper()
	cache := os.Getenv("DEVSPOOL_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(user, "devspool")
	}
	dir := filepath.Join(cache, "kernels", name)
	if _, err := os.Stat(dir); err != nil {
		NotTested(t, "boots of Debian's kernel", name+" (initramfs/fetch-kernels brings it)")
	}
	return dir
}
