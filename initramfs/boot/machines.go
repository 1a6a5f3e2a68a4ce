package boot

import (
	"fmt"
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

// qemu is Debian's kernel for amd64, as the script fetch-kernels keeps it, in a
// machine without virtualisation of the hardware: it runs everywhere.
func qemu(t *testing.T) *machine {
	t.Helper()
	const program = "qemu-system-x86_64"
	needs(t, "boots of Debian's kernel", program)
	root := fetchedKernel(t, "linux-image-amd64")
	kernels, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		t.Fatalf("kernels in %s: %q, %v", root, kernels, err)
	}
	return &machine{kernel: filepath.Base(kernels[0]), modules: filepath.Join(root, "lib/modules"), command: func(image, dir string, o Options, params []string) *exec.Cmd {
		monitor := filepath.Join(dir, "qmp")
		return exec.Command(program, append([]string{
			"-accel", "tcg",
			"-M", "q35", // has the ports of PCI Express that disks are plugged into
			"-m", strconv.Itoa(o.Memory),
			"-smp", "2", // so that events come from two processors at once
			"-nodefaults", "-display", "none", "-no-reboot",
			"-kernel", kernels[0], "-initrd", image,
			"-append", strings.Join(append(params, "console=ttyS0"), " "),
			"-serial", "stdio",
			// The guest plugs its own devices: its second serial line is a client of
			// the machine's monitor, so a test is one sequence of steps.
			"-chardev", "socket,id=qmp,server=on,wait=off,path=" + monitor,
			"-mon", "chardev=qmp,mode=control",
			"-serial", "unix:" + monitor,
		}, o.Devices...)...)
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
		NotTested(t, "boots of Debian's kernel", fmt.Sprintf("%s (initramfs/fetch-kernels brings it)", name))
	}
	return dir
}
