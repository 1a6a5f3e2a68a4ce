package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// press prints events as a publisher does: complete files, linked into every live
// queue under the next number.
type press struct {
	*testing.T
	root   string
	number uint64
}

func newPress(t *testing.T) *press { return &press{T: t, root: t.TempDir()} }

// onTmpfs returns a press for tests in namespaces that read and publish at once: on
// other file systems a list of a directory may hold a name and lack an older one.
func onTmpfs(t *testing.T) *press {
	p := &press{T: t, root: "/dev/events"}
	p.must(os.Mkdir(p.root, 0o777))
	return p
}

func (p *press) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// master is the link that keeps a file while it goes into queues: a reader may be
// so quick that the file has no other.
func (p *press) master() string { return p.root + "/.master" }

func (p *press) write(text string) {
	p.Helper()
	os.Remove(p.master())
	p.must(os.WriteFile(p.master(), []byte(text), 0o444))
}

// link links the file that was written into every queue.
func (p *press) link() {
	p.Helper()
	p.number++
	queues, err := os.ReadDir(p.root)
	p.must(err)
	for _, q := range queues {
		if q.Name()[0] != '.' {
			if err := os.Link(p.master(), fmt.Sprintf("%s/%s/%020d", p.root, q.Name(), p.number)); err != nil {
				p.Fatal(err)
			}
		}
	}
}

// publish publishes an event whose N is its number.
func (p *press) publish() {
	p.Helper()
	p.write(fmt.Sprintf("change@/devices/x\nACTION=change\nDEVPATH=/devices/x\nN=%d\n", p.number+1))
	p.link()
	p.must(os.Remove(p.master()))
}

func (p *press) subscribe(o Subscription) *Reader {
	p.Helper()
	o.Root = p.root
	r, err := Subscribe(p.Context(), o)
	p.must(err)
	p.Cleanup(func() { r.Close() })
	return r
}

// expect reads one event, whose number is n.
func (p *press) expect(r *Reader, n uint64) {
	p.Helper()
	e, err := r.TryNext()
	if got, _ := e.Get("N"); err != nil || got != strconv.FormatUint(n, 10) {
		p.Fatalf("event %d is %q, error %v", n, e, err)
	}
}

// readable reports whether poll says so of the Reader.
func readable(r *Reader) bool {
	fds := []unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}}
	n, _ := unix.Poll(fds, 0)
	return n == 1 && fds[0].Revents == unix.POLLIN
}

