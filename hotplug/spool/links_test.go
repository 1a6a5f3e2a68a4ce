package spool

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// head returns the N of the event that head points to, or "".
func (h *shop) head(queue string) string {
	text, err := os.ReadFile(filepath.Join(queue, linkHead))
	if err != nil {
		return ""
	}
	p, err := Parse(text)
	h.must(err)
	n, _ := p.Get("N")
	return n
}

// points fails the test unless head and tail point to these N, once that is seen to.
func (h *shop) points(s *Spool, queue, head, tail string) {
	h.Helper()
	h.must(s.Tend())
	for link, want := range map[string]string{linkHead: head, linkTail: tail} {
		text, _ := os.ReadFile(filepath.Join(queue, link))
		p, _ := Parse(text)
		if n, _ := p.Get("N"); n != want {
			h.Errorf("%s points to %q, want %q", link, n, want)
		}
	}
}

// Head and tail follow whatever a client removes.
func TestHeadAndTail(t *testing.T) {
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	for _, resident := range []bool{true, false} {
		t.Run(fmt.Sprint("resident ", resident), func(t *testing.T) {
			h := newShop(t)
			h.Resident = resident
			s := h.open()
			queue := h.queue(h.Events, "x")
			remove := func(name string) {
				t.Helper()
				h.must(os.Remove(filepath.Join(queue, name)))
				if !resident { // who looks next is another process
					s.Close()
					s = h.open()
				}
			}
			h.points(s, queue, "", "")
			h.publish(s, 1, 6)
			h.points(s, queue, "1", "6")
			remove(linkHead)
			h.points(s, queue, "2", "6")
			h.holds(queue, "2 3 4 5 6")
			names, _ := numbers(t, queue)
			remove(fileName(names[0]))
			h.points(s, queue, "3", "6")
			remove(fileName(names[2]))
			remove(linkTail)
			h.points(s, queue, "3", "5")
			h.publish(s, 7, 7)
			h.points(s, queue, "3", "7")
			h.holds(queue, "3 5 7")
			remove(linkHead)
			h.points(s, queue, "5", "7")
			remove(fileName(names[3]))
			h.points(s, queue, "7", "7")
			remove(linkHead)
			h.points(s, queue, "", "")
			if n := entriesOf(queue); n != 0 {
				t.Errorf("%d entries are left", n)
			}
			h.publish(s, 8, 8)
			h.points(s, queue, "8", "8")
			os.RemoveAll(queue)
		})
	}
}

// A script that reads head and removes it gets every event, once and in order,
// while others come; and it is woken for each by IN_CREATE.
func TestScript(t *testing.T) {
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	const events = 2000
	h := newShop(t)
	h.Window = 50
	s := h.open()
	queue := h.queue(h.Events, "x")
	inotify, err := unix.InotifyInit1(0)
	h.must(err)
	_, err = unix.InotifyAddWatch(inotify, queue, unix.IN_CREATE)
	h.must(err)
	go h.publish(s, 1, events)
	var buf [4096]byte
	for n := 1; n <= events; {
		got := h.head(queue)
		if got == "" {
			if _, err := unix.Read(inotify, buf[:]); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got != fmt.Sprint(n) {
			t.Fatalf("head is %s, want %d", got, n)
		}
		h.must(os.Remove(filepath.Join(queue, linkHead)))
		h.until("head has moved on", func() bool { return h.head(queue) != got })
		n++
	}
	h.must(s.Tend())
	h.clean()
}

// What stands in the place of a link is its client's own fault.
func TestLinksInTheWay(t *testing.T) {
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	h := newShop(t)
	s := h.open()
	queue, other := h.queue(h.Events, "x"), h.queue(h.Events, "y")
	h.must(os.Mkdir(queue+"/head", 0o755))
	h.must(os.Symlink("/etc/passwd", queue+"/tail"))
	h.publish(s, 1, 3)
	h.holds(queue, "1 2 3")
	h.points(s, other, "1", "3")
	if text, err := os.ReadFile("/etc/passwd"); err != nil || !strings.Contains(string(text), "root") {
		t.Error("/etc/passwd has changed")
	}
}
