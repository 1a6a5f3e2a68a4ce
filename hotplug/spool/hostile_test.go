package spool

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

func init() {
	roles["hostile"] = hostile
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
	cmd := actor(role, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd
}

// Whatever a user does, others get their events and nothing outside changes.
func TestMischief(t *testing.T) {
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
		h.must(s.Tend())
		return entriesOf(h.Events) == 0 && entriesOf("/dev/.devspool/spool/trash") == 0
	})
	h.must(s.Tend())
	h.clean()
}

func init() { roles["flood"] = flood }

// flood makes as many directories as its argument says.
func flood() {
	count, _ := strconv.Atoi(os.Args[2])
	for i := range count {
		os.Mkdir(filepath.Join(os.Args[1], fmt.Sprint("flood-", os.Getpid(), "-", i)), 0o755)
	}
	fmt.Println("done")
	time.Sleep(time.Hour)
}

// Past a limit the directories of one user are removed, while others are served.
func TestFlood(t *testing.T) {
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	count := 100_000
	if testing.Short() {
		count = 20_000
	}
	h := newShop(t)
	s := h.open()
	good := h.subscribe(Subscription{Name: "good"})
	cmd := asNobody("flood", h.Events, strconv.Itoa(count))
	out, err := cmd.StdoutPipe()
	h.must(err)
	h.must(cmd.Start())
	var slowest time.Duration
	done := make(chan bool)
	go func() {
		var b [1]byte
		out.Read(b[:])
		close(done)
	}()
	for n, busy := 1, true; busy; n++ {
		start := time.Now()
		h.publish(s, n, n)
		if got := h.next(good); got != fmt.Sprint(n) {
			t.Fatalf("got %s for %d", got, n)
		}
		slowest = max(slowest, time.Since(start))
		select {
		case <-done:
			busy = false
		default:
		}
	}
	made := time.Now()
	h.until("the limit holds", func() bool { return entriesOf(h.Events) <= 257 })
	t.Logf("the limit holds after %v; the slowest event took %v; %d refused", time.Since(made), slowest, s.refused)
	if !h.said("too many of user 65534") {
		t.Error("nothing was logged")
	}
	cmd.Process.Kill()
	cmd.Wait()
	h.until("all are gone", func() bool { return entriesOf(h.Events) == 1 })
}

// A directory that another file system lies on is no queue.
func TestForeignFileSystem(t *testing.T) {
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
