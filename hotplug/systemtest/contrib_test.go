package systemtest

import (
	"bufio"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
	"devspool/hotplug/kerneltest/build"
)

// contrib returns the path of a file below contrib.
func contrib(name string) string { return "../../contrib/" + name }

// TestContribNamed shows that each file below contrib is named by a test, by its path, which can
// have a *, or stands in the table of contrib/README.md as untested.
func TestContribNamed(t *testing.T) {
	var named strings.Builder
	hotplugtest.Must(t, filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && (d.Name() == ".git" || d.Name() == "dist") {
			return fs.SkipDir
		}
		if err == nil && strings.HasSuffix(path, "_test.go") {
			text, err := os.ReadFile(path)
			named.Write(text)
			return err
		}
		return err
	}))
	readme, err := os.ReadFile(contrib("README.md"))
	hotplugtest.Must(t, err)
	patterns := regexp.MustCompile(`[\w.-]+/[\w./*-]+`).FindAllString(named.String(), -1)
	isNamed := func(name string) bool {
		return slices.ContainsFunc(patterns, func(pattern string) bool {
			if _, below, is := strings.Cut(pattern, "contrib/"); is {
				pattern = below
			}
			matches, _ := filepath.Match(pattern, name)
			return matches
		})
	}
	for _, name := range files(t, contrib("")) {
		isUntested := regexp.MustCompile(`(?m)^\| .*` + "`" + regexp.QuoteMeta(name) + "`" + `.*\| untested`).Match(readme)
		if name != "README.md" && !isNamed(name) && !isUntested {
			t.Errorf("contrib/%s: no test names it, and the table of contrib/README.md does not say that it is untested", name)
		}
	}
}

