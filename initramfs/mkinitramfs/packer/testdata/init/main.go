// Init is /init of an image that a test boots: it loads modules by the image's modprobe
// and its indexes, runs the programs that are there, and says on the console how it went.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if err := check(); err != nil {
		fmt.Println("packer-test: FAILED:", err)
	} else {
		fmt.Println("packer-test: all is there")
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func check() error {
	for fstype, dir := range map[string]string{"proc": "/proc", "sysfs": "/sys"} {
		if err := unix.Mount(fstype, dir, fstype, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	// What was in the image before keeps its mode, though files were added below.
	for path, mode := range map[string]os.FileMode{"/private": 0o700, "/private/added": 0o644, "/dev/null": 0o666} {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if info.Mode().Perm() != mode {
			return fmt.Errorf("%s has the mode %o", path, info.Mode().Perm())
		}
	}
	if out, err := run("/bin/bash", "-c", "echo $((6*7))"); err != nil || out != "42" {
		return fmt.Errorf("bash: %q %w", out, err)
	}
	if out, err := run("/sbin/devspool", "--version"); err != nil || out == "" {
		return fmt.Errorf("devspool: %q %w", out, err)
	}
	for _, name := range []string{"virtio_pci", "virtio_blk", "fs-ext4"} {
		if out, err := run("/sbin/modprobe", name); err != nil {
			return fmt.Errorf("modprobe %s: %q %w", name, out, err)
		}
	}
	filesystems, err := os.ReadFile("/proc/filesystems")
	if err != nil || !strings.Contains(string(filesystems), "ext4") {
		return fmt.Errorf("no ext4: %q %w", filesystems, err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat("/sys/block/vda"); err == nil {
			return nil
		} else if time.Now().After(end) {
			return err
		}
	}
}

func run(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdin = os.Stdin
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
