package broker

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
)

func init() {
	kerneltest.Roles["hostile"] = hostile
}

// mischief is what a user without rights may try, in a root or a queue of its own.
var mischief = map[string]func(dir string){
	"links": func(dir string) {
		for i := range 100 {
			os.Symlink("/etc", filepath.Join(dir, fmt.Sprint("link-", i)))
		}
	},
	"fifos": func(dir string) {
		queue := filepath.Join(dir, fmt.Sprint("q-", os.Getpid()))
		hidden := filepath.Join(dir, fmt.Sprint(".q-", os.Getpid()))
		os.Mkdir(hidden, 0o755)
		for _, name := range []string{".filter", ".nolinks", "head", "tail"} {
			unix.Mkfifo(filepath.Join(hidden, name), 0o666)
		}
		os.Rename(hidden, queue)
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o666)
	},
	"filter is a link": func(dir string) {
		hidden := filepath.Join(dir, fmt.Sprint(".q-", os.Getpid()))
		os.Mkdir(hidden, 0o755)
		os.Symlink("/etc/shadow", filepath.Join(hidden, ".filter"))
		os.Rename(hidden, filepath.Join(dir, fmt.Sprint("q-", os.Getpid())))
	},
	"swapped": func(dir string) {
		a, b := filepath.Join(dir, fmt.Sprint("a-", os.Getpid())), filepath.Join(dir, fmt.Sprint("b-", os.Getpid()))
		os.Mkdir(a, 0o755)
		os.Symlink("/etc", b)
		for range 2000 {
			unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
			os.Symlink("/etc", b)
		}
	},
	"nested": func(dir string) {
		os.Chdir(dir)
		for range 1000 {
			os.Mkdir(fmt.Sprint("deep-", os.Getpid()), 0o755)
			if os.Chdir(fmt.Sprint("deep-", os.Getpid())) != nil {
				return
			}
		}
	},
	"full of directories": func(dir string) {
		queue := filepath.Join(dir, fmt.Sprint("q-", os.Getpid()))
		os.Mkdir(queue, 0o755)
		for i := range 1000 {
			os.Mkdir(filepath.Join(queue, fmt.Sprintf("%020d", i)), 0o755)
		}
	},
	"unreadable": func(dir string) {
		queue := filepath.Join(dir, fmt.Sprint("q-", os.Getpid()))
		os.Mkdir(queue, 0)
	},
}

func hostile() {
	mischief[os.Args[2]](os.Args[1])
	fmt.Println("done")
	time.Sleep(time.Hour)
}