func TestSubscribe(t *testing.T) {
	t.Parallel()
	p := newPress(t)
	p.publish() // for nobody
	plain := p.subscribe(Subscription{Name: "x"})
	second := p.subscribe(Subscription{Name: "x", Filter: []string{"subsystem=block", "tag=a"}})
	sticky := p.subscribe(Subscription{Sticky: true})
	name := filepath.Join(p.root, "x-"+strconv.Itoa(os.Getpid()))
	if plain.Path() != name || second.Path() != name+"-1" {
		t.Errorf("the queues are %s and %s", plain.Path(), second.Path())
	}
	for path, want := range map[string]string{
		plain.Path():  ".nolinks 0644 \"\"",
		second.Path(): ".filter 0644 \"subsystem=block\\ntag=a\\n\" .nolinks 0644 \"\"",
		sticky.Path(): ".nolinks 0644 \"\" .sticky 0644 \"\"",
	} {
		if got := content(t, path); got != want {
			t.Errorf("%s holds %s, want %s", path, got, want)
		}
		dir, err := os.Open(path)
		p.must(err)
		if err := unix.Flock(int(dir.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != unix.EWOULDBLOCK {
			t.Errorf("%s is not locked: %v", path, err)
		}
		dir.Close()
	}
	p.publish()
	for _, r := range []*Reader{plain, second, sticky} {
		p.expect(r, 2)
		p.must(r.Close())
		if err := r.Close(); err != os.ErrClosed {
			t.Errorf("closed twice: %v", err)
		}
		if _, err := r.Next(); err != os.ErrClosed {
			t.Errorf("read after Close: %v", err)
		}
	}
	if got := names(t, p.root); !slices.Equal(got, []string{filepath.Base(sticky.Path())}) {
		t.Errorf("left behind: %v", got)
	}
	again, err := NewReader(t.Context(), sticky.Path())
	p.must(err)
	p.publish()
	p.expect(again, 3)
	p.must(again.Close())
}

func TestSubscribeRefused(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, test := range []struct {
		o    Subscription
		want error
	}{
		{Subscription{Root: root + "/missing"}, unix.ENOENT},
		{Subscription{Root: root, Name: ".x"}, unix.EINVAL},
		{Subscription{Root: root, Name: "x/y"}, unix.EINVAL},
		{Subscription{Root: root, Filter: []string{"A=1\nB=2"}}, ErrFilter},
		{Subscription{Root: root, Filter: []string{"A=1", ""}}, ErrFilter},
		{Subscription{Root: root, Filter: []string{"block"}}, ErrFilter},
		{Subscription{Root: root, Filter: []string{"A=" + strings.Repeat("x", MaxFilter-2)}}, unix.E2BIG},
	} {
		if r, err := Subscribe(t.Context(), test.o); !errors.Is(err, test.want) {
			t.Errorf("%+v: %v, error %v, want %v", test.o, r, err, test.want)
		}
	}
	if got := names(t, root); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

// TestSubscribeTaken is about names that dead processes of our number left.
func TestSubscribeTaken(t *testing.T) {
	t.Parallel()
	p := newPress(t)
	name := filepath.Join(p.root, "x-"+strconv.Itoa(os.Getpid()))
	p.must(os.Mkdir(name, 0o700))
	p.must(os.Mkdir(filepath.Join(p.root, ".x-"+strconv.Itoa(os.Getpid())+"-1"), 0o700))
	r := p.subscribe(Subscription{Name: "x"})
	if r.Path() != name+"-2" {
		t.Errorf("the queue is %s", r.Path())
	}
}

func content(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	for _, name := range names(t, dir) {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s %04o %q", name, st.Mode(), text))
	}
	return strings.Join(all, " ")
}

func TestNext(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	p := onTmpfs(t)
	p.number = 95 // 99 becomes 100 on the way
	r := p.subscribe(Subscription{})
	const events = 200
	go func() {
		for range events {
			time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond) // the reader is now ahead, now behind
			p.publish()
		}
	}()
	for n := range uint64(events) {
		e, err := r.Next()
		p.must(err)
		if got, _ := e.Get("N"); got != strconv.FormatUint(96+n, 10) {
			t.Fatalf("event %d is %q", 96+n, e)
		}
	}
}

func TestNextEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(r *Reader, cancel func()) error{
		"cancelled": func(r *Reader, cancel func()) error { cancel(); return context.Canceled },
		"closed":    func(r *Reader, cancel func()) error { r.Close(); return os.ErrClosed },
		"removed": func(r *Reader, cancel func()) error {
			os.Rename(r.Path(), r.Path()+".gone")
			return unix.ENOENT
		},
	} {
		p := newPress(t)
		ctx, cancel := context.WithCancel(t.Context())
		r, err := Subscribe(ctx, Subscription{Root: p.root})
		p.must(err)
		ended := make(chan error)
		go func() {
			_, err := r.Next()
			ended <- err
		}()
		want := end(r, cancel)
		select {
		case err := <-ended:
			if !errors.Is(err, want) {
				t.Errorf("%s: error %v, want %v", name, err, want)
			}
		case <-time.After(patience):
			t.Errorf("%s: Next does not end", name)
		}
		r.Close()
		cancel()
	}
}

// TestFd looks at the level of the descriptor in every state of a queue.
func TestFd(t *testing.T) {
	t.Parallel()
	p := newPress(t)
	r := p.subscribe(Subscription{})
	level := func(want bool) {
		t.Helper()
		for range 2 { // looking changes nothing
			if got := readable(r); got != want {
				t.Fatalf("readable: %v", got)
			}
		}
	}
	level(false)
	for _, burst := range []uint64{1, 2, 3, 1} {
		first := p.number + 1
		for range burst {
			p.publish()
			level(true)
		}
		for n := range burst {
			level(true)
			p.expect(r, first+n)
		}
		level(false)
		if _, err := r.TryNext(); err != ErrEmpty {
			t.Fatalf("an empty queue: %v", err)
		}
		level(false)
	}

	// What came while the reader was at another.
	p.publish()
	p.publish()
	p.expect(r, p.number-1)
	p.publish()
	p.expect(r, p.number-1)
	level(true)
	p.expect(r, p.number)
	level(false)

	// Another reader takes everything: readable in vain, once.
	other, err := NewReader(t.Context(), r.Path())
	p.must(err)
	defer other.Close()
	p.publish()
	if !readable(other) || !readable(r) {
		t.Fatal("one event does not wake both")
	}
	p.expect(other, p.number)
	if _, err := r.TryNext(); err != ErrEmpty {
		t.Fatalf("what another took: %v", err)
	}
	level(false)

	// A reader that comes later finds what is there.
	p.publish()
	late, err := NewReader(t.Context(), r.Path())
	p.must(err)
	defer late.Close()
	if !readable(late) {
		t.Fatal("what was there before does not wake")
	}
	p.expect(late, p.number)
}

// TestFdOverflow publishes more than inotify's queue holds.
func TestFdOverflow(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		kerneltest.Cannot(t, "%v", err)
	}
	most, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || most > 1<<17 {
		kerneltest.Cannot(t, "inotify's queue holds %s", text)
	}
	p := newPress(t)
	r := p.subscribe(Subscription{})
	p.write(null)
	for range most + 100 {
		p.link()
	}
	for n := range most + 100 {
		if !readable(r) {
			t.Fatalf("not readable after %d events", n)
		}
		if _, err := r.TryNext(); err != nil {
			t.Fatal(err)
		}
	}
	if readable(r) {
		t.Error("readable when all is read")
	}
	p.link()
	if !readable(r) {
		t.Error("not readable after the overflow")
	}
}

