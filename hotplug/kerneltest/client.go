package kerneltest

import (
	"bytes"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Client counts the events of one device that a netlink group brings, as a program does that
// has the receive buffer of the system's default, and takes some time over each event.
type Client struct {
	each  time.Duration
	count atomic.Int64
	over  atomic.Bool
}

// NewClient listens, in the calling thread's network namespace. Time below a millisecond it spends working, else it sleeps.
func NewClient(group uint32, devpath string, each time.Duration) (*Client, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: group}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000}) // to see the end
	c := &Client{each: each}
	go c.serve(fd, []byte("\x00DEVPATH="+devpath+"\x00"))
	return c, nil
}

func (c *Client) serve(fd int, wanted []byte) {
	defer unix.Close(fd)
	buf := make([]byte, 16<<10)
	for !c.over.Load() {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			continue // ENOBUFS: some are lost
		}
		if bytes.Contains(buf[:n], wanted) {
			c.count.Add(1)
		}
		if c.each >= time.Millisecond {
			time.Sleep(c.each)
			continue
		}
		for begun := time.Now(); time.Since(begun) < c.each; {
		}
	}
}

// Count returns how many events came.
func (c *Client) Count() int { return int(c.count.Load()) }

// Clients are a client that does nothing with an event, a usual one, and a slow one.
func Clients(group uint32, devpath string) (all []*Client, err error) {
	for _, each := range []time.Duration{0, 100 * time.Microsecond, time.Millisecond} {
		c, err := NewClient(group, devpath, each)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// Lost returns how many of so many events each client has not got when none come any more.
// It ends the clients.
func Lost(clients []*Client, events int) []int {
	const quiet = 400 * time.Millisecond
	lost := make([]int, len(clients))
	for last := -1; ; time.Sleep(quiet) {
		total := 0
		for i, c := range clients {
			lost[i] = events - c.Count()
			total += c.Count()
		}
		if total == last || total == events*len(clients) {
			for _, c := range clients {
				c.over.Store(true)
			}
			return lost
		}
		last = total
	}
}

// Loopback is the devpath of a device that each network namespace has for itself.
const Loopback = "/devices/virtual/net/lo"

// Burst has the kernel send so many change events of that device.
func Burst(events int) error {
	file, err := os.OpenFile("/sys"+Loopback+"/uevent", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	for range events {
		if _, err := file.WriteString("change"); err != nil {
			return err
		}
	}
	return nil
}
