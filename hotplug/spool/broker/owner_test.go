package broker

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/procfs"
	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
)

func init() {
	kerneltest.Roles["subscriber"] = subscriber
	kerneltest.Roles["many"] = manySubscribers
	kerneltest.Roles["threaded"] = threaded
	kerneltest.Roles["maker"] = func() {
		fmt.Println(os.Args[1], os.Mkdir(os.Args[1], 0o700))
		time.Sleep(time.Hour)
	}
}

// threaded makes a queue in a thread that ends, and lives on.
func threaded() {
	path := fmt.Sprint(os.Args[1], "/x-", os.Getpid())
	made, ended := make(chan error), 0
	var maker func()
	maker = func() {
		runtime.LockOSThread()                           // and so the thread ends with this
		if ended = unix.Gettid(); ended == os.Getpid() { // but for the first
			go maker()
			select {}
		}
		made <- os.Mkdir(path, 0o700)
	}
	go maker()
	if err := <-made; err != nil {
		fmt.Println(err)
	}
	for unix.Tgkill(os.Getpid(), ended, 0) == nil {
		time.Sleep(time.Millisecond)
	}
	fmt.Println(path)
	time.Sleep(time.Hour)
}

// subscriber subscribes, says where, and waits to be killed.
func subscriber() {
	r, err := spool.Subscribe(context.Background(), spool.Subscription{Root: os.Args[1], Name: "client"})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(r.Path())
	time.Sleep(time.Hour)
}

// client is a process that has a queue.
type client struct {
	*exec.Cmd
	queue string
}

