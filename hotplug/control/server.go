package control

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/reload"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sysfs"
	"devspool/nodes"
)

// ErrRunning is returned where another loop already serves this /dev.
var ErrRunning = errors.New("another loop already serves this /dev; stop it first")

// An answer is one packet for each line of text, and a last one. The first byte
// of a packet tells which it is.
const (
	answerLine     = 'l'
	answerDone     = 'd'
	answerFailed   = 'f' // what follows says why
	answerDeclined = 'n'
)

// Source is where the events of a Scheduler come from.
type Source interface {
	Name() string  // for the status
	Pending() bool // events have come that the Scheduler does not have yet

	// Stop makes it end, as SIGTERM does. It returns when another process may take its
	// place, or gone is closed.
	Stop(gone <-chan struct{})
}

// Options are what a Server works with.
type Options struct {
	Scheduler *scheduler.Scheduler
	Config    *reload.Config
	Dev       *nodes.Dir
	Sys       sysfs.FS
	Log       *log.Logger
	Source    Source
}

// Server is the socket in the private directory by which other processes ask the loop, or
// the helpers' leader, to work for them: one request a connection, one answer.
type Server struct {
	Options
	file *os.File
	dir  int // the private directory, to take the socket away at the end
}

// controlAddress names the socket without regard to how long /dev's path is:
// an address has room for 107 bytes.
func controlAddress(dev *nodes.Dir) (addr *unix.SockaddrUnix, fd int, err error) {
	fd, err = dev.OpenPrivate()
	if err != nil {
		return nil, -1, err
	}
	path := "/proc/self/fd/" + strconv.Itoa(fd)
	if unix.Access(path, unix.F_OK) != nil {
		path = dev.Path() + "/" + nodes.Private // no /proc yet
	}
	return &unix.SockaddrUnix{Name: path + "/" + controlName}, fd, nil
}

const controlName = "control"

func controlSocket(flags int) (int, error) {
	return unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|flags, 0)
}

// Listen makes the socket, and so claims this /dev for one process: ErrRunning tells that
// another one has it. /dev must be locked, or two could claim it at once.
func Listen(o Options) (*Server, error) {
	addr, dir, err := controlAddress(o.Dev)
	if err != nil {
		return nil, err
	}
	file, err := listenAt(addr)
	if err != nil {
		unix.Close(dir)
		return nil, err
	}
	c := &Server{Options: o, file: file, dir: dir}
	go c.serve()
	return c, nil
}

// listenAt listens at addr, unless another process does.
func listenAt(addr *unix.SockaddrUnix) (*os.File, error) {
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
	return os.NewFile(uintptr(fd), "control"), nil
}

// Close takes the socket away. Requests that are under way are still answered.
func (c *Server) Close() {
	unix.Unlinkat(c.dir, controlName, 0)
	unix.Close(c.dir)
	c.file.Close()
}

// serve takes connections until the socket is closed.
func (c *Server) serve() {
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

// maxRequest is how long a request may be, in bytes.
const maxRequest = 16 << 10

// answer reads the request of one connection and does what it asks for. Only
// root, or the loop's own user, is answered.
func (c *Server) answer(fd int) {
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	file := os.NewFile(uintptr(fd), "control")
	defer file.Close()
	if err != nil || peer.Uid != 0 && int(peer.Uid) != unix.Geteuid() {
		return
	}
	buf := make([]byte, maxRequest+1)
	n, err := file.Read(buf)
	if err != nil {
		return
	}
	if n > maxRequest {
		file.Write(append([]byte{answerFailed}, "the request is too long"...))
		return
	}
	words := strings.Split(string(buf[:n]), "\x00")
	q := &request{args: words[1:], pid: int(peer.Pid), file: file, gone: make(chan struct{})}
	go func() { // the client says nothing more, so this ends with the connection
		file.Read(buf[:1])
		close(q.gone)
	}()
	switch err := c.dispatch(words[0], q); err {
	case nil:
		q.write(answerDone, "")
	case errDeclined:
		q.write(answerDeclined, "")
	default:
		q.write(answerFailed, err.Error())
	}
	c.Scheduler.Released()
}
