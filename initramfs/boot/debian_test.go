package boot_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
	"devspool/hotplug/kerneltest/build"
	"devspool/initramfs/boot"
)

// debian is a Debian root of our own, in which its package tools run.
type debian struct {
	dir    string // the root
	kernel string // the directory of the package of Debian's kernel
	deb    string // our package
}

// enter is what is set up before a command runs in the root: namespaces with a /dev, a /run and
// a kernel of its own.
const enter = `root=$1 kernel=$2
shift 2
mount -t proc proc "$root/proc"
mount -t sysfs sys "$root/sys"
mount -t tmpfs dev "$root/dev"
mount -t tmpfs run "$root/run"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/urandom" c 1 9
mknod -m 660 "$root/dev/vda" b 7 200
ln -s /proc/self/fd "$root/dev/fd"
mkdir -p "$root/lib/modules"
mount --bind "$kernel/lib/modules" "$root/lib/modules"
mount --bind "$kernel/boot" "$root/boot"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive chroot "$root" sh -ec "$@"
`

// newDebian copies the root that the script fetch-debian keeps, and builds the package.
func newDebian(t *testing.T) *debian {
	t.Helper()
	for _, tool := range []string{"dpkg-buildpackage", "dh", "lintian", "mmdebstrap", "mkfs.ext4"} {
		need(t, tool)
	}
	source, err := build.Root()
	hotplugtest.Must(t, err)
	d := &debian{kernel: boot.DebianKernel(t)}
	start := time.Now()
	debs := t.TempDir()
	output(t, source, source+"/scripts/deb", debs)
	found, _ := filepath.Glob(debs + "/*.deb")
	if len(found) != 1 {
		t.Fatalf("packages: %q", found)
	}
	d.deb = found[0]
	t.Logf("the package is built: %v", time.Since(start).Round(time.Second))
	start = time.Now()
	d.dir = root(t, source)
	output(t, "/", "cp", d.deb, d.dir+"/devspool.deb")
	t.Logf("the root: %v", time.Since(start).Round(time.Second))
	changes, _ := filepath.Glob(debs + "/*.changes")
	t.Logf("lintian says: %s", output(t, debs, "lintian", "--no-cfg", "--allow-root", "--fail-on", "error,warning,info", "-EIL", "+pedantic", changes[0]))
	return d
}

// root copies the root that the script fetch-debian keeps.
func root(t *testing.T, source string) string {
	t.Helper()
	cached := strings.TrimSpace(output(t, source, source+"/initramfs/fetch-debian"))
	dir := t.TempDir() + "/root"
	output(t, "/", "cp", "-a", "--reflink=auto", cached, dir)
	return dir
}

// output runs a command, and returns what it says.
func output(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	text, err := cmd.Output()
	if err != nil {
		said := ""
		if e, ok := err.(*exec.ExitError); ok {
			said = string(e.Stderr)
		}
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, text, said)
	}
	return string(text)
}

// run runs a shell script in the root, and returns what it says.
func (d *debian) run(t *testing.T, script string) string {
	t.Helper()
	cmd := exec.Command("unshare", "-mpfn", "--kill-child", "--mount-proc", "sh", "-ec", enter, "sh", d.dir, d.kernel, script)
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\nsays\n%s", err, script, text)
	}
	return string(text)
}

// files lists what is in the root, but for what dpkg and its like write for themselves.
func (d *debian) files(t *testing.T) []string {
	t.Helper()
	return strings.Split(output(t, d.dir, "find", ".", "-xdev", "(", "-path", "./var/lib/dpkg", "-o", "-path", "./var/log", "-o", "-path", "./var/cache",
		"-o", "-path", "./proc", "-o", "-path", "./tmp", ")", "-prune", "-o", "-printf", "%p %m %l\n"), "\n")
}

