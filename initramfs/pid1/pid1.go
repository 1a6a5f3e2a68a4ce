// Package pid1 is the first process of an initramfs: it mounts what all programs expect, has
// the loop set up the devices and load their modules, finds the root file system that the
// kernel's command line names, and gives the machine over to the init that lies there.
//
// It never writes to a disk, and knows no name of a device: the loop does, and what unlocks
// or assembles disks are their own tools, where the image has them.
//
// # A boot
//
//	prepare  mount /proc, /sys, /dev, /run; read the command line; start the loop
//	find     wait until the root is there; meanwhile unlock and assemble disks
//	mount    mount the root at /sysroot
//	leave    move the mounts there, remove the initramfs, execute the init
//
// The loop is a process of its own, which outlives this program. It is asked by its control socket,
// as by any client. What fails gives a person a shell, and when that ends find begins anew.
package pid1

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"devspool/conf"
	"devspool/hotplug/control"
	"devspool/hotplug/modules"
	"devspool/hotplug/sys"
	"devspool/nodes"
)

// newRoot is where the root file system is mounted until it becomes the root.
const newRoot = "/sysroot"

// path has the directories of the image's programs.
const path = "PATH=/sbin:/usr/sbin:/bin:/usr/bin"

// boot is one boot.
type boot struct {
	settings
	args    []string        // of this process: they are the next init's too
	environ []string        // of this process, with path; all that is started gets it
	dev     *nodes.Dir      // /dev
	loop    int             // the loop's process
	again   bool            // that it was started again in this attempt
	node    string          // of the root, or the path of a link to it
	tools   []tool          // that may bring the root about
	started map[string]bool // breakpoints that were passed
}

// Run is /init. It returns only where this is not the first process: process 1 must not end, or the
// kernel panics. After a failure and the shell it goes through the boot again, from the search for
// the root on.
func Run(args, environ []string) int {
	if unix.Getpid() != 1 {
		say("init is for the first process of an initramfs; devspool --help shows what else there is")
		return 100
	}
	b := &boot{args: args, environ: append(environ, path), started: map[string]bool{}}
	err := b.prepare()
	for {
		if err == nil {
			err = b.run()
		}
		// prepare is not tried again. What it has not done a person has to do in the shell.
		b.fail(err)
		err, b.again = nil, false
	}
}

// prepare does what every attempt to boot needs.
func (b *boot) prepare() (err error) {
	err = mountAll()
	// Also where that failed, so that it can be said.
	if failed := openConsole(); err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	line, err := sys.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	b.parse(line)
	b.pause("start")
	// The default config loads no modules, which here is what the loop is for. Where there are none of this
	// kernel, a modprobe for each device could only fail.
	if !sys.Exists(unix.AT_FDCWD, config) && hasModules() {
		writeConfig()
	}
	// The control socket is found by it: see ask.
	if b.dev, err = nodes.Open("/dev"); err != nil {
		return err
	}
	b.tools = b.findTools()
	return b.startLoop()
}

// The config, and the rule that it gets where the image has none.
const (
	config      = "/etc/mdev.conf"
	loadModules = "\n$MODALIAS=.*\t0:0\t660 @modprobe -b -q \"$MODALIAS\"\n"
)

// hasModules reports whether the image has modules of this kernel, whatever modprobe.d says of them.
func hasModules() bool {
	tree, err := modules.OpenTree(modules.Source{Config: []string{}})
	tree.Forget()
	return err == nil
}

// startLoop starts the loop as a process of its own, which outlives this program.
func (b *boot) startLoop() (err error) {
	args := []string{"devspool", "-f"}
	// What the root does not need waits until it is mounted: that may need modules too, and the
	// processors.
	// What is wrong about the root find says; the loop need not say it too.
	_, wrong := control.Node(b.dev, b.ref())
	if first := b.first(); first != "" && wrong == nil {
		args = append(args, "--first", first+" "+goOn)
	}
	if b.loopVerbose {
		args = append(args, "-v")
	}
	// By /proc/self/exe: the image may have the binary under any path.
	b.loop, err = syscall.ForkExec("/proc/self/exe", args, &syscall.ProcAttr{Env: b.environ, Files: []uintptr{0, 1, 2}})
	if err != nil {
		return sys.PathError("exec", "/proc/self/exe", err)
	}
	return nil
}

