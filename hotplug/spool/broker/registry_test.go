package broker

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// Queues that are renamed all the time, and change names with each other, get every
// event.
func TestRenamed(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	h := newShop(t)
	s := h.open()
	a, b := h.queue(h.Events, "a", ".nolinks"), h.queue(h.Events, "b", ".nolinks")
	dirs := []*os.File{}
	for _, path := range []string{a, b} {
		dir, err := os.Open(path)
		h.must(err)
		defer dir.Close()
		dirs = append(dirs, dir)
	}
	c := filepath.Join(h.Events, "c-"+filepath.Base(a)[2:])
	h.must(s.Upkeep()) // both are known
	ended := make(chan bool)
	var renamer sync.WaitGroup
	renamer.Go(func() {
		for {
			select {
			case <-ended:
				return
			default:
			}
			unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
			for _, q := range []string{a, b} {
				os.Rename(q, c)
				os.Rename(c, q)
			}
		}
	})
	const events = 3000
	h.publish(s, 1, events)
	close(ended)
	renamer.Wait()
	for _, dir := range dirs {
		if _, got := numbers(t, "/proc/self/fd/"+strconv.Itoa(int(dir.Fd()))); len(got) != events {
			t.Errorf("%s got %d of %d events", filepath.Base(dir.Name()), len(got), events)
		}
	}
	h.must(os.RemoveAll(a))
	h.must(os.RemoveAll(b))
	h.until("both are forgotten", func() bool {
		h.must(s.Upkeep())
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.registry.queues) == 0
	})
	h.clean()

	// One that is taken out of the root is a queue no longer.
	inner, outer := h.queue(h.Events, "in", ".nolinks"), h.queue(h.Events, "out", ".nolinks")
	h.publish(s, 1, 1)
	h.must(os.Rename(inner, outer+"/in"))
	h.publish(s, 2, 3)
	h.holds(outer, "1 2 3")
	h.holds(outer+"/in", "1")
}

// A queue that could not be opened for want of descriptors is used when there are some.
func TestNoDescriptors(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	h := newShop(t)
	s := h.open()
	limit := unix.Rlimit{Cur: 200, Max: 200}
	h.must(unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	var taken []int
	for {
		fd, err := unix.Dup(0)
		if err != nil {
			break
		}
		taken = append(taken, fd)
	}
	queue := h.queue(h.Events, "x")
	s.Publish(numbered(1), nil)
	for _, fd := range taken {
		unix.Close(fd)
	}
	if !h.said("cannot open a queue") {
		t.Error("the queue could be opened")
	}
	h.until("the queue is used", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.registry.queues) == 1
	})
	h.publish(s, 2, 2)
	h.holds(queue, "2")
}