// TestContribSyntax has a shell, and shellcheck, read what is written for one.
func TestContribSyntax(t *testing.T) {
	for name, shell := range map[string]string{
		"mkinitcpio/install/devspool": "bash", "dracut/96devspool/module-setup.sh": "bash",
		"mkinitcpio/hooks/devspool": "busybox", "buildroot/package/devspool/S10devspool": "busybox", "procd/devspool": "busybox",
		"openrc/devspool": "sh", "alpine/APKBUILD": "sh", "runit/devspool/run": "sh", "runit/devspool/check": "sh", "dinit/dinit-devd": "sh",
	} {
		parse, dialect := []string{shell, "-n"}, shell
		if shell == "busybox" {
			parse, dialect = []string{"busybox", "sh", "-n"}, "dash"
		}
		kerneltest.Need(t, parse[0])
		if out, err := exec.Command(parse[0], append(parse[1:], contrib(name))...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		// What includes these files reads and sets variables that are not used here, or not set.
		if out, err := exec.Command(kerneltest.Need(t, "shellcheck"), "-s", dialect, "-e", "SC2034,SC2154", contrib(name)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	if out, err := exec.Command(kerneltest.Need(t, "execlineb"), "-Pc", strings.Replace(text(t, "s6/devspool/run"), "devspool -f -D 3", "echo -f -D 3", 1)).CombinedOutput(); string(out) != "-f -D 3\n" {
		t.Errorf("s6/devspool/run: %v\n%s", err, out)
	}
}

// text returns a file below contrib.
func text(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(contrib(name))
	hotplugtest.Must(t, err)
	return string(text)
}

// root is a root directory: the machine's own with the packages of scripts/fetch-supervisors, with
// the program in it, and with /dev, /run and /tmp of its own.
type root struct {
	*board
	path string
}

// newRoot makes a root in which places have the files below contrib that they are given.
func newRoot(t *testing.T, places map[string]string) *root {
	t.Helper()
	kerneltest.Need(t, "busybox")
	cache := os.Getenv("DEVSPOOL_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		hotplugtest.Must(t, err)
		cache = dir + "/devspool"
	}
	b := newBoard(t, "")
	b.tree.Dir = "/sys"
	r := &root{b, b.dir + "/root"}
	upper := b.dir + "/upper"
	if _, err := os.Stat(cache + "/supervisors"); err != nil {
		kerneltest.Cannot(t, "scripts/fetch-supervisors did not unpack its packages: %v", err)
	}
	kerneltest.Sh(t, "mkdir "+r.path+" "+b.dir+"/work && cp -a "+cache+"/supervisors "+upper)
	if err := unix.Mount("overlay", r.path, "overlay", 0, "lowerdir=/,upperdir="+upper+",workdir="+b.dir+"/work"); err != nil {
		kerneltest.Cannot(t, "overlay: %v", err)
	}
	for _, dir := range []string{"/proc", "/sys", "/dev", "/run", "/tmp", "/service", "/etc/mdev.conf.d", "/usr/lib/mdev.conf.d"} {
		hotplugtest.Must(t, os.MkdirAll(r.path+dir, 0o755))
	}
	hotplugtest.Must(t, errors.Join(unix.Mount("/proc", r.path+"/proc", "", unix.MS_BIND, ""), unix.Mount("/sys", r.path+"/sys", "", unix.MS_BIND|unix.MS_REC, "")))
	for _, dir := range []string{"/dev", "/run", "/tmp"} {
		kerneltest.MountTmpfs(t, r.path+dir)
	}
	hotplugtest.Must(t, kerneltest.MakeBaseNodes(r.path+"/dev"))
	t.Cleanup(func() { kerneltest.Sh(t, "umount -l "+r.path) })
	kerneltest.Sh(t, "cp --remove-destination "+b.program+" "+r.path+"/usr/sbin/devspool")
	b.dev = r.path + "/dev"
	for place, name := range places {
		kerneltest.Sh(t, "mkdir -p $(dirname "+r.path+place+") && cp -r --remove-destination "+contrib(name)+" "+r.path+place)
	}
	return r
}

// cmd returns a command in the root.
func (r *root) cmd(args ...string) *exec.Cmd {
	cmd := exec.Command("/usr/bin/env", append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, args...)...)
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Chroot: r.path}
	return cmd
}

// sh runs a line of shell in the root, which must end well, and returns what it says.
func (r *root) sh(line string) string {
	r.Helper()
	out, err := r.cmd("sh", "-c", line).CombinedOutput()
	if err != nil {
		r.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// start starts a supervisor, which is killed after the test.
func (r *root) start(cmd *exec.Cmd) *transcript {
	r.Helper()
	said := new(transcript)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = said, said, time.Second
	hotplugtest.Must(r, cmd.Start())
	r.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return said
}

// loop returns the process of the loop that runs, or 0.
func (r *root) loop() int {
	all, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, path := range all {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if exe, _ := os.Readlink(path); strings.HasSuffix(exe, "/usr/sbin/devspool") && r.cmd("devspool", "ctl", "ping").Run() == nil {
			return pid
		}
	}
	return 0
}

// reap buries the orphans of that name, whose parent this test is as the first process of its namespace.
func (r *root) reap(name string, stop <-chan bool) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(50 * time.Millisecond):
		}
		all, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, path := range all {
			stat, _ := os.ReadFile(path)
			if pid, rest, _ := strings.Cut(string(stat), " ("); strings.HasPrefix(rest, name+") Z 1 ") {
				orphan, _ := strconv.Atoi(pid)
				_, _ = unix.Wait4(orphan, nil, 0, nil)
			}
		}
	}
}

// survives kills the loop that runs, and fails unless its supervisor starts another one, and that one
// has made the node of a disk that came meanwhile.
func (r *root) survives(said func() string) {
	r.Helper()
	runs := func(what string, other int) (pid int) {
		r.Helper()
		if !kerneltest.Eventually(2*patience, func() bool { pid = r.loop(); return pid != 0 && pid != other }) {
			r.Fatalf("%s does not run; the supervisor says\n%s", what, said())
		}
		return pid
	}
	first := runs("the loop", 0)
	if _, err := os.Stat(r.dev + "/full"); err != nil {
		r.Error("nothing is in /dev")
	}
	hotplugtest.Must(r, unix.Kill(first, unix.SIGKILL))
	disk := r.newLoopDisk()
	runs("another loop", first)
	kerneltest.Until(r, patience, "a disk that came meanwhile", func() bool { _, err := os.Stat(r.dev + "/" + disk.name); return err == nil })
}

