package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// inJail reports whether this process is the one in the namespaces.
func inJail() bool { return os.Getenv(envJail) != "" }

// enterJail runs this program in mount, network and process namespaces of its own
// and returns its exit code.
func enterJail(dir string, args []string) int {
	runtime.LockOSThread() // Pdeathsig is about the thread that started the process
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), envJail+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return max(exitFailed, exit.ExitCode())
	}
	fmt.Fprintln(os.Stderr, "NOT MEASURED: new namespaces:", err)
	if os.Getenv(envTestAll) == "1" {
		return exitFailed
	}
	return exitOK
}

// jail is where the contestants run: their /dev, /etc and /sys are not the machine's.
type jail struct {
	dir  string   // the run's directory, which holds the programs
	etc  string   // what is mounted on /etc
	null *os.File // opened while there was a /dev/null; contestants begin with an empty /dev
	base uint64   // the device of the tmpfs that always covers the machine's /dev
}

// newJail furnishes this process's mount namespace.
func newJail(dir string) (*jail, error) {
	j := &jail{dir: dir, etc: filepath.Join(dir, "etc")}
	var err error
	if j.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		return nil, err
	}
	// Else what is mounted here would appear on the machine, too.
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	for _, m := range []struct{ kind, on, options string }{
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""}, // a new one shows the new network namespace
		{"tmpfs", "/dev", "mode=0755"},
		{"tmpfs", j.etc, "mode=0755"},
		{"tmpfs", j.tree(), "mode=0755"},
	} {
		if err := os.MkdirAll(m.on, 0o755); err != nil {
			return nil, err
		}
		if err := unix.Mount(m.kind, m.on, m.kind, 0, m.options); err != nil {
			return nil, fmt.Errorf("mount %s on %s: %w", m.kind, m.on, err)
		}
	}
	if err := j.furnishEtc(); err != nil {
		return nil, err
	}
	empty := filepath.Join(j.dir, "empty-file")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		return nil, err
	}
	if err := kerneltest.SpareMachine(empty); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Stat("/dev", &st); err != nil {
		return nil, err
	}
	j.base = st.Dev
	return j, nil
}

// tree is the directory for a made-up sysfs.
func (j *jail) tree() string { return filepath.Join(j.dir, "sys") }

func (j *jail) program(name string) string { return filepath.Join(j.dir, name) }

// furnishEtc puts an /etc in place that knows the groups of the configs, and has
// room for a config: BusyBox reads it at a fixed path.
func (j *jail) furnishEtc() error {
	for name, text := range map[string]string{
		"passwd":        "root:x:0:0:root:/:/bin/sh\n",
		"group":         groups,
		"nsswitch.conf": "passwd: files\ngroup: files\n",
	} {
		if err := os.WriteFile(filepath.Join(j.etc, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return unix.Mount(j.etc, "/etc", "", unix.MS_BIND, "")
}

// groups are those of the configs, numbered as it comes.
const groups = `root:x:0:
tty:x:5:
disk:x:6:
lp:x:7:
kmem:x:9:
dialout:x:20:
cdrom:x:24:
floppy:x:25:
tape:x:26:
audio:x:29:
video:x:44:
input:x:101:
usb:x:102:
i2c:x:103:
spi:x:104:
gpio:x:105:
netdev:x:106:
kvm:x:107:
`

// world is what a contestant finds when it starts.
type world struct {
	conf  string // the text of /etc/mdev.conf
	sys   string // the directory to be /sys, or "" for the real one
	realm *realm // where loops run, if not in the jail's own network namespace
}

// furnish mounts an empty /dev and lays out w. The function that it returns takes
// all of it away again.
func (j *jail) furnish(w world) (clear func() error, err error) {
	if err := os.WriteFile("/etc/mdev.conf", []byte(w.conf), 0o644); err != nil {
		return nil, err
	}
	if err := unix.Mount("tmpfs", "/dev", "tmpfs", 0, "mode=0755"); err != nil {
		return nil, fmt.Errorf("mount /dev: %w", err)
	}
	if w.sys == "" {
		return func() error { return j.unmount("/dev") }, nil
	}
	if err := unix.Mount(w.sys, "/sys", "", unix.MS_BIND, ""); err != nil {
		return nil, errors.Join(fmt.Errorf("mount /sys: %w", err), j.unmount("/dev"))
	}
	return func() error { return errors.Join(j.unmount("/sys"), j.unmount("/dev")) }, nil
}

// unmount takes away what furnish mounted, and never more than that: below it there
// must always be the tmpfs that hides the machine's /dev.
func (j *jail) unmount(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err
	}
	if st.Dev == j.base {
		return errors.New("nothing is mounted on the base /dev")
	}
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return nil
}

// over mounts the directory dir on path while f runs.
func over(path, dir string, f func() error) error {
	if err := unix.Mount(dir, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", path, err)
	}
	return errors.Join(f(), os.NewSyscallError("umount", unix.Unmount(path, unix.MNT_DETACH)))
}

// command makes a command whose descriptors do not depend on /dev, and whose
// environment holds nothing that a rule or a shell would look at.
func (j *jail) command(c contestant, args []string, env ...string) *exec.Cmd {
	cmd := exec.Command(c.path, args...)
	cmd.Env = append([]string{"PATH=/sbin:/bin:/usr/sbin:/usr/bin", "HOME=/"}, env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = j.null, j.null, j.null
	cmd.Dir = "/"
	return cmd
}