// installed is run where the package was installed, and nothing was asked for.
const installed = `
systemctl is-enabled devspool.service | grep -x disabled
for name in udevadm modprobe systemd-udevd; do
	case $(readlink -f "$(command -v $name || echo /lib/systemd/$name)") in *devspool*) exit 1 ;; esac
done
systemctl is-enabled systemd-udevd.service | grep -x static
dpkg-query -W -f '${Conflicts}${Provides}${Replaces}' devspool | { ! grep .; }
ls /etc/rc?.d | { ! grep 'S..devspool'; }
dpkg-divert --list | { ! grep -E 'udev|modprobe|mdev'; }
systemd-analyze verify --man=no /lib/systemd/system/devspool.service
devspool --check
sed -i s/^MODULES=.*/MODULES=list/ /etc/initramfs-tools/initramfs.conf
mkinitramfs -o /quiet.img "$(ls /lib/modules)"
sed -i s/^MODULES=.*/MODULES=most/ /etc/initramfs-tools/initramfs.conf
lsinitramfs /quiet.img | { ! grep -E 'devspool|mdev.conf'; }
lsinitramfs /quiet.img | grep -q bin/udevadm
`

// sysvinit is what happens under sysvinit.
const sysvinit = `
update-rc.d devspool enable
ls /etc/rcS.d | grep 'S..devspool'
cp /bin/sleep /run/systemd-udevd
/run/systemd-udevd 1000 &
if /etc/init.d/devspool start; then exit 1; fi
kill $!
wait
/etc/init.d/devspool start
test -c /dev/zero
test -S /run/udev/control
/etc/init.d/devspool status
udevadm settle
/etc/init.d/devspool restart
/etc/init.d/devspool stop
if /etc/init.d/devspool status; then exit 1; fi
update-rc.d devspool disable
/etc/init.d/devspool start
`

// TestDebianPackage builds the package, has lintian look at it, installs it, runs it under
// sysvinit's scripts, removes and purges it, and finds nothing left.
//
// Then initramfs-tools' own images boot that root: from a disk, with the package's unit in
// udev's place under systemd; from LUKS; and with sysvinit in systemd's place. So all of contrib/debian/*,
// contrib/debian/source/* and contrib/initramfs-tools/* is in use.
func TestDebianPackage(t *testing.T) {
	d := newDebian(t)
	hotplugtest.Must(t, os.MkdirAll(d.dir+"/usr/lib/modules", 0o755)) // mkinitramfs makes it
	before := d.files(t)
	start := time.Now()
	d.run(t, "dpkg -i /devspool.deb\n"+installed+sysvinit+`
dpkg -r devspool
test ! -e /usr/sbin/devspool -a ! -e /usr/sbin/mdev
test -e /etc/init.d/devspool
dpkg -P devspool
rm /quiet.img
`)
	after := d.files(t)
	for _, file := range after {
		if !slices.Contains(before, file) && !strings.Contains(file, "/etc/rc") {
			t.Errorf("left: %s", file)
		}
	}
	t.Logf("installed, removed, purged: %v", time.Since(start).Round(time.Second))

	hotplugtest.WriteFile(t, d.dir+"/sbin/examine", examine)
	hotplugtest.Must(t, os.Chmod(d.dir+"/sbin/examine", 0o755))
	hotplugtest.WriteFile(t, d.dir+"/etc/systemd/system/examine.service", examineUnit)
	image, crypt := d.images(t)
	disk := d.disk(t)
	t.Run("systemd", func(t *testing.T) {
		d.boots(t, image, disk, "root=UUID="+boot.RootUUID+" rw systemd.unit=examine.service", nil)
	})
	t.Run("luks", func(t *testing.T) {
		locked := filepath.Dir(disk) + "/locked"
		// It measures this machine first, by its own CPU time, which the kernel may count as none.
		var said []byte
		if !kerneltest.Eventually(time.Minute, func() bool {
			var err error
			said, err = exec.Command(need(t, "qemu-img"), "convert", "-f", "raw", "-O", "luks", "--object", "secret,id=key,data=a secret",
				"-o", "key-secret=key,iter-time=10", disk, locked).CombinedOutput()
			return err == nil
		}) {
			t.Fatalf("qemu-img: %s", said)
		}
		d.boots(t, crypt, locked, "root=/dev/mapper/root_crypt rw init=/sbin/examine", map[string]string{"unlock disk": "a secret"})
	})
	t.Run("sysvinit", func(t *testing.T) {
		d.run(t, toSysvinit)
		d.boots(t, image, d.disk(t), "root=UUID="+boot.RootUUID+" rw", nil)
	})
}