// goOn is a file that the loop waits for besides the root, before it goes on with the rest.
const goOn = "/dev/" + nodes.Private + "/go-on"

// restMayCome has the loop go on with what the root does not need. A person at the console
// needs it: the modules of keyboards are among that.
func (b *boot) restMayCome() {
	_ = unix.Mknod(goOn, unix.S_IFREG|0o600, 0) // where it fails the loop goes on a second after the last event
}

// ask makes a request of the loop, as soon as it listens.
// hear gets each line of the answer. The error is one of control.Ask, or says that the loop has ended.
func (b *boot) ask(words []string, hear func(line string)) error {
	for {
		err := control.Ask(b.dev, words, hear)
		// The leader of the kernel's helpers may answer before the loop takes its place, and declines.
		if err == nil || !errors.Is(err, control.ErrNoLoop) && !errors.Is(err, control.ErrUnanswered) && !errors.Is(err, control.ErrDeclined) {
			return err
		}
		// Without the loop no device comes, and nothing would ever answer.
		// Where spawn has waited for it already this is -1 (ECHILD): it has ended too.
		if pid, _ := unix.Wait4(b.loop, nil, unix.WNOHANG, nil); pid != 0 {
			// Another one scans, and so knows what this one knew. In vain it is where /dev was moved already.
			if b.again || !sys.Exists(unix.AT_FDCWD, "/dev/"+nodes.Private) {
				return errors.New("the loop has ended, and its last words are above")
			}
			b.again = true
			say("the loop has ended, and is started again")
			if err = b.startLoop(); err != nil {
				return err
			}
		}
		time.Sleep(sys.PollInterval)
	}
}

// run boots. It returns only where that fails.
func (b *boot) run() error {
	if b.root == "" {
		return errors.New("the kernel's command line has no root=; root=UUID=X names the root file system")
	}
	if err := b.find(); err != nil {
		return err
	}
	b.tell("root is there")
	b.pause("mount")
	if err := b.mount(); err != nil {
		return err
	}
	b.restMayCome()
	b.tell("root is mounted: " + b.root)
	b.pause("switch")
	return b.leave()
}

// find waits for the root.
func (b *boot) find() (err error) {
	ref := b.ref()
	b.node, err = control.Node(b.dev, ref)
	if b.root == "/dev/nfs" || b.root == "/dev/cifs" { // the kernel's words, and no devices
		err = errors.New("a root on the network is not for this program")
	}
	if err != nil {
		return errors.New("root=" + b.root + ": " + err.Error())
	}
	_, offset, _ := strings.Cut(b.root, besideMark)
	if !b.onlyFirst {
		// With rd.devspool.first=no the root waits for all else: at most 30 s, until nothing comes for 0.2 s.
		_ = b.ask([]string{"settle", "30", "0.2"}, b.tell)
	}
	// Each attempt has the whole time again: a person may have mended something in the shell.
	for began := sys.Now(); ; {
		// The wait is cut into slices, between which tools work on the disks that have come.
		slice := 5 * time.Second
		if !b.rootwait {
			slice = max(0, min(slice, b.timeout-began.Age()))
		}
		// ref may name another node than the one that comes: see below.
		if b.useTools() || ref != b.root {
			slice = min(slice, 200*time.Millisecond)
		}
		if isFlash(b.root) && flashIsThere(b.root) {
			b.node = b.root
			return nil
		}
		if node := mapped(b.node); node != "" {
			b.node = node
			return nil
		}
		// A path that looks like LVM's may be another's: a rule's, or that of a driver with a directory of
		// its own.
		if ref != b.root && isBlock(b.root) {
			b.node = b.root
			return nil
		}
		err = b.ask([]string{"wait", decimal(slice), ref}, func(string) {})
		if err == nil {
			if offset == "" && !isFlash(b.root) {
				return nil
			}
			// The kernel makes all partitions of a disk at once, but for those that somebody adds.
			if other := beside(b.node, offset); other != "" {
				b.node, ref, offset = other, other, ""
				continue
			}
			time.Sleep(slice)
		} else if _, late := err.(control.Timeout); !late { // any other error would come again at once
			return err
		}
		if waited := began.Age(); waited >= b.timeout && !b.rootwait {
			return errors.New("root=" + b.root + " did not come within " + strconv.Itoa(int((waited+time.Second/2)/time.Second)) + " s; " + b.seen())
		}
	}
}