// TestContribRunit has runit start the loop, and start it anew.
func TestContribRunit(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	r := newRoot(t, map[string]string{"/service/devspool": "runit/devspool"})
	said := r.start(r.cmd("runsvdir", "-P", "/service"))
	kerneltest.Until(t, 2*patience, "sv to find runsv", func() bool { return r.cmd("sv", "status", "/service/devspool").Run() == nil })
	r.sh("sv -w 30 start /service/devspool") // and by runit/devspool/check it is ready
	r.survives(said.String)
	if text := r.sh("sv -w 30 stop /service/devspool"); !strings.Contains(text, "ok: down") {
		t.Errorf("sv stop says %q", text)
	}
}

// TestContribS6 has s6 start the loop, wait until it is ready, and start it anew.
func TestContribS6(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	r := newRoot(t, map[string]string{"/service/devspool": "s6/devspool"})
	if fd, kind := text(t, "s6/devspool/notification-fd"), text(t, "s6/devspool/type"); fd != "3\n" || kind != "longrun\n" {
		t.Errorf("descriptor %q; to s6-rc it is a %q", fd, kind)
	}
	said := r.start(r.cmd("s6-svscan", "/service"))
	kerneltest.Until(t, 2*patience, "s6-supervise", func() bool { return r.cmd("s6-svok", "/service/devspool").Run() == nil })
	r.sh("s6-svwait -U -t 30000 /service/devspool")
	if text := r.sh("s6-svstat -o up,ready /service/devspool"); text != "true true\n" {
		t.Errorf("s6-svstat says %q", text)
	}
	r.survives(said.String)
	r.sh("s6-svwait -U -t 30000 /service/devspool && s6-svc -wD -T 30000 -d /service/devspool")
}

// TestContribOpenRC has OpenRC start the loop where services need dev, start it anew, read its config
// anew, and stop it.
func TestContribOpenRC(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	r := newRoot(t, map[string]string{"/etc/init.d/devspool": "openrc/devspool"})
	// What a system with OpenRC has: the services before ours, and one that needs it.
	r.sh(`rm -f $(ls /etc/init.d/* | grep -v /devspool)
for name in sysfs dev-mount; do printf '#!/sbin/openrc-run\nstart() { :; }\n' >/etc/init.d/$name; done
printf '#!/sbin/openrc-run\ndepend() { need dev; }\nstart() { test -e /dev/full; }\n' >/etc/init.d/user
chmod 755 /etc/init.d/*
for dir in starting started stopping inactive wasinactive failed hotplugged daemons options exclusive scheduled tmp; do mkdir -p /run/openrc/$dir; done
touch /run/openrc/softlevel
echo 'rc_sys=""' >>/etc/rc.conf # this machine may be a container`)
	stop := make(chan bool)
	defer close(stop)
	go r.reap("supervise-daemo", stop)
	r.sh("rc-service user start")
	if text := r.sh("rc-service devspool status"); !strings.Contains(text, "started") {
		t.Errorf("status: %s", text)
	}
	r.survives(func() string { return r.sh("rc-service devspool status") })
	r.sh("rc-service devspool reload")
	r.sh("rc-service user stop && rc-service devspool stop")
	if r.loop() != 0 {
		t.Error("it runs on")
	}
}

// TestContribBusyBox has BusyBox init, as the first process, do what contrib/busybox/inittab says.
func TestContribBusyBox(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	r := newRoot(t, map[string]string{"/etc/inittab": "busybox/inittab"})
	// A link there leads to the machine's own systemd, which is not to be written over.
	kerneltest.Sh(t, "cp --remove-destination $(command -v busybox) "+r.path+"/usr/sbin/init")
	cmd := r.cmd("init")
	cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWPID
	r.survives(r.start(cmd).String)
}