// toSysvinit has sysvinit take systemd's place, and ours udev's, as the package's README.Debian
// says.
const toSysvinit = `dpkg -P systemd-sysv
dpkg -i /sysvinit/*.deb
update-rc.d udev disable
update-rc.d devspool enable
echo 'ex:2345:once:/sbin/examine' >>/etc/inittab
`

// images makes the images of two boots, from a disk as it is and from one that is encrypted.
func (d *debian) images(t *testing.T) (image, crypt string) {
	t.Helper()
	start := time.Now()
	d.run(t, `dpkg -i /devspool.deb
rm /devspool.deb
echo DEVSPOOL=yes >/etc/initramfs-tools/conf.d/devspool
mkinitramfs -o /image "$(ls /lib/modules)"
echo 'root_crypt /dev/vda none luks,initramfs' >/etc/crypttab
mkinitramfs -o /crypt "$(ls /lib/modules)"
rm /etc/crypttab
systemctl mask systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udev-trigger.service
systemctl enable devspool.service
`)
	dir := t.TempDir()
	output(t, "/", "mv", d.dir+"/image", d.dir+"/crypt", dir)
	t.Logf("two images: %v", time.Since(start).Round(time.Second))
	return dir + "/image", dir + "/crypt"
}

// disk makes the disk of the root.
func (d *debian) disk(t *testing.T) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk")
	output(t, "/", "truncate", "-s", "512M", disk)
	output(t, "/", need(t, "mkfs.ext4"), "-q", "-F", "-U", boot.RootUUID, "-L", "root", "-d", d.dir, disk)
	return disk
}

// examine runs in the booted root: as process 1, which is as if the system had no device
// manager yet, or under systemd, or under sysvinit.
const examine = `#!/bin/sh
exec >/dev/console 2>&1
fail() { echo "devspool-boot: wrong: $*"; }
mount | grep -q '^udev on /dev type devtmpfs' || fail "/dev: $(mount)"
test "$(readlink -f "/dev/disk/by-uuid/` + boot.RootUUID + `")" = "$(findmnt -no SOURCE / | xargs readlink -f)" || fail "the root: $(ls -l /dev/disk/by-uuid)"
if [ $$ = 1 ]; then
	ls /dev/mapper/root_crypt || fail "no mapping"
	/etc/init.d/devspool start || fail "the script of sysvinit"
fi
udevadm settle --timeout=60 || fail settle
devspool status
[ "$(stat -c '%G %a' /dev/vda)" = "disk 660" ] || fail "vda: $(stat -c '%G %a' /dev/vda)"
udevadm info -q property /dev/vda | grep -q ^ID_PATH= || fail "vda: $(udevadm info /dev/vda)"
lsmod | grep -q psmouse || fail "modules: $(lsmod)"
if [ -e /run/initctl ]; then
	/etc/init.d/devspool status || fail "the script's status"
	pidof init || fail "process 1 is $(cat /proc/1/comm)"
	! pidof systemd-udevd udevd || fail "udevd runs"
elif [ $$ != 1 ]; then
	systemctl is-active devspool.service || fail "the unit: $(systemctl status devspool.service)"
	! systemctl is-active systemd-udevd.service || fail "udevd runs"
	systemctl is-active dev-vda.device || fail "no unit of the disk"
	pid=$(systemctl show -p MainPID --value devspool.service)
	kill -9 "$pid"
	until new=$(systemctl show -p MainPID --value devspool.service) && [ "$new" != "$pid" ] && [ "$new" != 0 ] && systemctl -q is-active devspool.service; do
		sleep 0.2
	done
	udevadm trigger --settle /dev/vda || fail "trigger, after it was killed"
	systemctl stop devspool.service || fail "stop"
fi
echo devspool-boot: examined
sync
echo o >/proc/sysrq-trigger
sleep 100
`

