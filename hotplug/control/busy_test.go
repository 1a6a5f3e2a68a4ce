package control

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/hotplugtest/board"
)

// deafLoop is a socket at the place of a loop's, at which nobody accepts.
func deafLoop(b *board.Board) (listener int) {
	b.T.Helper()
	d := b.Other()
	_, err := d.LockDev() // which makes the private directory
	hotplugtest.Must(b.T, err)
	hotplugtest.Must(b.T, d.UnlockDev())
	addr, dir, err := controlAddress(d)
	hotplugtest.Must(b.T, err)
	defer unix.Close(dir)
	listener, err = controlSocket(0)
	hotplugtest.Must(b.T, err)
	hotplugtest.Must(b.T, unix.Bind(listener, addr))
	hotplugtest.Must(b.T, unix.Listen(listener, 1))
	return listener
}

// TestBusyLoop is about a loop that is too busy to accept: whoever would be
// another loop must find out without waiting for it, since it holds the lock that
// the first one may need.
func TestBusyLoop(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	listener := deafLoop(b)
	defer unix.Close(listener)
	addr, dir, err := controlAddress(b.Other())
	hotplugtest.Must(t, err)
	defer unix.Close(dir)
	for range 100 { // until no more go into its queue
		fd, err := controlSocket(unix.SOCK_NONBLOCK)
		hotplugtest.Must(t, err)
		defer unix.Close(fd)
		if unix.Connect(fd, addr) != nil {
			break
		}
	}
	result := make(chan error, 1)
	go func() {
		_, err := listen(b, nil)
		result <- err
	}()
	hotplugtest.Within(t, "the answer of a busy loop", func() {
		if err := <-result; !errors.Is(err, ErrRunning) {
			t.Errorf("error %v", err)
		}
	})
}

// TestHandOverAtTheEnd is about a loop that ends before it has answered the
// request: who asked does the work itself.
func TestHandOverAtTheEnd(t *testing.T) {
	hotplugtest.NeedRoot(t)
	for _, c := range []struct {
		name string
		dies func(listener int) // what the loop still does before it ends
	}{
		{"not accepted", func(int) {}},
		{"accepted, not read", func(listener int) {
			fd, _, _ := unix.Accept(listener)
			unix.Close(fd)
		}},
		{"read, not answered", func(listener int) {
			fd, _, _ := unix.Accept(listener)
			var buf [256]byte
			unix.Read(fd, buf[:])
			unix.Close(fd)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := board.New(t, "")
			listener := deafLoop(b)
			d := b.Other()
			type answer struct {
				served bool
				err    error
			}
			answers := make(chan answer, 1)
			go func() {
				served, err := Delegate(d, b.Config.Path())
				answers <- answer{served, err}
			}()
			hotplugtest.Eventually(t, "the request", func() bool {
				fds := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
				n, _ := unix.Poll(fds, 0)
				return n == 1
			})
			time.Sleep(20 * time.Millisecond) // for the request itself, which nothing shows before accept
			c.dies(listener)
			unix.Close(listener)
			hotplugtest.Within(t, "the answer", func() {
				if a := <-answers; a.served || a.err != nil {
					t.Errorf("served %v, error %v", a.served, a.err)
				}
			})
		})
	}
}

// TestStrangeRequests shows that the loop drops who asks for what it does not
// know, says nothing, or hangs up, and serves the others.
func TestStrangeRequests(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	controlled(b)
	addr, dir, err := controlAddress(b.Other())
	hotplugtest.Must(t, err)
	defer unix.Close(dir)
	connect := func() int {
		fd, err := controlSocket(0)
		hotplugtest.Must(t, err)
		hotplugtest.Must(t, unix.Connect(fd, addr))
		return fd
	}
	for _, request := range []string{"nonsense", "coldplug\n", strings.Repeat("x", 5000), "\x00\x00"} {
		fd := connect()
		unix.SendmsgN(fd, []byte(request), nil, nil, unix.MSG_NOSIGNAL)
		hotplugtest.Within(t, "the answer", func() {
			if err := readAnswer(fd, func(string) {}); err == nil || !strings.Contains(err.Error(), "does not know") {
				t.Errorf("%.20q got the answer %v", request, err)
			}
		})
		unix.Close(fd)
	}
	for range 5 {
		unix.Close(connect())
	}
	silent := connect()
	defer unix.Close(silent)
	impatient := connect()
	unix.SendmsgN(impatient, []byte("scan\x00"+b.Config.Path()), nil, nil, unix.MSG_NOSIGNAL)
	unix.Close(impatient)
	if served, err := Delegate(b.Other(), b.Config.Path()); !served || err != nil {
		t.Errorf("served %v, error %v", served, err)
	}
}