// TestForeign is about what others may put into a queue.
func TestForeign(t *testing.T) {
	t.Parallel()
	p := newPress(t)
	r := p.subscribe(Subscription{})
	p.must(os.WriteFile(r.Path()+"/note", nil, 0o644))
	p.must(os.Symlink("00000000000000000003", r.Path()+"/head"))
	p.must(os.Mkdir(r.Path()+"/1", 0o755))
	p.write("no event\n")
	p.link()
	p.publish()
	if _, err := r.TryNext(); err != ErrMalformed {
		t.Errorf("a file that is no event: %v", err)
	}
	p.expect(r, 2)
	if _, err := r.TryNext(); err != ErrEmpty {
		t.Errorf("what is no file of an event: %v", err)
	}
	p.must(os.Remove(r.Path() + "/1"))
}

func init() {
	kerneltest.Roles["reader"] = func() {
		r, err := NewReader(context.Background(), os.Args[1])
		printNumbers(r, err)
	}
}

// readers starts n processes that read one queue.
func (p *press) readers(n int, path string) (outputs []*bytes.Buffer, wait func()) {
	p.Helper()
	var running []*exec.Cmd
	for range n {
		cmd, out := kerneltest.Actor("reader", path), &bytes.Buffer{}
		cmd.Stdout = out
		p.must(cmd.Start())
		p.Cleanup(func() { cmd.Process.Kill() })
		running, outputs = append(running, cmd), append(outputs, out)
	}
	return outputs, func() {
		p.Helper()
		for _, cmd := range running {
			p.must(cmd.Wait())
		}
	}
}

// got returns the numbers that a reader printed.
func (p *press) got(out *bytes.Buffer) (numbers []uint64) {
	for line := range strings.Lines(out.String()) {
		n, err := strconv.ParseUint(strings.TrimSuffix(line, "\n"), 10, 64)
		p.must(err)
		numbers = append(numbers, n)
	}
	return numbers
}

// TestTwoReaders has two processes pop 100,000 events from one queue while they
// are published: each event comes to one of them, and to each in order.
func TestTwoReaders(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	p := onTmpfs(t)
	queue := p.root + "/q-1"
	p.must(os.Mkdir(queue, 0o700))
	outputs, wait := p.readers(2, queue)
	events := 100_000
	if testing.Short() {
		events = 10_000
	}
	for p.number < uint64(events) {
		if p.number%500 == 0 { // the readers are now ahead, now behind
			kerneltest.Until(t, patience, "the readers", func() bool { return len(names(t, queue)) < 2000 })
		}
		p.publish()
	}
	p.write(null)
	p.link()
	p.link()
	wait()
	all := map[uint64]int{}
	for _, out := range outputs {
		numbers := p.got(out)
		if !slices.IsSorted(numbers) {
			t.Error("a reader got events out of order")
		}
		t.Logf("%d events", len(numbers))
		for _, n := range numbers {
			all[n]++
		}
	}
	for n := range uint64(events) {
		if all[n+1] != 1 {
			t.Fatalf("event %d was got %d times", n+1, all[n+1])
		}
	}
	if left := names(t, queue); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