const examineUnit = `[Unit]
Requires=sysinit.target
After=sysinit.target

[Service]
Type=oneshot
ExecStart=/sbin/examine
`

// boots boots the root, and has it examined.
func (d *debian) boots(t *testing.T, image, disk, params string, answers map[string]string) {
	t.Helper()
	console := boot.Boot(t, image, boot.Options{Kernel: boot.QEMU, Memory: 1024, Append: []string{params}, Answers: answers,
		Devices: []string{"-drive", fmt.Sprintf("file=%s,if=virtio,format=raw,snapshot=on", disk)}})
	if !strings.Contains(console, "devspool-boot: examined") || strings.Contains(console, "devspool-boot: wrong") {
		t.Errorf("the console:\n%s", console)
	} else if testing.Verbose() {
		t.Logf("the console:\n%s", console)
	}
}

// measured is process 1 of the root where the time is measured.
const measured = `#!/bin/sh
echo devspool-boot: root >/dev/kmsg
dmesg | grep -E 'Run /init as init|devspool-boot: root' >/dev/console
echo o >/proc/sysrq-trigger
sleep 100
`

// TestDebianTimeToRoot measures initramfs-tools' image with udev and with the program in its
// place: its size, and the time from the kernel's start of /init to that of the system's, with
// devices that the root does not need. It is no test of what is right, and so runs only where
// DEVSPOOL_BENCH is set (make bench-debian).
func TestDebianTimeToRoot(t *testing.T) {
	if os.Getenv("DEVSPOOL_BENCH") == "" {
		t.Skip("a measurement, for DEVSPOOL_BENCH=1")
	}
	d := newDebian(t)
	hotplugtest.WriteFile(t, d.dir+"/sbin/measured", measured)
	hotplugtest.Must(t, os.Chmod(d.dir+"/sbin/measured", 0o755))
	d.run(t, `dpkg -i /devspool.deb
mkinitramfs -o /udev.crypt "$(ls /lib/modules)"
echo DEVSPOOL=yes >/etc/initramfs-tools/conf.d/devspool
mkinitramfs -o /devspool.crypt "$(ls /lib/modules)"
dpkg -P cryptsetup-initramfs
mkinitramfs -o /devspool "$(ls /lib/modules)"
rm /etc/initramfs-tools/conf.d/devspool
mkinitramfs -o /udev "$(ls /lib/modules)"
`)
	dir, sizes := t.TempDir(), map[string]int64{}
	for _, name := range []string{"udev", "devspool", "udev.crypt", "devspool.crypt"} {
		st, err := os.Stat(d.dir + "/" + name)
		hotplugtest.Must(t, err)
		sizes[name] = st.Size()
		output(t, "/", "mv", d.dir+"/"+name, dir)
	}
	t.Logf("the image: %d bytes, with udev %d, ratio %.3f (target below 1); with cryptsetup in both %d and %d, ratio %.3f",
		sizes["devspool"], sizes["udev"], float64(sizes["devspool"])/float64(sizes["udev"]),
		sizes["devspool.crypt"], sizes["udev.crypt"], float64(sizes["devspool.crypt"])/float64(sizes["udev.crypt"]))
	disk := d.disk(t)
	best := map[string]float64{}
	for range 3 {
		for _, name := range []string{"udev", "devspool"} {
			console := boot.Boot(t, dir+"/"+name, boot.Options{Kernel: boot.QEMU, Memory: 1024, Append: []string{"root=UUID=" + boot.RootUUID + " rw init=/sbin/measured"},
				Devices: append([]string{"-drive", "file=" + disk + ",if=virtio,format=raw,snapshot=on"}, someDevices()...)})
			took := seconds(t, console, `\[ *([0-9.]+)\] devspool-boot: root`) - seconds(t, console, `\[ *([0-9.]+)\] Run /init`)
			t.Logf("%s: %.2f s", name, took)
			if was, there := best[name]; !there || took < was {
				best[name] = took
			}
		}
	}
	t.Logf("from /init to the system's: %.2f s, with udev %.2f s, ratio %.2f (target 0.70)", best["devspool"], best["udev"], best["devspool"]/best["udev"])
}
