package hotplug

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devspool/nodes"
)

// ErrRunning is returned where another loop already serves this /dev.
var ErrRunning = errors.New("another loop already serves this /dev; stop it first")

// Requests and answers. Behind requestColdplug stands the path of the config that
// the asker would use.
const (
	requestColdplug = "coldplug "
	answerDone      = "done"
	answerFailed    = "the loop could not do all; its log says what"
	answerNotMine   = "not mine" // the asker is to scan by itself
)

// control is the loop's socket in the private directory, by which other
// processes ask it to work for them: one request a connection, one answer.
type control struct {
	road *Road
	file *os.File
}

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

func controlSocket(flags int) (int, error) {
	return unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|flags, 0)
}

// openControl makes the socket, and so claims this /dev for one loop. The lock
// must be held, or two could claim it at once.
func openControl(r *Road) (*control, error) {
	addr, release, err := controlAddress(r.Dev)
	if err != nil {
		return nil, err
	}
	defer release()
	fd, err := controlSocket(unix.SOCK_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, addr); err == nil || err == unix.EAGAIN {
		unix.Close(fd)
		return nil, ErrRunning // EAGAIN: it lives, and has much to do
	}
	unix.Unlink(addr.Name) // a dead loop's
	if err = unix.Bind(fd, addr); err == nil {
		err = unix.Listen(fd, 16)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	c := &control{road: r, file: os.NewFile(uintptr(fd), "control")}
	go c.serve()
	return c, nil
}

// close lets go of the socket. Who waits for an answer still gets one.
func (c *control) close() { c.file.Close() }

// serve takes connections until the socket is closed.
func (c *control) serve() {
	conn, err := c.file.SyscallConn()
	if err != nil {
		return
	}
	for {
		var fd int
		var failure error
		err := conn.Read(func(listener uintptr) bool {
			fd, _, failure = unix.Accept4(int(listener), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			return failure != unix.EAGAIN
		})
		if err != nil {
			return
		}
		if failure != nil {
			time.Sleep(100 * time.Millisecond) // no descriptor to be had, perhaps
			continue
		}
		go c.answer(fd)
	}
}

// answer reads the request of one connection and does what it asks for. Only
// root, or the loop's own user, is answered.
func (c *control) answer(fd int) {
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	file := os.NewFile(uintptr(fd), "control")
	defer file.Close()
	if err != nil || peer.Uid != 0 && int(peer.Uid) != unix.Geteuid() {
		return
	}
	buf := make([]byte, len(requestColdplug)+unix.PathMax)
	n, err := file.Read(buf)
	if err != nil {
		return
	}
	conf, ours := strings.CutPrefix(string(buf[:n]), requestColdplug)
	switch {
	case !ours:
	case conf != c.road.Conf || c.road.started(int(peer.Pid)):
		file.WriteString(answerNotMine)
	case c.road.anew():
		file.WriteString(answerDone)
	default:
		file.WriteString(answerFailed)
	}
}

// started reports whether a process belongs to a command that runs. The loop
// would wait for it, and it for the loop.
func (r *Road) started(pid int) bool {
	group, err := unix.Getpgid(pid)
	r.mu.Lock()
	defer r.mu.Unlock()
	for run := range r.active {
		if err == nil && run.pid == group {
			return true
		}
	}
	return false
}

// anew reads the config again and coldplugs, and reports whether all could be
// done. A config that cannot be read leaves the one that there is.
func (r *Road) anew() (ok bool) {
	if r.Reload != nil {
		rules, err := r.Reload()
		if err != nil {
			r.Log.Print(Err, err.Error()+"; the old config stays")
		} else {
			r.mu.Lock()
			r.Rules = rules
			r.mu.Unlock()
			for _, p := range rules.Problems {
				r.Log.Print(Warning, p.String())
			}
		}
	}
	return Coldplug(r).Wait()
}

// HandOver asks a living loop to read its config anew and to coldplug, and waits
// for the end of it. Served is false where no loop serves this /dev, or one with
// another config.
func HandOver(r *Road) (served bool, err error) {
	addr, release, err := controlAddress(r.Dev)
	if err != nil {
		return false, nil // no private directory, so no loop
	}
	defer release()
	fd, err := controlSocket(0)
	if err != nil {
		return false, nil
	}
	defer unix.Close(fd)
	if unix.Connect(fd, addr) != nil {
		return false, nil
	}
	if _, err := unix.SendmsgN(fd, []byte(requestColdplug+r.Conf), nil, nil, unix.MSG_NOSIGNAL); err != nil {
		return false, nil
	}
	var buf [256]byte
	n := 0
	err = retryEINTR(func() (err error) { n, err = unix.Read(fd, buf[:]); return err })
	switch {
	case err != nil || n == 0 || string(buf[:n]) == answerNotMine:
		return false, nil // or it ended before it answered: do it ourselves
	case string(buf[:n]) != answerDone:
		return true, errors.New(string(buf[:n]))
	}
	return true, nil
}