// TestContribSystemd has systemd verify the unit, and starts what that says as systemd does, which is
// told when it is ready.
func TestContribSystemd(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	r := newRoot(t, map[string]string{"/etc/systemd/system/devspool.service": "systemd/devspool.service"})
	if text := r.sh(kerneltest.Need(t, "systemd-analyze") + " verify --man=no devspool.service 2>&1 || true"); strings.Contains(text, "devspool") {
		t.Errorf("systemd-analyze verify: %s", text)
	}
	unit := text(t, "systemd/devspool.service")
	_, command, _ := strings.Cut(unit, "\nExecStart=")
	command, _, _ = strings.Cut(command, "\n")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: r.path + "/run/notify", Net: "unixgram"})
	hotplugtest.Must(t, err)
	defer socket.Close()
	cmd := r.cmd(append([]string{"NOTIFY_SOCKET=/run/notify"}, strings.Fields(command)...)...)
	said := r.start(cmd)
	buf := make([]byte, 4096)
	told := ""
	for deadline := time.Now().Add(2 * patience); !strings.HasPrefix(told, "READY=1\n"); {
		_ = socket.SetReadDeadline(deadline)
		n, err := socket.Read(buf)
		if told = string(buf[:n]); err != nil {
			t.Fatalf("not ready: %v\n%s", err, said)
		}
	}
	_, reload, _ := strings.Cut(unit, "\nExecReload=")
	reload, _, _ = strings.Cut(reload, "\n")
	r.sh(reload)
	r.sh("udevadm settle --timeout=20") // by --udev
}

// TestContribDinit starts the command of the service for dinit as dinit does: the descriptor of its
// ready-notification is told of that. The helper of dinit-chimera starts, settles, triggers and stops.
func TestContribDinit(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	r := newRoot(t, map[string]string{"/usr/libexec/dinit-devd": "dinit/dinit-devd"})
	settings := map[string]string{}
	for line := range strings.Lines(text(t, "dinit/devspool")) {
		if key, value, is := strings.Cut(strings.TrimSpace(line), " = "); is && line[0] != '#' {
			settings[key] = value
		}
	}
	ready, write, err := os.Pipe()
	hotplugtest.Must(t, err)
	cmd := r.cmd(strings.Fields(settings["command"])...)
	cmd.ExtraFiles = []*os.File{write}
	said := r.start(cmd)
	write.Close()
	if settings["type"] != "process" || settings["ready-notification"] != "pipefd:3" {
		t.Errorf("settings: %q", settings)
	}
	_ = ready.SetReadDeadline(time.Now().Add(2 * patience))
	if line, err := bufio.NewReader(ready).ReadString('\n'); line != "\n" {
		t.Errorf("at its descriptor it says %q, %v\n%s", line, err, said)
	}
	r.sh("/usr/libexec/dinit-devd stop && /usr/libexec/dinit-devd start && /usr/libexec/dinit-devd settle && /usr/libexec/dinit-devd trigger")
	if r.loop() == 0 {
		t.Error("dinit-devd start started nothing")
	}
	r.sh("/usr/libexec/dinit-devd stop")
}

// TestContribScripts runs the functions of scripts that others include, as these do: procd's with
// functions that print what they are given, mkinitcpio's hook, and the script for Buildroot's init.
func TestContribScripts(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	r := newRoot(t, map[string]string{
		"/procd": "procd/devspool", "/hook": "mkinitcpio/hooks/devspool", "/build": "mkinitcpio/install/devspool",
		"/usr/lib/mdev.conf.d/10-modules.conf": "conf/10-modules.conf",
		"/etc/init.d/S10devspool":              "buildroot/package/devspool/S10devspool",
	})
	want := "command /sbin/devspool -f\nrespawn 3600 1 0\nstderr 1\n"
	if text := r.sh(`procd_open_instance() { :; }; procd_close_instance() { :; }; procd_set_param() { echo "$@"; }; . /procd; start_service`); text != want {
		t.Errorf("procd: %q", text)
	}
	want = "binary devspool\nsymlink /usr/bin/udevadm /usr/sbin/devspool\nfile /usr/lib/mdev.conf.d/10-modules.conf\nrunscript\n"
	build := `add_binary() { type -P "$1" >/dev/null && echo binary "$@"; }; add_symlink() { echo symlink "$@"; }; add_file() { test -f "$1" && echo file "$@"; }; add_runscript() { echo runscript; }`
	if text := r.sh(`bash -ec '` + build + `; . /build; help >/dev/null; build'`); text != want {
		t.Errorf("mkinitcpio: %q", text)
	}
	r.sh(`. /hook; run_earlyhook; test "$udevd_running" = 1 && run_hook && test -e /dev/full`)
	if r.loop() == 0 {
		t.Error("mkinitcpio: the hook started nothing")
	}
	r.sh(". /hook; run_cleanuphook; rm /dev/full; cd /etc/init.d; ./S10devspool start && test -e /dev/full && ./S10devspool reload && ./S10devspool restart && devspool ctl ping && ./S10devspool stop")
	if r.cmd("/etc/init.d/S10devspool", "stop").Run() == nil {
		t.Error("S10devspool stops what does not run")
	}
}

