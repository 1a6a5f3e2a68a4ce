package handoff_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"devspool/hotplug/handoff"
	"devspool/hotplug/kerneltest"
	"devspool/hotplug/kerneltest/build"
)

func TestMain(m *testing.M) { os.Exit(kerneltest.Main(m)) }

// envStress says how many events there are in all, in place of what CI has time for.
const envStress = "DEVSPOOL_STRESS"

// workers play a kernel that starts that many helpers at once.
const workers = 4

// kernel starts helpers.
type kernel struct {
	*testing.T
	program string
	dir     string // on a tmpfs
	log     *os.File

	mu     sync.Mutex
	seqnum uint64
}

// newKernel moves the test into namespaces of its own, and returns nil in the
// process that is left behind.
func newKernel(t *testing.T) *kernel {
	t.Helper()
	kerneltest.NeedRoot(t)
	program := kerneltest.BuildPackage(t, "hotplug/handoff/testdata/helper", build.Options{Link: []string{handoff.AnyParent}})
	if !kerneltest.InNamespaces(t, 0) {
		return nil
	}
	k := &kernel{T: t, program: program, dir: t.TempDir()}
	kerneltest.MountTmpfs(t, k.dir)
	for _, file := range []string{"done", "said"} {
		if err := os.WriteFile(k.dir+"/"+file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if k.log, err = os.OpenFile(k.dir+"/said", os.O_WRONLY|os.O_APPEND, 0); err != nil {
		t.Fatal(err)
	}
	return k
}

// start starts the helper of an event, which has the next number.
func (k *kernel) start(e kerneltest.Event) (pid int) {
	k.mu.Lock()
	k.seqnum++
	n := k.seqnum
	k.mu.Unlock()
	env := append(e.Environ(n), "STRESS_DIR="+k.dir, "STRESS_STAY="+strconv.Itoa(1+rand.IntN(200)))
	pid, err := syscall.ForkExec(k.program, []string{k.program, e.Subsystem()},
		&syscall.ProcAttr{Env: env, Files: []uintptr{k.log.Fd(), k.log.Fd(), k.log.Fd()}})
	if err != nil {
		k.Fatal(err)
	}
	return pid
}

// reap waits for a helper. One that stays is not waited for here.
func (k *kernel) reap(pid int, killed bool) {
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &status, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || status.Signaled() && !killed || !status.Signaled() && status.ExitStatus() != 0 {
			k.Errorf("helper: %v, status %x", err, status)
		}
		return
	}
}

// storm lets the workers send the events that next returns, until it returns
// false, and waits for all helpers.
func (k *kernel) storm(next func(worker int) (kerneltest.Event, bool), kills bool) {
	var all, helpers sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			slots := make(chan bool, 8) // helpers of this worker that live at once
			for {
				e, more := next(w)
				if !more {
					return
				}
				slots <- true
				pid := k.start(e)
				helpers.Go(func() { k.reap(pid, kills); <-slots })
			}
		})
	}
	all.Wait()
	helpers.Wait()
}

// events returns how many events share of the whole has.
func events(t *testing.T, share float64) int {
	n := 100_000
	if text := os.Getenv(envStress); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	if testing.Short() {
		n /= 20
	}
	return int(float64(n) * share)
}

// TestLeaving has servers come and leave all the time, and the kernel start
// helpers meanwhile: every event is done, and none twice.
func TestLeaving(t *testing.T) {
	k := newKernel(t)
	if k == nil {
		return
	}
	total := events(t, 0.8)
	left := make(chan int, total)
	for i := range total {
		left <- i
	}
	close(left)
	start := time.Now()
	k.storm(func(int) (kerneltest.Event, bool) {
		i, more := <-left
		return kerneltest.Event{Action: "change", Devpath: fmt.Sprint("/devices/x/", i%1000), Vars: []string{"SUBSYSTEM=x"}}, more
	}, false)
	took := time.Since(start)
	text, err := os.ReadFile(k.dir + "/done")
	if err != nil {
		t.Fatal(err)
	}
	done, servers := map[string]int{}, map[string]bool{}
	for line := range strings.Lines(string(text)) {
		number, server, _ := strings.Cut(line, " ")
		done[number]++
		servers[server] = true
	}
	for n := range total {
		if times := done[strconv.Itoa(n+1)]; times != 1 {
			t.Errorf("event %d was done %d times", n+1, times)
		}
	}
	if len(servers) < total/2000 {
		t.Errorf("only %d servers", len(servers))
	}
	if said, err := os.ReadFile(k.dir + "/said"); err != nil || len(said) > 0 {
		t.Errorf("the helpers say: %.2000s, %v", said, err)
	}
	t.Logf("%d events in %v, by %d servers", total, took.Round(time.Millisecond), len(servers))
}

