// Package control is the socket by which other processes ask the loop, or the leader of the
// kernel's helpers, to work for them: the server, its requests (devspool ctl, settle, wait, status,
// coldplug), and the client. It never changes /dev itself, and never orders events.
package control

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/reload"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/nodes"
)

// ErrRunning is returned where another loop already serves this /dev.
var ErrRunning = errors.New("another loop already serves this /dev; stop it first")

// A client makes one request a connection: a packet with words that are separated by NUL. The
// answer is a packet for each line of text, and a last packet. A packet of the answer begins with
// one of these bytes.
const (
	answerLine     = 'l' // the line follows
	answerDone     = 'd'
	answerFailed   = 'f' // the error's text follows
	answerTimeout  = 't' // the same, of a Timeout
	answerDeclined = 'n' // the client is to do the work itself
)

// maxRequest is how long a request may be, in bytes.
const maxRequest = 16 << 10

// Source is where the events of a Scheduler come from. Its methods may be called at any time.
type Source interface {
	// Name returns the name that the status shows.
	Name() string

	// Pending reports whether events have come that the Scheduler does not have yet.
	Pending() bool

	// Stop has the source end, as SIGTERM does. It returns when another process may take its
	// place, or when gone is closed.
	Stop(gone <-chan struct{})
}

// Options are what a Server works with.
type Options struct {
	_         sys.NotComparable
	Scheduler *scheduler.Scheduler
	Config    *reload.Config
	Dev       *nodes.Dir
	Sys       sysfs.FS
	Log       *log.Logger
	Source    Source
	Boot      Boot // what an early boot asks of the source; nil for nothing
}

// Boot is what an early boot asks of a Source.
type Boot interface {
	// HandOver stops the source, and returns the descriptor of the socket at which it got its
	// events when all that it took are done. The process ends when done is called.
	HandOver() (socket int, done func(), err error)

	// SwitchRoot moves /dev, /proc, /sys and /run to the root file system mounted at path,
	// makes that the root of this process, and of all that start at /, and goes on there.
	SwitchRoot(path string) error
}

// Server answers requests at the control socket, in the private directory of a /dev.
type Server struct {
	Options
	file    *os.File // the socket; Close closes it, which ends serve
	conn    syscall.RawConn
	private int // the private directory, in which Close removes the socket
}

// controlName is the socket's name in the private directory.
const controlName = "control"

// controlAddress returns the address of the socket, and the private directory, which must stay open
// while the address is used. The address leads through the open directory, since it has room for
// 107 bytes only and the path of a /dev may be longer.
func controlAddress(dev *nodes.Dir) (addr *unix.SockaddrUnix, private int, err error) {
	private, err = dev.OpenPrivate()
	if err != nil {
		return nil, sys.None, err
	}
	path := "/proc/self/fd/" + strconv.Itoa(private)
	if unix.Access(path, unix.F_OK) != nil {
		path = dev.Path() + "/" + nodes.Private // no /proc yet
	}
	return &unix.SockaddrUnix{Name: path + "/" + controlName}, private, nil
}

// controlSocket makes a socket that keeps messages apart, so that neither side has to look for
// the ends of lines.
func controlSocket(flags int) (int, error) {
	return unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|flags, 0)
}

// Listen makes the control socket and answers requests in goroutines of its own. The error is
// ErrRunning where another process has the socket. The caller must hold the lock on /dev, so that
// only one process at a time finds out and makes it.
func Listen(o Options) (*Server, error) {
	addr, private, err := controlAddress(o.Dev)
	if err != nil {
		return nil, err
	}
	c := &Server{Options: o, private: private}
	if c.file, c.conn, err = listenAt(addr); err != nil {
		unix.Close(private)
		return nil, err
	}
	go c.serve()
	return c, nil
}

// listenAt listens at addr, unless another process does: then the error is ErrRunning. Between its
// look and bind nothing but the caller's lock keeps two processes apart.
func listenAt(addr *unix.SockaddrUnix) (*os.File, syscall.RawConn, error) {
	fd, err := controlSocket(unix.SOCK_NONBLOCK)
	if err != nil {
		return nil, nil, err
	}
	// The file of a socket stays when its process is killed, so only this shows whether a
	// process listens.
	err = unix.Connect(fd, addr)
	if err == nil || err == unix.EAGAIN { // EAGAIN: there is a loop, and its queue is full
		unix.Close(fd)
		return nil, nil, ErrRunning
	}
	unix.Unlink(addr.Name) // the socket of a loop that was killed; else Bind reports what is wrong
	// A failed connect leaves the socket unbound, so the same one serves.
	if err = unix.Bind(fd, addr); err == nil {
		err = unix.Listen(fd, 16)
	}
	if err != nil {
		unix.Close(fd)
		return nil, nil, err
	}
	return sys.Polled(fd, "control")
}

// Close removes the socket. Requests that are under way are still answered.
func (c *Server) Close() {
	unix.Unlinkat(c.private, controlName, 0) // on a /dev that was mounted over it may have gone
	unix.Close(c.private)
	c.file.Close()
}

// serve answers each connection until the socket is closed, in a goroutine of its own: a wait must
// not keep others from being answered.
func (c *Server) serve() {
	sys.Accept(c.conn, unix.SOCK_NONBLOCK, func(fd int) { go c.answer(fd) })
}

// answer reads the request of a connection, does it, and answers. It answers root and the server's
// own user only.
func (c *Server) answer(fd int) {
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	file := os.NewFile(uintptr(fd), "control")
	defer file.Close()
	// SO_PEERCRED has the credentials that the client had when it called connect(2).
	if err != nil || peer.Uid != 0 && int(peer.Uid) != unix.Geteuid() {
		return
	}
	// One byte more than a request may have, by which a longer one is noticed.
	buf := make([]byte, maxRequest+1)
	// A client that connects and sends nothing keeps this goroutine, and nothing else.
	n, err := file.Read(buf)
	if err != nil {
		return
	}
	q := &request{pid: int(peer.Pid), file: file, gone: make(chan struct{})}
	if n > maxRequest {
		q.write(answerFailed, "the request is too long")
		return
	}
	words := strings.Split(string(buf[:n]), "\x00")
	q.args = words[1:]
	go func() {
		_, _ = file.Read(buf[:1]) // the client sends nothing more, so this returns when the connection ends
		close(q.gone)
	}()
	err = c.dispatch(words[0], q)
	switch {
	case err == nil:
		q.write(answerDone, "")
	case errors.Is(err, ErrDeclined):
		q.write(answerDeclined, "")
	default:
		kind := byte(answerFailed)
		if _, late := err.(Timeout); late {
			kind = answerTimeout
		}
		q.write(kind, err.Error())
	}
	// A request, such as a coldplug, may have taken much memory.
	c.Scheduler.Released()
}
