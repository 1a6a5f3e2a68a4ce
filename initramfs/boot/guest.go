package boot

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// moduleDir is where the image keeps its modules, all in one directory.
const moduleDir = "/modules"

// guestMark is the environment variable of the process that runs a test in the guest.
const guestMark = "DEVSPOOL_BOOT_GUEST"

func inGuest() bool { return os.Getenv(guestMark) != "" }

// initialize is what process 1 does: it mounts what every program expects, runs
// the test as its child, says how that ended, and switches the machine off. /dev
// stays as the kernel made it.
func initialize() {
	status := "init failed"
	if err := openConsole(); err != nil {
		status = "no console: " + err.Error()
	} else if err := mountKernelFilesystems(); err != nil {
		fmt.Println("devspool-boot:", err)
	} else if params, err := parameters(); err != nil {
		fmt.Println("devspool-boot:", err)
	} else {
		status = runTest(params[paramTest], params[paramTimeout])
	}
	// From here on the console is ours alone.
	_ = os.WriteFile("/proc/sys/kernel/printk", []byte("0"), 0)
	fmt.Printf("\n%s%s\n", lineExit, status)
	unix.Sync()
	err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	fmt.Println("devspool-boot: power off:", err)
	os.Exit(1) // the kernel panics, and ends that way
}

// openConsole gives this process a console, if there was none to start it with.
func openConsole() error {
	var st unix.Stat_t
	if unix.Fstat(1, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR {
		return nil
	}
	const console = "/tmp/console"
	if err := unix.Mknod(console, unix.S_IFCHR|0o600, int(unix.Mkdev(5, 1))); err != nil {
		return err
	}
	fd, err := unix.Open(console, unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	for std := range 3 {
		if err := unix.Dup2(fd, std); err != nil {
			return err
		}
	}
	return unix.Close(fd)
}

func mountKernelFilesystems() error {
	// In a root that the program's /init has brought they are there.
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil && err != unix.EBUSY {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil && err != unix.EBUSY {
		return fmt.Errorf("mount /sys: %w", err)
	}
	return nil
}

// parameters returns the kernel's parameters that have a value.
func parameters() (map[string]string, error) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, err
	}
	params := map[string]string{}
	for _, word := range strings.Fields(string(line)) {
		if key, value, ok := strings.Cut(word, "="); ok {
			params[key] = value
		}
	}
	return params, nil
}

// runTest runs one test of this binary as a child, so that whatever ends it does
// not end process 1, and returns its exit status. Meanwhile it buries orphans.
func runTest(test, timeout string) string {
	child, err := os.StartProcess("/proc/self/exe", []string{"/init",
		"-test.run=" + exactly(test), "-test.v", "-test.timeout=" + timeout,
	}, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{guestMark + "=1", "PATH=/sbin:/bin", "HOME=/", "TMPDIR=/tmp"},
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		return err.Error()
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err.Error()
		case pid == child.Pid && status.Signaled():
			return status.Signal().String()
		case pid == child.Pid:
			return fmt.Sprint(status.ExitStatus())
		}
	}
}

