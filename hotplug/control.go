package hotplug

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"

	"devspool/nodes"
)

// ErrRunning is returned where another loop already serves this /dev.
var ErrRunning = errors.New("another loop already serves this /dev; stop it first")

// control is the loop's socket in the private directory, by which other
// processes ask it to work for them: one request a connection, one answer.
type control struct {
	fd    int
	conns []*conn
}

// conn is a connection of a process that asks.
type conn struct {
	fd    int
	asked bool // its request was read, its answer is due
}

// Requests and answers.
const (
	requestColdplug = "coldplug"
	answerDone      = "done"
	answerFailed    = "failed: see the loop's log"
)

// controlAddress names the socket without regard to how long /dev's path is:
// an address has room for 107 bytes.
func controlAddress(dev *nodes.Dir) (addr *unix.SockaddrUnix, release func(), err error) {
	fd, err := dev.OpenPrivate()
	if err != nil {
		return nil, nil, err
	}
	path := "/proc/self/fd/" + strconv.Itoa(fd)
	if unix.Access(path, unix.F_OK) != nil {
		path = dev.Path() + "/" + nodes.Private // no /proc yet
	}
	return &unix.SockaddrUnix{Name: path + "/control"}, func() { unix.Close(fd) }, nil
}

func controlSocket() (int, error) {
	return unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
}

// openControl makes the socket, and so claims this /dev for one loop. The lock
// must be held, or two could claim it at once.
func openControl(dev *nodes.Dir) (*control, error) {
	addr, release, err := controlAddress(dev)
	if err != nil {
		return nil, err
	}
	defer release()
	fd, err := controlSocket()
	if err != nil {
		return nil, err
	}
	if unix.Connect(fd, addr) == nil {
		unix.Close(fd)
		return nil, ErrRunning
	}
	unix.Unlink(addr.Name) // a dead loop's
	err = unix.Bind(fd, addr)
	if err == nil {
		err = unix.Listen(fd, 16)
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &control{fd: fd}, nil
}

// close lets go of the socket. Who waits for an answer gets none.
func (c *control) close() {
	for _, k := range c.conns {
		unix.Close(k.fd)
	}
	unix.Close(c.fd)
}

// accept takes one new connection, of root or of the loop's own user.
func (c *control) accept() {
	fd, _, err := unix.Accept4(c.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return
	}
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || peer.Uid != 0 && int(peer.Uid) != unix.Geteuid() {
		unix.Close(fd)
		return
	}
	c.conns = append(c.conns, &conn{fd: fd})
}

// request reads what k asks for; "" where it has hung up.
func (k *conn) request() string {
	var buf [256]byte
	n, err := unix.Read(k.fd, buf[:])
	if n <= 0 || err != nil {
		return ""
	}
	k.asked = true
	return string(buf[:n])
}

// drop closes k and forgets it.
func (c *control) drop(k *conn) {
	unix.Close(k.fd)
	for i := range c.conns {
		if c.conns[i] == k {
			c.conns = append(c.conns[:i], c.conns[i+1:]...)
			return
		}
	}
}

// answer tells all who asked.
func (c *control) answer(text string) {
	var waiting []*conn
	for _, k := range c.conns {
		if !k.asked {
			waiting = append(waiting, k)
			continue
		}
		unix.SendmsgN(k.fd, []byte(text), nil, nil, unix.MSG_NOSIGNAL)
		unix.Close(k.fd)
	}
	c.conns = waiting
}

// HandOver asks a living loop to coldplug, and waits for the end of it. Served
// is false where no loop serves this /dev.
func HandOver(dev *nodes.Dir) (served bool, err error) {
	addr, release, err := controlAddress(dev)
	if err != nil {
		return false, nil // no private directory, so no loop
	}
	defer release()
	fd, err := controlSocket()
	if err != nil {
		return false, nil
	}
	defer unix.Close(fd)
	if unix.Connect(fd, addr) != nil {
		return false, nil
	}
	if _, err := unix.SendmsgN(fd, []byte(requestColdplug), nil, nil, unix.MSG_NOSIGNAL); err != nil {
		return false, nil
	}
	var buf [256]byte
	n := 0
	err = retryEINTR(func() (err error) { n, err = unix.Read(fd, buf[:]); return err })
	switch {
	case err != nil || n == 0:
		return false, nil // it ended before it answered: do it ourselves
	case string(buf[:n]) != answerDone:
		return true, errors.New(string(buf[:n]))
	}
	return true, nil
}