// start starts a process that prints the path of its queue.
func (h *shop) start(cmd *exec.Cmd) client {
	h.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	out, err := cmd.StdoutPipe()
	h.must(err)
	h.must(cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	h.must(err)
	c := client{cmd, strings.TrimSpace(line)}
	h.Cleanup(c.kill)
	return c
}

func (c client) kill() {
	c.Process.Kill()
	c.Wait()
}

func sh(script string, args ...string) *exec.Cmd {
	return exec.Command("/bin/sh", append([]string{"-c", script, "sh"}, args...)...)
}

// owners are the ways to have a queue.
var owners = []struct {
	name string
	cmd  func(root string) *exec.Cmd
}{
	{"our client", func(root string) *exec.Cmd { return kerneltest.Actor("subscriber", root) }},
	{"shell", func(root string) *exec.Cmd {
		return sh("d=" + root + "/x-$$; mkdir $d; echo $d; while :; do sleep 1000; done")
	}},
	{"shell that prepares it", func(root string) *exec.Cmd {
		return sh("cd " + root + "; mkdir .x-$$; echo subsystem=mem >.x-$$/.filter; mv .x-$$ x-$$; echo " + root + "/x-$$; while :; do sleep 1000; done")
	}},
	{"slot", func(root string) *exec.Cmd {
		return sh("d=" + root + "/libudev-$$-0; mkdir $d; echo $d; while :; do sleep 1000; done")
	}},
	{"exec", func(root string) *exec.Cmd {
		return sh("d=" + root + "/x-$$; mkdir $d; echo $d; exec sleep 1000")
	}},
	{"replaced on disk", func(root string) *exec.Cmd {
		return sh("p=$(mktemp -d); cp $(command -v sleep) $p/client; d=" + root + "/x-$$; mkdir $d; (sleep .1; cp -f /bin/sh $p/new; mv $p/new $p/client; echo $d)& exec $p/client 1000")
	}},
	{"odd times", func(root string) *exec.Cmd {
		return sh("d=" + root + "/x-$$; mkdir $d; touch -d 1980-01-01 $d; echo $d; while :; do sleep 1000; done")
	}},
	{"thread that ends", func(root string) *exec.Cmd { return kerneltest.Actor("threaded", root) }},
	{"another user", func(root string) *exec.Cmd {
		cmd := exec.Command("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "/bin/sh", "-c",
			"d="+root+"/x-$$; mkdir $d; echo $d; while :; do sleep 1000; done")
		return cmd
	}},
}

// A queue lasts as long as its owner.
func TestFate(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	kerneltest.Need(t, "setpriv")
	for _, age := range ages {
		for _, resident := range []bool{true, false} {
			for _, own := range owners {
				t.Run(fmt.Sprint(own.name, ", ", age.name, ", resident ", resident), func(t *testing.T) {
					h := newShop(t)
					h.old, h.Resident = age.old, resident
					testFate(h, own.cmd(h.Events))
				})
			}
		}
	}
}

func testFate(h *shop, cmd *exec.Cmd) {
	s := h.open()
	c := h.start(cmd)
	h.publish(s, 1, 2)
	if !h.Resident {
		// Each event may come from another process.
		s.Close()
		s = h.open()
	}
	h.publish(s, 3, 3)
	h.holds(c.queue, "1 2 3")
	c.kill()
	killed := time.Now()
	if h.Resident {
		h.until("the queue is gone", func() bool { return gone(c.queue) })
		h.Logf("gone after %v", time.Since(killed))
		h.until("nothing is left", func() bool { return entriesOf("/dev/.devspool/spool/trash") == 0 })
	} else {
		h.publish(s, 4, 4)
		if !gone(c.queue) {
			h.Error("the queue is there after an event")
		}
	}
	h.must(s.Upkeep())
	h.clean()
}

// The number of a dead owner is given to another process, which does not keep the queue.
func TestPidReuse(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	const last = "/proc/sys/kernel/ns_last_pid"
	if _, err := os.Stat(last); err != nil {
		kerneltest.Cannot(t, "needs %s", last)
	}
	for _, age := range ages {
		for _, resident := range []bool{true, false} {
			t.Run(fmt.Sprint(age.name, ", resident ", resident), func(t *testing.T) {
				h := newShop(t)
				h.old, h.Resident = age.old, resident
				s := h.open()
				c := h.start(sh("d=" + h.Events + "/x-$$; mkdir $d; echo $d; exec sleep 1000"))
				h.publish(s, 1, 1)
				h.must(s.Upkeep())
				// Wait for another tick: the two starts must differ.
				begin, _ := procfs.Find(c.Process.Pid)
				h.until("the clock has moved on", func() bool {
					cmd := exec.Command("sleep", "1000")
					h.must(cmd.Start())
					defer func() { cmd.Process.Kill(); cmd.Wait() }()
					p, _ := procfs.Find(cmd.Process.Pid)
					return p.Start > begin.Start
				})
				s.mu.Lock() // so that nobody looks in between
				c.kill()
				next := reuse(h, c.Process.Pid)
				s.mu.Unlock()
				defer func() { next.Process.Kill(); next.Wait() }()
				if h.Resident {
					h.until("the queue is gone", func() bool { return gone(c.queue) })
				}
				h.publish(s, 2, 2)
				if !gone(c.queue) {
					t.Error("the new process keeps the queue")
				}
			})
		}
	}
}

// reuse starts a process with the number pid.
func reuse(h *shop, pid int) *exec.Cmd {
	h.Helper()
	for range 1000 {
		h.must(os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0))
		cmd := exec.Command("sleep", "1000")
		h.must(cmd.Start())
		if cmd.Process.Pid == pid {
			return cmd
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
	h.Fatalf("no process gets the number %d", pid)
	return nil
}

// A sticky queue outlives its owner.
func TestSticky(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	h := newShop(t)
	s := h.open()
	c := h.start(sh("cd " + h.Events + "; mkdir .x-$$; >.x-$$/.sticky; mv .x-$$ x-$$; echo $PWD/x-$$; exec sleep 1000"))
	other := h.start(owners[0].cmd(h.Events))
	h.publish(s, 1, 1)
	c.kill()
	other.kill()
	h.until("the other one is gone", func() bool { return gone(other.queue) })
	h.publish(s, 2, 2)
	h.holds(c.queue, "1 2")

	// One that was not ready yet is of no use to anybody.
	dead := h.start(sh("cd " + h.Events + "; mkdir .x-$$; >.x-$$/.sticky; echo $PWD/.x-$$; exec sleep 1000"))
	h.must(s.Upkeep())
	dead.kill()
	h.until("it is gone", func() bool { return gone(dead.queue) })
	// Nor does a stranger's word count.
	dead = h.start(sh("cd " + h.Events + "; mkdir -m 777 .x-$$; setpriv --reuid 1000 touch .x-$$/.sticky; mv .x-$$ x-$$; echo $PWD/x-$$; exec sleep 1000"))
	h.must(s.Upkeep())
	dead.kill()
	h.until("it is gone", func() bool { return gone(dead.queue) })
}

// A stranger's lock, on a queue that others may open, neither ends it nor keeps it.
func TestStrangersLock(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	h := newShop(t)
	s := h.open()
	lock := func(dir string) client {
		t.Helper()
		cmd := exec.Command("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "/bin/sh", "-c",
			"exec 9<"+dir+" && flock 9 && echo locked; exec sleep 1000")
		stranger := h.start(cmd)
		if stranger.queue != "locked" {
			t.Fatal(stranger.queue)
		}
		return stranger
	}
	hidden := "/dev/events/.x-" + strconv.Itoa(os.Getpid())
	live := strings.Replace(hidden, ".x", "x", 1)
	h.must(os.Mkdir(hidden, 0o755))
	stranger := lock(hidden)
	h.must(os.Rename(hidden, live))
	h.publish(s, 1, 1)
	stranger.kill()
	c := h.start(owners[1].cmd(h.Events))
	h.must(s.Upkeep())
	lock(c.queue)
	c.kill()
	h.until("the dead one's queue is gone", func() bool { return gone(c.queue) })
	h.publish(s, 2, 2)
	h.holds(live, "1 2")
}

// Nobody is seen to own what mkdir in an ended script has made.
func TestOwnerless(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	h := newShop(t)
	h.open()
	kerneltest.Sh(t, "mkdir /dev/events/x /dev/events/y-999999 /dev/events/.z")
	h.until("they are gone", func() bool { return entriesOf(h.Events) == 0 })
}

// Where the kernel reports the creator of a directory, that process owns it under any
// name, and still after it has renamed it.
func TestMaker(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	h := newShop(t)
	s := h.open()
	if s.registry.roots[0].fanotify == sys.None {
		kerneltest.Cannot(t, "needs fanotify with FAN_REPORT_PIDFD")
	}
	maker := h.start(kerneltest.Actor("maker", "/dev/events/x"))
	later := h.start(kerneltest.Actor("maker", "/dev/events/.y"))
	h.must(s.Upkeep())
	h.must(os.Rename("/dev/events/.y", "/dev/events/y"))
	time.Sleep(2 * gracePrepared)
	h.publish(s, 1, 1)
	h.holds("/dev/events/x", "1")
	h.holds("/dev/events/y", "1")
	maker.kill()
	later.kill()
	h.until("both are gone", func() bool { return entriesOf(h.Events) == 0 })
}

// manySubscribers has as many queues as its argument says.
func manySubscribers() {
	count, _ := strconv.Atoi(os.Args[2])
	for i := range count {
		// Without inotify, of which a user has not so many.
		name := fmt.Sprint("client-", os.Getpid(), "-", i)
		live, hidden := filepath.Join(os.Args[1], name), filepath.Join(os.Args[1], "."+name)
		err := os.Mkdir(hidden, 0o700)
		fd, _ := unix.Open(hidden, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Flock(fd, unix.LOCK_EX)
		}
		if err == nil {
			err = os.Rename(hidden, live)
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	fmt.Println("ready")
	time.Sleep(time.Hour)
}

// Of a thousand clients that are killed nothing is left.
func TestThousandKilled(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	h := newShop(t)
	h.Window = 20
	s := h.open()
	var clients []client
	for range 20 {
		c := h.start(kerneltest.Actor("many", h.Events, "50"))
		if c.queue != "ready" {
			t.Fatal(c.queue)
		}
		clients = append(clients, c)
	}
	h.publish(s, 1, 40)
	if n := entriesOf(h.Events); n != 1000 {
		for _, c := range clients { // did a client end, or did the broker think so?
			queues, _ := filepath.Glob(fmt.Sprint(h.Events, "/*client-", c.Process.Pid, "-*"))
			stat, _ := os.ReadFile(fmt.Sprint("/proc/", c.Process.Pid, "/stat"))
			t.Logf("%d queues of %s", len(queues), stat)
		}
		t.Fatalf("%d queues", n)
	}
	for _, c := range clients {
		c.kill()
	}
	h.until("all are gone", func() bool { return entriesOf(h.Events) == 0 })
	h.until("nothing is left", func() bool { return entriesOf("/dev/.devspool/spool/trash") == 0 })
	h.must(s.Upkeep())
	h.clean()
	if n := len(s.registry.queues) + len(s.upkeep.watched) + len(s.registry.quota.entries); n != 0 {
		t.Errorf("%d things are remembered", n)
	}
}

// Clients in namespaces of their own, where their numbers are others, read through
// a bind mount; two have the same number.
func TestContainers(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	kerneltest.Need(t, "unshare")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, age := range []old{{}, {fanotify: true}, {fanotify: true, pidfd: true}} {
		h := newShop(t)
		h.old = age
		s := h.open()
		var all []client
		for i := range 2 {
			place := t.TempDir()
			cmd := exec.Command("unshare", "-mpnf", "--kill-child", "/bin/sh", "-c",
				"mount --make-rprivate / && mount -t proc proc /proc && mount --bind /dev/events "+place+
					" && exec "+program+" "+place)
			cmd.Env = append(os.Environ(), kerneltest.EnvRole+"=subscriber")
			c := h.start(cmd)
			if want := fmt.Sprint("client-1", []string{"", "-1"}[i]); filepath.Base(c.queue) != want {
				t.Errorf("the queue is %s, want %s", c.queue, want)
			}
			c.queue = filepath.Join(h.Events, filepath.Base(c.queue))
			all = append(all, c)
		}
		h.publish(s, 1, 2)
		h.holds(all[0].queue, "1 2")
		h.holds(all[1].queue, "1 2")
		unix.Kill(-all[0].Process.Pid, unix.SIGKILL)
		all[0].kill()
		h.until("the first is gone", func() bool { return gone(all[0].queue) })
		h.publish(s, 3, 3)
		h.holds(all[1].queue, "1 2 3")
		all[1].kill()
		h.until("the second is gone", func() bool { return gone(all[1].queue) })
		s.Close()
	}
}
