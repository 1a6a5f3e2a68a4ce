package hotplug

import (
	"devspool/hotplug/hotplugtest"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// deafLoop is a socket at the place of a loop's, at which nobody accepts.
func deafLoop(b *board) (listener int) {
	b.t.Helper()
	d := b.other()
	_, err := d.Lock() // which makes the private directory
	hotplugtest.Must(b.t, err)
	hotplugtest.Must(b.t, d.Unlock())
	addr, dir, err := controlAddress(d)
	hotplugtest.Must(b.t, err)
	defer unix.Close(dir)
	listener, err = controlSocket(0)
	hotplugtest.Must(b.t, err)
	hotplugtest.Must(b.t, unix.Bind(listener, addr))
	hotplugtest.Must(b.t, unix.Listen(listener, 1))
	return listener
}

// TestBusyLoop is about a loop that is too busy to accept: whoever would be
// another loop must find out without waiting for it, since it holds the lock that
// the first one may need.
func TestBusyLoop(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	listener := deafLoop(b)
	defer unix.Close(listener)
	addr, dir, err := controlAddress(b.other())
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
			b := newBoard(t, "")
			listener := deafLoop(b)
			d := b.other()
			type answer struct {
				served bool
				err    error
			}
			answers := make(chan answer, 1)
			go func() {
				served, err := Delegate(d, b.config.Path())
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
