package broker

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/spool"
	"devspool/hotplug/uevent"
)

func TestMain(m *testing.M) {
	flag.Set("test.parallel", "8") // the tests mostly wait; an explicit -parallel overrides this
	os.Exit(kerneltest.Main(m))
}

// shop is where a test publishes: a directory as /dev with a spool below it.
type shop struct {
	*testing.T
	dev string
	Options
	mu  sync.Mutex
	log []string
}

// newShop makes a shop on /dev, for tests in namespaces.
func newShop(t *testing.T) *shop {
	h := &shop{T: t, dev: "/dev"}
	h.must(os.MkdirAll("/dev/.devspool", 0o700))
	h.Options = Options{Private: "/dev/.devspool", Events: spool.DefaultEvents, Libudev: spool.DefaultLibudev,
		Mount: true, Resident: true, Log: func(text string) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.log = append(h.log, text)
			t.Log(text)
		}}
	return h
}

func (h *shop) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// open opens the spool until the end of the test.
func (h *shop) open() *Broker {
	h.Helper()
	s, err := Open(h.Options)
	h.must(err)
	h.Cleanup(s.Close)
	return s
}

// said reports whether the log holds text.
func (h *shop) said(text string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, line := range h.log {
		if strings.Contains(line, text) {
			return true
		}
	}
	return false
}

// numbered returns an event whose N is n.
func numbered(n int) *uevent.Event {
	e, _ := uevent.FromEnviron([]string{"ACTION=change", "DEVPATH=/devices/virtual/mem/null", "SUBSYSTEM=mem", "N=" + strconv.Itoa(n)})
	return e
}

// publish publishes the events from one number up to another, both included.
func (h *shop) publish(s *Broker, from, to int) {
	h.Helper()
	for n := from; n <= to; n++ {
		h.must(s.Publish(numbered(n), []string{"DEVNAME=/dev/null"}))
	}
}

// queue makes a queue as mkdir does, whose owner this process is.
func (h *shop) queue(root, name string, files ...string) string {
	h.Helper()
	name += "-" + strconv.Itoa(os.Getpid())
	path, hidden := filepath.Join(root, name), filepath.Join(root, "."+name)
	h.must(os.Mkdir(hidden, 0o755))
	for _, file := range files {
		name, text, _ := strings.Cut(file, ":")
		h.must(os.WriteFile(filepath.Join(hidden, name), []byte(text), 0o644))
	}
	h.must(os.Rename(hidden, path))
	return path
}

// numbers returns the numbers of the event files in a queue, and their N.
func numbers(t *testing.T, queue string) (names []uint64, values []string) {
	t.Helper()
	entries, err := os.ReadDir(queue)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		n, ok := spool.EventNumber(e.Name())
		if !ok {
			continue
		}
		text, err := os.ReadFile(filepath.Join(queue, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		p, err := spool.Parse(text)
		if err != nil {
			t.Fatalf("%s: %v\n%s", e.Name(), err, text)
		}
		value, ok := p.Get("N")
		if lost, gap := p.Get("LOST"); gap && !ok {
			value = "lost " + lost
		}
		names, values = append(names, n), append(values, value)
	}
	return names, values
}

// span returns the numbers from one to another, both included.
func span(from, to int) string {
	var all []string
	for n := from; n <= to; n++ {
		all = append(all, strconv.Itoa(n))
	}
	return strings.Join(all, " ")
}

// holds fails the test unless a queue has these N, in order.
func (h *shop) holds(queue, want string) {
	h.Helper()
	if _, values := numbers(h.T, queue); strings.Join(values, " ") != want {
		h.Errorf("%s holds %v, want %s", filepath.Base(queue), values, want)
	}
}

// take removes the oldest events of a queue, up to count, and returns their N.
func (h *shop) take(queue string, count int) []string {
	h.Helper()
	names, values := numbers(h.T, queue)
	count = min(count, len(names))
	for _, n := range names[:count] {
		h.must(os.Remove(filepath.Join(queue, spool.EventName(n))))
	}
	return values[:count]
}

// until waits for something.
func (h *shop) until(what string, ok func() bool) {
	h.Helper()
	kerneltest.Until(h.T, 10*time.Second, what, ok)
}

func gone(path string) bool {
	_, err := os.Lstat(path)
	return os.IsNotExist(err)
}

// entriesOf returns how many entries a directory has, or -1.
func entriesOf(path string) int {
	entries, err := os.ReadDir(path)
	if err != nil {
		return -1
	}
	return len(entries)
}

// clean fails the test where the spool keeps something for nobody.
func (h *shop) clean() {
	h.Helper()
	private := h.Private + "/" + spoolDir
	for _, dir := range []string{"held", "making", "trash"} {
		if n := entriesOf(private + "/" + dir); n != 0 {
			h.Errorf("%s holds %d entries", dir, n)
		}
	}
	queues := max(0, entriesOf(h.Events)) + max(0, entriesOf(h.Libudev))
	if n := entriesOf(private + "/queues"); n != queues {
		h.Errorf("%d states are kept of %d queues", n, queues)
	}
}

func (h *shop) subscribe(o spool.Subscription) *spool.Reader {
	h.Helper()
	o.Root = h.Events
	r, err := spool.Subscribe(context.Background(), o)
	h.must(err)
	h.Cleanup(func() { r.Close() })
	return r
}

// next reads an event's N, or what a gap says.
func (h *shop) next(r *spool.Reader) string {
	h.Helper()
	p, err := r.Next()
	h.must(err)
	if lost, ok := p.Get("LOST"); ok {
		return "lost " + lost
	}
	n, _ := p.Get("N")
	return n
}

func statOf(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", path, err))
	}
	return st
}