// TestContribDracut has dracut make an image in which devspool is what it starts as systemd-udevd,
// and udevadm.
func TestContribDracut(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	r := newRoot(t, map[string]string{
		"/usr/lib/dracut/modules.d/96devspool": "dracut/96devspool", // module-setup.sh
		"/usr/lib/mdev.conf.d/10-modules.conf": "conf/10-modules.conf",
	})
	out, err := r.cmd("sh", "-c", `ln -s /proc/self/fd /dev/fd; mkdir -p /var/tmp && dracut --force --no-kernel --no-hostonly --no-compress --modules "base devspool" --kver 1.2.3 /tmp/image && cd /tmp && mkdir x && cd x && cpio -id --quiet <../image`).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, path := range []string{"/usr/lib/systemd/systemd-udevd", "/usr/bin/udevadm"} {
		if link, err := os.Readlink(r.path + "/tmp/x" + path); link != "/usr/sbin/devspool" {
			t.Errorf("%s leads to %q, %v", path, link, err)
		}
	}
	// As dracut's init calls them, in the root of the image.
	cmd := r.cmd("sh", "-c", `udevadm settle && test -e /dev/full && udevadm control --exit`)
	cmd.SysProcAttr.Chroot += "/tmp/x"
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		hotplugtest.Must(t, os.MkdirAll(cmd.SysProcAttr.Chroot+dir, 0o755))
		hotplugtest.Must(t, unix.Mount(r.path+dir, cmd.SysProcAttr.Chroot+dir, "", unix.MS_BIND|unix.MS_REC, ""))
	}
	cmd.Args[len(cmd.Args)-1] = "/usr/lib/systemd/systemd-udevd --daemon --resolve-names=never && udevadm trigger --type=devices --action=add && " + cmd.Args[len(cmd.Args)-1]
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", "PATH=/usr/sbin:/usr/bin; " + cmd.Args[len(cmd.Args)-1]}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in the image: %v\n%s", err, out)
	}
}

// TestContribFinit looks at the one line for finit: this program gives what notify:s6 asks for.
func TestContribFinit(t *testing.T) {
	line := text(t, "finit/devspool.conf")
	if !strings.Contains(line, "\nservice [S12345789] name:devspool notify:s6 restart:-1 /sbin/devspool -f -D %n -- ") {
		t.Errorf("finit/devspool.conf: %s", line)
	}
}

// sources copies what a package is built from.
func sources(t *testing.T) string {
	t.Helper()
	top, err := build.Root()
	hotplugtest.Must(t, err)
	dir := t.TempDir()
	kerneltest.Sh(t, "cd "+top+" && tar -c --exclude=./.git --exclude=./dist --exclude=./devspool . | tar -x -C "+dir)
	return dir
}

// builds runs a script of shell, with its variables, in a directory, and inspects the program that it
// builds and installs.
func builds(t *testing.T, dir, program, script string, vars ...string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), append([]string{"MAKEFLAGS=", "MAKELEVEL="}, vars...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := build.Inspect(program); err != nil {
		t.Error(err)
	}
}

