package hotplug

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

// mailbox is a datagram socket that somebody else listens at.
type mailbox struct {
	t  *testing.T
	fd int
}

func newMailbox(t *testing.T, address string) *mailbox {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: address}))
	return &mailbox{t, fd}
}

// next returns what came next, or "".
func (m *mailbox) next() string {
	m.t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Read(m.fd, buf)
	if err == unix.EAGAIN {
		return ""
	}
	must(m.t, err)
	return string(buf[:n])
}

// abstract is an address that no other test has.
func abstract(t *testing.T) string { return fmt.Sprintf("@devspool/%d/%s", os.Getpid(), t.Name()) }

func TestSocket(t *testing.T) {
	needRoot(t)
	b := newBoard(t, "-sda 0:0 660 @socket:TMP/box\nsda 0:0 660 *socket:"+abstract(t)+"\n")
	path, named := newMailbox(t, filepath.Join(b.tmp, "box")), newMailbox(t, abstract(t))
	b.sys.add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	b.run(b.sys.event("add", "/devices/block/sda"))
	b.wantNode("sda", "b8:0 0660")
	want := "add@/devices/block/sda\x00ACTION=add\x00DEVPATH=/devices/block/sda\x00SUBSYSTEM=block\x00MAJOR=8\x00MINOR=0\x00DEVNAME=sda\x00"
	for _, m := range []*mailbox{path, named} {
		if got := m.next(); got != want {
			t.Errorf("came: %q, want %q", got, want)
		}
	}
	b.sys.remove("/devices/block/sda")
	b.run(newEvent(t, "ACTION=remove", "DEVPATH=/devices/block/sda", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0", "DEVNAME=sda"))
	b.wantNode("sda", "") // though there was something to send before
	if got := named.next(); !strings.HasPrefix(got, "remove@/devices/block/sda\x00ACTION=remove\x00") {
		t.Errorf("came: %q", got)
	}
	if got := path.next() + named.next(); got != "" {
		t.Errorf("came too: %q", got)
	}
}

// TestSocketInLine shows that what is sent keeps its place among the commands.
func TestSocketInLine(t *testing.T) {
	needRoot(t)
	const gate = "@touch TMP/at%d; until test -e TMP/go%d; do sleep 0.01; done\n"
	to := abstract(t)
	b := newBoard(t, fmt.Sprintf("-sda 0:0 660 "+gate, 1, 1)+"-sda 0:0 660 @socket:"+to+"\n"+
		fmt.Sprintf("-sda 0:0 660 "+gate, 2, 2)+"sda 0:0 660 @socket:"+to+"\n")
	m := newMailbox(t, to)
	b.sys.add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	batch := b.Run([]*uevent.Event{b.sys.event("add", "/devices/block/sda")})
	for n := range 2 {
		eventually(t, "a command", func() bool { return b.said(fmt.Sprint("at", n+1)) != nil })
		if n == 1 && m.next() == "" {
			t.Error("nothing came before the second command")
		}
		if got := m.next(); got != "" {
			t.Errorf("while command %d runs came %q", n+1, got)
		}
		writeFile(t, filepath.Join(b.tmp, fmt.Sprint("go", n+1)), "")
	}
	b.wait(batch)
	b.rested()
	if m.next() == "" {
		t.Error("nothing came at the end")
	}
}

// TestSocketNeedsNoSlot sends while all commands that may run hang.
func TestSocketNeedsNoSlot(t *testing.T) {
	needRoot(t)
	to := abstract(t)
	b := newBoard(t, "sda 0:0 660 @until test -e TMP/go; do sleep 0.01; done\n.* 0:0 660 *socket:"+to+"\n")
	m := newMailbox(t, to)
	b.Jobs = 1
	b.sys.add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	b.sys.add("/devices/block/sdb", "block", "8:16", "DEVNAME=sdb")
	hung := b.Run([]*uevent.Event{b.sys.event("add", "/devices/block/sda")})
	b.wait(b.Run([]*uevent.Event{b.sys.event("add", "/devices/block/sdb")}))
	if m.next() == "" {
		t.Error("nothing came")
	}
	writeFile(t, filepath.Join(b.tmp, "go"), "")
	b.wait(hung)
	b.rested()
}

// TestSocketUnheard is about listeners that are missing, or do not read: the event
// goes its way, and only a verbose log tells.
func TestSocketUnheard(t *testing.T) {
	needRoot(t)
	to := abstract(t)
	b := newBoard(t, "-sda 0:0 660 *socket:TMP/missing\n-sda 0:0 660 *socket:"+to+"\nsda 0:0 660 *socket:"+to+"2\n")
	m := newMailbox(t, to)
	b.sys.add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	const many = 1000 // of which a socket holds some
	var all []*uevent.Event
	for range many {
		all = append(all, b.sys.event("change", "/devices/block/sda"))
	}
	if !b.run(all...) {
		t.Error("a listener's fault counts as the event's")
	}
	came := 0
	for m.next() != "" {
		came++
	}
	if came == 0 || came == many {
		t.Errorf("%d of %d came", came, many)
	}
	b.log.want("info: not sent", "/devices/block/sda", "mdev.conf:1: socket:", "no such file")
	b.log.want("info: not sent", "mdev.conf:2: socket:"+to, "temporarily unavailable")
	b.log.want("info: not sent", "mdev.conf:3: socket:"+to+"2", "connection refused")
}