// TestKilling kills servers at random moments. After each storm, and one more
// event, /dev holds what a fresh coldplug would make.
func TestKilling(t *testing.T) {
	k := newKernel(t)
	if k == nil {
		return
	}
	tree, err := kerneltest.NewTree(k.dir + "/sys")
	if err != nil {
		t.Fatal(err)
	}
	const round = 1000
	kills := 0
	for range max(1, events(t, 0.2)/round) {
		stop := make(chan bool)
		var killer sync.WaitGroup
		killer.Go(func() { kills += k.kill(stop) })
		k.storm(k.plugging(tree, round), true)
		close(stop)
		killer.Wait()
		k.storm(once(kerneltest.Event{Action: "change", Devpath: "/devices/x", Vars: []string{"SUBSYSTEM=x"}}), false)
		k.compare(tree)
	}
	if said, err := os.ReadFile(k.dir + "/said"); err != nil || bytes.Contains(said, []byte("error")) {
		t.Errorf("the helpers say: %.2000s, %v", said, err)
	}
	t.Logf("%d servers were killed", kills)
}

func once(e kerneltest.Event) func(int) (kerneltest.Event, bool) {
	sent := false
	var mu sync.Mutex
	return func(int) (kerneltest.Event, bool) {
		mu.Lock()
		defer mu.Unlock()
		again := sent
		sent = true
		return e, !again
	}
}

// plugging returns a source of n events: each worker has its own devices come and go.
func (k *kernel) plugging(tree *kerneltest.Tree, n int) func(int) (kerneltest.Event, bool) {
	left := make(chan int, n)
	for i := range n {
		left <- i
	}
	close(left)
	return func(worker int) (kerneltest.Event, bool) {
		if _, more := <-left; !more {
			return kerneltest.Event{}, false
		}
		i := worker*8 + rand.IntN(8)
		d := kerneltest.Device{
			Devpath: fmt.Sprint("/devices/stress/stress", i), Subsystem: "stress",
			Devname: fmt.Sprint("stress", i), Major: 240, Minor: uint32(i),
		}
		e, err := tree.Add(d)
		if err != nil {
			e, err = tree.Remove(d.Devpath)
		}
		if err != nil {
			k.Error(err)
		}
		return e, true
	}
}

// kill kills servers until it is told to stop, and returns how many.
func (k *kernel) kill(stop chan bool) (n int) {
	for {
		select {
		case <-stop:
			return n
		case <-time.After(time.Duration(rand.IntN(20_000)) * time.Microsecond):
			if pid := server(); pid > 0 && syscall.Kill(pid, syscall.SIGKILL) == nil {
				n++
			}
		}
	}
}

// server returns the process that holds the server's lock, or 0.
func server() int { return kerneltest.FlockHolder(filepath.Dir(handoff.Path) + "/server") }

// compare tells where /dev is not what the tree says.
func (k *kernel) compare(tree *kerneltest.Tree) {
	k.Helper()
	want := map[string]bool{}
	for _, d := range tree.Devices() {
		want[d.Devname] = true
	}
	found, err := filepath.Glob("/dev/stress*")
	if err != nil {
		k.Fatal(err)
	}
	for _, path := range found {
		if !want[filepath.Base(path)] {
			k.Errorf("%s is too much", path)
		}
		delete(want, filepath.Base(path))
	}
	for name := range want {
		k.Errorf("/dev/%s is missing", name)
	}
}