// TestContribAlpine builds and packages by contrib/alpine/APKBUILD, with the flags of abuild. What it
// gives mkinitfs are paths of the package.
func TestContribAlpine(t *testing.T) {
	t.Parallel()
	to := t.TempDir()
	builds(t, sources(t), to+"/sbin/devspool", `startdir=$PWD pkgdir=$TO; . contrib/alpine/APKBUILD; build; package`,
		"TO="+to, "GOFLAGS=-buildmode=pie -modcacherw -trimpath", "CFLAGS=-Os", "LDFLAGS=-Wl,--as-needed")
	for line := range strings.Lines(text(t, "mkinitfs/devspool.files")) {
		if _, err := os.Stat(to + strings.TrimSpace(line)); err != nil {
			t.Error(err)
		}
	}
	for _, path := range []string{"/etc/init.d/devspool", "/etc/mkinitfs/features.d/devspool.files", "/usr/share/man/man8/devspool.8"} {
		if _, err := os.Stat(to + path); err != nil {
			t.Error(err)
		}
	}
}

// TestContribBuildroot builds by contrib/buildroot/package/devspool/devspool.mk for another machine,
// with vendored modules, as the infrastructure for Go does. The sum in devspool.hash is that of LICENSE.
func TestContribBuildroot(t *testing.T) {
	t.Parallel()
	dir, to := sources(t), t.TempDir()
	hotplugtest.WriteFile(t, dir+"/infrastructure.mk", `INSTALL = install
TARGET_DIR = $(TO)
DEVSPOOL_PKGDIR = contrib/buildroot/package/devspool
HOST_GO_TARGET_ENV = GO111MODULE=on GOFLAGS=-mod=vendor GOPROXY=off GOARCH=arm GOARM=7 CGO_ENABLED=1
include contrib/buildroot/package/devspool/devspool.mk
all:
	$(DEVSPOOL_BUILD_CMDS)
	$(DEVSPOOL_INSTALL_TARGET_CMDS)
	$(DEVSPOOL_INSTALL_INIT_SYSV)
.PHONY: all
`)
	builds(t, dir, to+"/sbin/devspool", "go mod vendor; make -f infrastructure.mk all @D=.", "TO="+to)
	if _, err := os.Stat(to + "/etc/init.d/S10devspool"); err != nil {
		t.Error(err)
	}
	sum := strings.Fields(kerneltest.Sh(t, "sha256sum ../../LICENSE"))[0]
	if !strings.Contains(text(t, "buildroot/package/devspool/devspool.hash"), "\nsha256  "+sum+"  LICENSE\n") {
		t.Errorf("devspool.hash does not say %s", sum)
	}
	if menu := text(t, "buildroot/package/devspool/Config.in"); !strings.HasPrefix(menu, "config BR2_PACKAGE_DEVSPOOL\n\tbool \"devspool\"\n") {
		t.Errorf("Config.in: %s", menu)
	}
}

// TestContribYocto builds with the variables of contrib/yocto/devspool.bb in go.bbclass's command.
func TestContribYocto(t *testing.T) {
	t.Parallel()
	recipe := text(t, "yocto/devspool.bb")
	value := func(name string) string {
		found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` = "(.*)"$`).FindStringSubmatch(recipe)
		if found == nil {
			t.Fatalf("no %s in the recipe", name)
		}
		return strings.ReplaceAll(found[1], "${PV}", "0")
	}
	flags := strings.ReplaceAll("-v -trimpath -buildmode=pie", value("GOBUILDFLAGS:remove"), "")
	dir := sources(t)
	builds(t, dir, dir+"/out", `go build `+value("GO_LINKSHARED")+` `+flags+` -ldflags="-I /lib/ld-linux.so.2 $EXTRA -extldflags '-Wl,-O1'" -o out .`,
		"EXTRA="+value("GO_EXTRA_LDFLAGS"), "CGO_ENABLED="+value("CGO_ENABLED"))
	if sum := strings.Fields(kerneltest.Sh(t, "md5sum ../../LICENSE"))[0]; !strings.Contains(recipe, ";md5="+sum+`"`) {
		t.Errorf("the recipe does not say %s", sum)
	}
}