// isBlock reports whether a path leads to the node of a disk.
func isBlock(path string) bool {
	var st unix.Statx_t
	return sys.Stat(unix.AT_FDCWD, path, 0, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK
}

// decimal returns a time in seconds, with three digits behind the point. (A second is added and
// taken away again so that there are always digits in front of the last three.)
func decimal(d time.Duration) string {
	ms := strconv.Itoa(int(d/time.Millisecond) + 1000)
	whole, _ := strconv.Atoi(ms[:len(ms)-3])
	return strconv.Itoa(whole-1) + "." + ms[len(ms)-3:]
}

// besideMark stands behind the name of a partition, and in front of how many partitions further the root is.
const besideMark = "/PARTNROFF="

// beside returns the link, by its numbers, to the partition whose number is greater by offset than that of
// a node's, on the same disk; or "".
func beside(node, offset string) string {
	var st unix.Statx_t
	by, err := strconv.Atoi(offset)
	if err != nil || sys.Stat(unix.AT_FDCWD, node, 0, &st) != nil {
		return ""
	}
	dir := "/sys/dev/block/" + strconv.Itoa(int(st.Rdev_major)) + ":" + strconv.Itoa(int(st.Rdev_minor))
	text, _ := sys.ReadAttribute(dir + "/partition")
	number, err := strconv.Atoi(strings.TrimSuffix(text, "\n"))
	if err != nil {
		return ""
	}
	// A partition's directory is in its disk's.
	for _, name := range sys.ReadDir(dir + "/..") {
		if text, _ = sys.ReadAttribute(dir + "/../" + name + "/partition"); text == strconv.Itoa(number+by)+"\n" {
			numbers, _ := sys.ReadAttribute(dir + "/../" + name + "/dev")
			return "/dev/block/" + strings.TrimSuffix(numbers, "\n")
		}
	}
	return ""
}

// ref returns the root as wait takes it: MAJOR:MINOR by the link that a disk has by its
// numbers, and /dev/VG/LV of LVM, whose link nobody makes here, by the mapper's name. Of a partition that
// is named by another one it is that other one.
func (s *settings) ref() string {
	major, minor, both := strings.Cut(s.root, ":")
	if both && strings.Trim(major+minor, "0123456789") == "" {
		return "/dev/block/" + s.root
	}
	// The bits of a number as new_decode_dev in the kernel's kdev_t.h has them.
	if n, err := strconv.ParseUint(strings.TrimPrefix(s.root, "0x"), 16, 32); err == nil {
		return "/dev/block/" + strconv.Itoa(int(n>>8&0xfff)) + ":" + strconv.Itoa(int(n&0xff|n>>12&0xfff00))
	}
	if partition, _, is := strings.Cut(s.root, besideMark); is {
		return partition
	}
	// Of a volume of UBI that is named the device, the first one where none is.
	if isFlash(s.root) {
		device, _, named := strings.Cut(s.root, ":")
		if named && len(device) == len("ubi") {
			device += "0"
		}
		return "/dev/" + device
	}
	path, below := strings.CutPrefix(s.root, "/dev/")
	group, volume, both := strings.Cut(path, "/")
	if !below || !both || strings.Contains(volume, "/") || strings.Contains(" block disk mapper md ", " "+group+" ") {
		return s.root
	}
	// LVM's tools write a dash in a name twice, since one dash parts the group from the volume.
	double := func(name string) string { return strings.ReplaceAll(name, "-", "--") }
	return "/dev/mapper/" + double(group) + "-" + double(volume)
}

// seen says what there is instead of the root.
func (b *boot) seen() string {
	disks := ""
	names := sys.ReadDir("/sys/class/block")
	sys.Sort(names)
	for _, name := range names {
		if size, _ := sys.ReadAttribute("/sys/class/block/" + name + "/size"); size != "0\n" { // of loop devices that are not used
			disks += " " + name
		}
	}
	if disks == "" {
		disks = " none"
	}
	// The status has lines of what is unfinished: one of these may be what keeps the root away.
	text := "disks that came:" + disks
	// A kernel that was updated, and an image that was not.
	if others, release := sys.ReadDir("/lib/modules"), sys.Release(); others != nil && !slices.Contains(others, release) {
		text += "; the image has modules of " + strings.Join(others, ", ") + " and none of this kernel, " + release
	}
	_ = b.ask([]string{"status"}, func(line string) {
		if control.IsUnfinished(line) {
			text += "; " + line
		}
	})
	return text
}

// fail says what has gone wrong, and lets a person mend it: when the shell ends the boot is
// tried again. Where there is no shell, or panic= refuses it, the kernel panics.
func (b *boot) fail(err error) {
	say(err.Error())
	if !b.panics && b.shell() {
		return
	}
	why := "the image has no shell"
	if b.panics {
		why = "panic= is given, so there is no shell"
	}
	// Time to read what is above: a panic may reboot the machine.
	for left := 10; left > 0; left-- {
		if left == 10 || left <= 3 {
			say(why + ": panic in " + strconv.Itoa(left) + " s")
		}
		time.Sleep(time.Second)
	}
	// The kernel's panic= decides what happens then.
	// The end of process 1 is what makes the kernel panic.
	os.Exit(1)
}

// pause gives a person a shell at a point that the command line names.
func (b *boot) pause(point string) {
	if strings.Contains(","+b.breaks+",", ","+point+",") && !b.started[point] {
		b.started[point] = true
		say("rd.devspool.break=" + point + ": exit goes on")
		b.shell()
	}
}

// shell runs a shell on the console, and reports whether there was one. In a session of its own it
// has job control, and Ctrl-C does not reach this process.
// It returns when the shell has ended, whatever its exit code.
func (b *boot) shell() bool {
	if !sys.Executable("/bin/sh") {
		return false
	}
	b.restMayCome()
	_, err := b.spawn([]string{"/bin/sh"}, &syscall.SysProcAttr{Setsid: true, Setctty: true})
	if err != nil { // the console cannot be a controlling terminal
		_, err = b.spawn([]string{"/bin/sh"}, nil)
	}
	return err == nil
}

// spawn runs a program on the console to its end, and returns its exit code. Orphans that
// end meanwhile are waited for too.
func (b *boot) spawn(words []string, attributes *syscall.SysProcAttr) (code int, err error) {
	pid, err := syscall.ForkExec(words[0], words, &syscall.ProcAttr{Env: b.environ, Files: []uintptr{0, 1, 2}, Sys: attributes})
	if err != nil {
		return -1, err
	}
	for {
		var status unix.WaitStatus
		// Any child: this is process 1, to which all orphans of the tools come.
		ended, err := unix.Wait4(-1, &status, 0, nil)
		if ended == pid || err != nil && err != unix.EINTR {
			return status.ExitStatus(), nil
		}
	}
}

// say writes a line to the console.
func say(line string) { _, _ = os.Stderr.WriteString("devspool: " + line + "\n") }

// tell is say for what only some want to know.
func (b *boot) tell(line string) {
	if b.verbose {
		var up unix.Timespec
		// Since the kernel began, so that the lines fit between those of its own log.
		_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &up)
		say(strconv.Itoa(int(up.Nano()/1e6)) + " ms: " + line)
	}
}

// writeConfig gives the image a config. (The function of package os would cost the program 30 kB.)
func writeConfig() {
	fd, err := unix.Open(config, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return // the loop uses the default config then
	}
	_, _ = sys.Write(fd, []byte(conf.Default+loadModules))
	unix.Close(fd)
}