// asNobody has a role played by a user without rights.
func asNobody(role string, args ...string) *exec.Cmd {
	cmd := kerneltest.Actor(role, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd
}

// Whatever a user does, others get their events and nothing outside changes.
func TestMischief(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	for _, age := range ages[:2] {
		for what, do := range mischief {
			_ = do
			for _, resident := range []bool{true, false} {
				t.Run(fmt.Sprint(what, ", ", age.name, ", resident ", resident), func(t *testing.T) {
					h := newShop(t)
					h.old, h.Resident = age.old, resident
					testMischief(h, what)
				})
			}
		}
	}
}

func testMischief(h *shop, what string) {
	s := h.open()
	good := h.queue(h.Events, "good", ".nolinks")
	before := kerneltest.Sh(h.T, "ls -laR --time-style=full-iso /etc | md5sum")
	h.publish(s, 1, 10)
	cmd := asNobody("hostile", h.Events, what)
	out, err := cmd.StdoutPipe()
	h.must(err)
	h.must(cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	done := make(chan bool)
	go func() {
		var b [1]byte
		out.Read(b[:])
		close(done)
	}()
	n := 11
	for busy := true; busy; n++ {
		h.publish(s, n, n)
		select {
		case <-done:
			busy = false
		default:
		}
	}
	h.publish(s, n, n+10)
	h.holds(good, span(1, n+10))
	if after := kerneltest.Sh(h.T, "ls -laR --time-style=full-iso /etc | md5sum"); after != before {
		h.Error("/etc has changed")
	}
	cmd.Process.Kill()
	cmd.Wait()
	h.must(os.RemoveAll(good))
	h.until("nothing is left", func() bool {
		h.must(s.Upkeep())
		return entriesOf(h.Events) == 0 && entriesOf("/dev/.devspool/spool/trash") == 0
	})
	h.must(s.Upkeep())
	h.clean()
}

func init() { kerneltest.Roles["flood"] = flood }

// flood makes as many directories as its argument says, as fast as can be, and
// prints how many the kernel refused.
func flood() {
	count, _ := strconv.Atoi(os.Args[2])
	root, err := unix.Open(os.Args[1], unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		panic(err)
	}
	refused := 0
	for i := range count {
		if unix.Mkdirat(root, "flood-"+strconv.Itoa(os.Getpid())+"-"+strconv.Itoa(i), 0o755) == unix.EACCES {
			refused++
		}
	}
	fmt.Println(refused)
	time.Sleep(time.Hour)
}

// flooder is a process that floods a root, or did.
type flooder struct {
	cmd     *exec.Cmd
	refused chan int // how many directories the kernel refused, at the end
}

func (h *shop) flood(count int) flooder {
	h.Helper()
	f := flooder{asNobody("flood", h.Events, strconv.Itoa(count)), make(chan int, 1)}
	out, err := f.cmd.StdoutPipe()
	h.must(err)
	h.must(f.cmd.Start())
	h.Cleanup(f.kill)
	go func() {
		n := -1
		fmt.Fscan(out, &n)
		f.refused <- n
	}()
	return f
}

func (f flooder) kill() {
	f.cmd.Process.Kill()
	f.cmd.Wait()
}

// A flood of one user's directories is denied or removed, and logged once. Meanwhile the
// others get every event in order, also a client that has just subscribed.
func TestFlood(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	for _, c := range []struct {
		name  string
		old   old
		count int
	}{
		{"kept out", old{}, 100_000},
		{"no access control lists", old{acl: true}, 20_000},
		{"nor makers", old{acl: true, fanotify: true}, 20_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newShop(t)
			h.old = c.old
			testFlood(h, c.count)
		})
	}
}

func testFlood(h *shop, count int) {
	s := h.open()
	good := h.subscribe(spool.Subscription{Name: "good"})
	f := h.flood(count)
	var slowest time.Duration
	refused, n := -1, 1
	for ; refused < 0; n++ {
		var late *spool.Reader
		if n%5 == 0 {
			late = h.subscribe(spool.Subscription{Name: "late"})
		}
		start := time.Now()
		h.publish(s, n, n)
		for _, r := range []*spool.Reader{good, late} {
			if r == nil {
				continue
			}
			if got := h.next(r); got != strconv.Itoa(n) {
				h.Fatalf("%s got %s for %d", r.Path(), got, n)
			}
			slowest = max(slowest, time.Since(start))
		}
		if late != nil {
			h.must(late.Close())
		}
		select {
		case refused = <-f.refused:
		default:
			time.Sleep(time.Millisecond)
		}
	}
	end := time.Now()
	h.until("the limit holds", func() bool { return entriesOf(h.Events) <= 1+s.options.PerUser })
	h.Logf("of %d directories the kernel refused %d; the limit holds %v after the last; the slowest of %d events took %v",
		count, refused, time.Since(end), n-1, slowest)
	if h.old.acl != (refused == 0) {
		h.Errorf("the kernel refused %d", refused)
	}
	h.mu.Lock()
	log := strings.Join(h.log, "\n")
	h.mu.Unlock()
	if strings.Count(log, "too many of user 65534") != 1 {
		h.Errorf("logged: %s", log)
	}
	f.kill()
	h.until("all are gone", func() bool { return entriesOf(h.Events) == 1 })
	h.until("the user is let in again", h.letsIn)
}

// letsIn reports whether a user without rights can make a queue.
func (h *shop) letsIn() bool {
	f := h.flood(1)
	defer f.kill()
	return <-f.refused == 0
}

// Of a flood no more is removed in one round than others can wait for, and nothing is
// taken for a queue.
func TestSurplus(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	const count = 2000
	h := newShop(t)
	s := h.open()
	s.mu.Lock()
	f := h.flood(count)
	if refused := <-f.refused; refused != 0 {
		t.Errorf("the kernel refused %d before anybody looked", refused)
	}
	s.registry.quota.removals = removalsPerRound
	h.must(s.begin())
	s.space.release()
	if n := entriesOf(h.Events); n != count-removalsPerRound {
		t.Errorf("%d are left of %d", n, count)
	}
	if len(s.registry.queues) > 0 {
		t.Errorf("%d became queues", len(s.registry.queues))
	}
	s.mu.Unlock()
	h.until("all are gone", func() bool { return entriesOf(h.Events) == 0 })
}

// A denied user may make queues again after a while, when the broker closes, and where
// the broker was killed, when the next one starts.
func TestKeptOut(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	h := newShop(t)
	s := h.open()
	deny := func(until int64) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.registry.quota.denied[65534] = until
		s.registry.quota.writeDenied()
		s.upkeep.kick()
	}
	const never = 1 << 62
	deny(never)
	if h.letsIn() {
		kerneltest.Cannot(t, "the kernel has no access control lists on a tmpfs")
	}
	for uid, want := range map[uint32]bool{0: true, 65533: true, 65534: false} {
		cmd := sh("mkdir " + h.Events + "/.of-$$")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: 65534}}
		if err := cmd.Run(); (err == nil) != want {
			t.Errorf("user %d makes a queue: %v", uid, err)
		}
	}
	deny(now())
	h.until("the time is over", h.letsIn)
	deny(never)
	s.Close()
	if !h.letsIn() {
		t.Error("not let in at the end")
	}
	s = h.open()
	deny(never)
	s.mu.Lock()
	clear(s.registry.quota.denied) // as if it were killed
	s.mu.Unlock()
	s.Close()
	if h.letsIn() {
		t.Fatal("let in though nobody saw to it")
	}
	h.open()
	if !h.letsIn() {
		t.Error("not let in by who comes next")
	}
}