// exactly returns the value of -test.run that fits one test or subtest.
func exactly(test string) string {
	parts := strings.Split(test, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// Guest is the test as it runs inside of the booted kernel, and what it may do
// there. Its methods end the test where they fail.
type Guest struct {
	*testing.T
}

// Patience is how long a Guest waits for something to come about. It is long:
// what runs here may be a slow machine's emulation of one.
const Patience = 6 * time.Minute

// Until calls check every few milliseconds until it returns nil. After
// Patience it ends the test with what check returned last.
func (g *Guest) Until(what string, check func() error) {
	g.Helper()
	start := time.Now()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Since(start) > Patience {
			g.Fatalf("waited %v for %s: %v", Patience, what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Insmod loads a module of the image, after what it needs.
func (g *Guest) Insmod(name string, params ...string) {
	g.Helper()
	available, err := findModules(moduleDir)
	if err != nil {
		g.Fatal(err)
	}
	order, err := available.order(name)
	if err != nil {
		g.Fatal(err)
	}
	for _, m := range order {
		arguments := ""
		if m == moduleName(name) {
			arguments = strings.Join(params, " ")
		}
		if err := insmod(available[m], arguments); err != nil {
			g.Fatalf("insmod %s %s: %v", m, arguments, err)
		}
	}
}

// insmod loads one module, unless it is there already.
func insmod(path, params string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	err = unix.FinitModule(int(file.Fd()), params, 0)
	if err == unix.EEXIST {
		return nil
	}
	return err
}

// Rmmod removes a module as soon as nothing uses it.
func (g *Guest) Rmmod(name string) {
	g.Helper()
	g.Until("module "+name+" to be free", func() error {
		return unix.DeleteModule(moduleName(name), unix.O_NONBLOCK)
	})
}

// Write writes text to a file that is there, such as one of sysfs.
func (g *Guest) Write(path, text string) {
	g.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		g.Fatal(err)
	}
	_, err = file.WriteString(text)
	if err := file.Close(); err != nil {
		g.Fatal(err)
	}
	if err != nil {
		g.Fatalf("write %q: %v", text, err)
	}
}

// Read returns the text of a file without the blanks at its ends.
func (g *Guest) Read(path string) string {
	g.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		g.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// KernelLog returns the kernel's log.
func (g *Guest) KernelLog() string {
	g.Helper()
	log := make([]byte, 1<<20)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, log)
	if err != nil {
		g.Fatalf("the kernel's log: %v", err)
	}
	return string(log[:n])
}

// Command runs a program to its end and returns what it said.
func (g *Guest) Command(name string, args ...string) string {
	g.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = os.Stdin // there may be no /dev/null
	out, err := cmd.CombinedOutput()
	if err != nil {
		g.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Mount mounts a file system without a device on dir, which it makes.
func (g *Guest) Mount(fstype, dir string) {
	g.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		g.Fatal(err)
	}
	if err := unix.Mount(fstype, dir, fstype, 0, "mode=0755"); err != nil {
		g.Fatalf("mount %s on %s: %v", fstype, dir, err)
	}
}

// Unmount undoes Mount.
func (g *Guest) Unmount(dir string) {
	g.Helper()
	if err := unix.Unmount(dir, 0); err != nil {
		g.Fatalf("umount %s: %v", dir, err)
	}
}

// Mknod makes a character device.
func (g *Guest) Mknod(path string, mode, major, minor uint32) {
	g.Helper()
	if err := unix.Mknod(path, unix.S_IFCHR|mode, int(unix.Mkdev(major, minor))); err != nil {
		g.Fatalf("mknod %s: %v", path, err)
	}
	if err := os.Chmod(path, os.FileMode(mode)); err != nil { // the umask
		g.Fatal(err)
	}
}

// Settle waits until nothing happens in the machine: no process but ours wants
// the processor or a disk, and the kernel sends no event, for a tenth of a
// second. Whoever still sleeps then waits for something that will not come.
func (g *Guest) Settle() {
	g.Helper()
	const quiet = 5 // looks in a row
	looks, last := 0, ""
	g.Until("the machine to be quiet", func() error {
		busy, err := busyTasks()
		seqnum := g.Read("/sys/kernel/uevent_seqnum")
		if len(busy) > 0 || seqnum != last || err != nil {
			looks = 0
		}
		looks++
		last = seqnum
		if looks < quiet {
			return fmt.Errorf("event %s; busy: %q, %v", seqnum, busy, err)
		}
		return nil
	})
}

// busyTasks returns the names of all tasks, the kernel's too, that run or wait
// for a disk. Our own are left out.
func busyTasks() ([]string, error) {
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var busy []string
	own := strconv.Itoa(os.Getpid())
	for _, p := range processes {
		if n := p.Name(); n[0] < '0' || n[0] > '9' || n == own {
			continue
		}
		t := readTask("/proc/" + p.Name() + "/stat")
		if t.busy() {
			busy = append(busy, t.name)
		} else if t.threads > 1 {
			busy = append(busy, busyThreads("/proc/"+p.Name()+"/task")...)
		}
	}
	return busy, nil
}

// busyThreads returns the names of those in one directory of tasks.
func busyThreads(dir string) []string {
	threads, err := os.ReadDir(dir)
	if err != nil {
		return nil // they ended meanwhile
	}
	var busy []string
	for _, d := range threads {
		if t := readTask(dir + "/" + d.Name() + "/stat"); t.busy() {
			busy = append(busy, t.name)
		}
	}
	return busy
}

// task is what a stat file says. A task that has ended is the zero task.
type task struct {
	name    string
	state   string
	threads int
}

func (t task) busy() bool { return t.state == "R" || t.state == "D" }

// readTask reads with as few system calls as can be: where those are slow, to
// look at all tasks shall still be quick.
func readTask(path string) task {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return task{}
	}
	defer unix.Close(fd)
	var buf [512]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return task{}
	}
	return parseTask(string(buf[:n]))
}

// parseTask reads a stat file: "PID (NAME) STATE ...", where NAME may hold any
// character and the number of threads is the 18th field after it.
func parseTask(stat string) task {
	i := strings.LastIndex(stat, ") ")
	if i < 0 {
		return task{}
	}
	f := strings.Fields(stat[i+2:])
	if len(f) < 18 {
		return task{}
	}
	threads, _ := strconv.Atoi(f[17])
	return task{name: stat[:i+1], state: f[0], threads: threads}
}
