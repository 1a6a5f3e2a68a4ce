package systemtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/sys"
)

// systemdUdevd is where initramfs-tools and others have udevd. In Debian it is a link to udevadm.
const systemdUdevd = "/lib/systemd/systemd-udevd"

// builders are the images' own calls, in their order: until the devices are there, in the midst,
// and at the end, when the real root takes over. hookdir and settle's file are as dracut has them.
var builders = []struct{ name, begin, middle, end string }{
	{"mkinitcpio", `
/lib/systemd/systemd-udevd --daemon --resolve-names=never
udevadm trigger --action=add --type=subsystems
udevadm trigger --action=add --type=devices
udevadm settle`, `
udevadm settle --timeout=10
udevadm info --query=property --name=/dev/zero
udevadm info -q all -p /sys/class/net/lo`, `
udevadm control --exit
udevadm info --cleanup-db`},

	{"dracut", `
export UDEVRULESD=/run/udev/rules.d
mkdir -p -m 0755 /run/udev $UDEVRULESD
[ "$(udevadm --version)" -ge 143 ]
UDEV_LOG=info /lib/systemd/systemd-udevd --daemon --resolve-names=never
udevadm control --property=hookdir=/run/hooks
echo 'SUBSYSTEM=="block"' >$UDEVRULESD/99-root.rules
udevadm control --reload
udevadm trigger --type=subsystems --action=add
udevadm trigger --type=devices --action=add
mkdir -p /run/hooks/initqueue
udevadm settle --exit-if-exists=/run/hooks/initqueue/work
until udevadm settle --timeout=0; do :; done`, `
udevadm control --log-priority=info
udevadm control --log-level=err
udevadm trigger --action=change --subsystem-match=mem --attr-match=dev=1:5
udevadm trigger --subsystem-match=mem --property-match=MINOR=3
udevadm trigger --action=add --subsystem-match=net --sysname-match=lo
udevadm settle --timeout=30 --exit-if-exists=/run/hooks/initqueue/work
[ "$(udevadm info --query=path --name=/dev/zero)" = /devices/virtual/mem/zero ]
[ "$(udevadm info --query=name --path=/sys/devices/virtual/mem/zero)" = zero ]
udevadm info --query=symlink --name=/dev/zero
udevadm info --query=all --name=/dev/zero | grep -q '^N: zero$'
udevadm info --query=property --path=/sys/class/net/lo | grep -q ^INTERFACE=lo$
udevadm info --export-db | grep -q '^P: /devices/virtual/mem/zero$'
udevadm control --stop-exec-queue
udevadm control --start-exec-queue
cnt=0
until udevadm settle --timeout=0; do udevadm settle; cnt=$((cnt+1)); [ $cnt -lt 10 ]; done`, `
udevadm control --exit
udevadm info --cleanup-db`},

	{"initramfs-tools", `
[ ! -e /usr/share/initramfs-tools/scripts/init-top/udev ] || exec /usr/share/initramfs-tools/scripts/init-top/udev
SYSTEMD_LOG_LEVEL=info /lib/systemd/systemd-udevd --daemon --resolve-names=never
udevadm trigger --type=subsystems --action=add
udevadm trigger --type=devices --action=add
udevadm settle || true`, `
udevadm settle --timeout=10
udevadm settle`, `
udevadm control --exit`},

	{"OE-core", `
mkdir -p /run
udevd --daemon
udevadm trigger --action=add
udevadm settle`, `
udevadm control --env=STARTUP=1
udevadm trigger --type=devices --action=change --verbose --dry-run | grep -q /mem/zero
udevadm control --env=STARTUP=`, `
udevadm control -e
udevadm info --cleanup-db`},

	{"Talos", `
/lib/systemd/systemd-udevd --resolve-names=never >/dev/null 2>&1 &
udevadm control --reload --timeout=30 || until udevadm control --reload; do sleep 0.1; done
udevadm trigger --type=devices --action=add
udevadm trigger --type=subsystems --action=add
udevadm settle --timeout=50`, `
udevadm trigger --type=devices --action=change --subsystem-match=mem --settle --uuid
udevadm settle --timeout=5`, `
udevadm control --exit
udevadm info --cleanup-db`},
}

// The builders of images make their own calls of udevadm and udevd: by the program alone, under
// the names that they know, and by systemd's udevadm with the program as udevd.
func TestImageBuilders(t *testing.T) {
	udevadm := kerneltest.Need(t, "udevadm")
	if !jailed(t) {
		return
	}
	for _, b := range builders {
		for _, client := range []string{"ours", "systemd's"} {
			t.Run(b.name+"/"+client, func(t *testing.T) { replay(t, client == "ours", udevadm, b.begin, b.middle, b.end) })
		}
	}
}

// replay runs the calls, and looks after each part at what it has brought about.
func replay(t *testing.T, whole bool, udevadm, begin, middle, end string) {
	b := newUdevBoard(t, "")
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		kerneltest.Cannot(t, "unshare: %v", err)
	}
	bin := filepath.Join(b.dir, "bin")
	names := map[string]string{"udevd": b.program, "udevadm": b.program}
	if !whole {
		names["udevadm"] = filepath.Join(b.dir, "theirs")
		text, err := os.ReadFile(udevadm)
		if err != nil || os.WriteFile(names["udevadm"], text, 0o755) != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range names {
		if err := os.Symlink(to, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	// The place of udevd itself, and with Debian's link that of udevadm.
	if err := unix.Mount(b.program, systemdUdevd, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	run := func(part, script string) {
		t.Helper()
		cmd := exec.Command("sh", "-ec", script)
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "SYSTEMD_IGNORE_CHROOT=1", "log_level=info")
		if r := b.finish(cmd); r.code != 0 || strings.Contains(r.stderr, "rror") {
			t.Fatalf("%s ends with %d:\n%s%s", part, r.code, r.stdout, r.stderr)
		}
	}
	run("the begin", begin)
	for _, id := range []string{"c1:3", "c1:5", "n1"} {
		if _, err := os.Stat(runUdev + "/data/" + id); err != nil {
			t.Errorf("after the begin: %v", err)
		}
	}
	if _, err := os.Stat("/dev/zero"); err != nil {
		t.Error(err)
	}
	run("what follows", middle)
	run("the end", end)
	kerneltest.Until(t, patience, "the end of udevd", func() bool {
		_, err := os.Stat(runUdev + "/control")
		return err != nil
	})
	if left := sys.ReadDir(runUdev + "/data"); strings.Contains(end, "--cleanup-db") && len(left) > 0 {
		t.Errorf("info --cleanup-db leaves %q", left)
	}
}