// A process that makes very many directories, whose names and locks tell no owner,
// has them all as long as it lives, however late it is heard of.
func TestManyMade(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	h := newShop(t)
	s := h.open()
	if s.registry.roots[0].fanotify == sys.None {
		kerneltest.Cannot(t, "needs fanotify with pidfds")
	}
	const count = 2*creatorsPerRound + 1
	s.mu.Lock() // so that they all come at once
	for i := range count {
		h.must(os.Mkdir(filepath.Join(h.Events, fmt.Sprint("odd", i)), 0o755))
	}
	h.must(s.begin())
	if s.lifecycle.creatorBudget > 0 {
		t.Error("all creators were heard in one round")
	}
	s.checkDue()
	time.Sleep(graceLive)
	s.checkDue()
	s.space.release()
	s.mu.Unlock()
	h.until("all makers are heard", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		heard := 0
		for _, q := range s.registry.queues {
			if q.owner.creator.Pid == os.Getpid() {
				heard++
			}
		}
		return heard == count
	})
	h.publish(s, 1, 1)
	h.holds(filepath.Join(h.Events, "odd0"), "1")
}

// A directory that another file system lies on is no queue.
func TestForeignFileSystem(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	for _, age := range ages[:2] {
		h := newShop(t)
		h.old = age.old
		s := h.open()
		good := h.queue(h.Events, "good", ".nolinks")
		foreign := h.queue(h.Events, "foreign")
		kerneltest.Sh(t, "mount -t tmpfs foreign /dev/.devspool/spool/events/"+filepath.Base(foreign))
		h.publish(s, 1, 1)
		s.Close()
		s = h.open()
		h.publish(s, 2, 3)
		h.holds(good, "1 2 3")
		if n := entriesOf("/dev/.devspool/spool/events/" + filepath.Base(foreign)); n != 0 {
			t.Errorf("%d entries on the foreign file system", n)
		}
		s.Close()
		kerneltest.Sh(t, "umount /dev/.devspool/spool/events/"+filepath.Base(foreign)+"; rm -r /dev/events/*")
	}
}

// A private directory that others may enter, or roots elsewhere, are refused.
func TestUnusable(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	h := newShop(t)
	h.must(os.Mkdir("/dev/.devspool/spool", 0o755))
	if s, err := Open(h.Options); err == nil {
		s.Close()
		t.Error("a directory that others may enter is used")
	}
	h.must(os.Chmod("/dev/.devspool/spool", 0o700))
	h.Mount = false
	h.Events = filepath.Join(t.TempDir(), "events")
	if s, err := Open(h.Options); err == nil {
		s.Close()
		t.Error("a root on another file system is used")
	}
}

// A user who writes invalid filters, under a new name each time, does not use up
// the log.
func TestLogStaysOpen(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	h := newShop(t)
	s := h.open()
	for i := range 1200 {
		queue := h.queue(h.Events, fmt.Sprint("q", i), ".filter:nonsense")
		h.must(s.Upkeep())
		h.must(os.RemoveAll(queue))
	}
	if n := len(h.log); n != 1 {
		t.Errorf("%d lines were logged", n)
	}
}
