package control

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/sys"
)

// udevControlAddress is the abstract socket at which udevcontrol reached the udevd of 2006. It belongs
// to a network namespace. Package unix writes the NUL with which an abstract address begins as @.
const udevControlAddress = "@/org/kernel/udev/udevd"

// Tunables is what udevcontrol changes of a loop.
type Tunables interface {
	Pause()
	Resume()
	SetJobs(n int)
	SetRunnable(n int)
	SetLevel(level log.Level) // of the log
	Reload() error            // which logs its error
}

// A message of udevcontrol (udevd.h of udev 085) is a C struct in host byte order, without gaps: char
// magic[32], which is "udevd_" and a version; int type; char buf[256], which begins with an int
// where the type has a number.
const (
	udevMagic     = "udevd_"
	udevMagicSize = 32
	udevSize      = udevMagicSize + 4 + 256
)

// The types of messages, in the order of udev's enum, where 0 is an unknown one.
const (
	udevStop = 1 + iota
	udevStart
	udevLog
	udevChildren
	udevRunning
	udevReload
)

// The errors of messages that are refused.
var (
	errUdevSender = errors.New("its sender is not root")
	errUdevSize   = errors.New("it has another size than udevcontrol's")
	errUdevMagic  = errors.New("it does not begin with " + udevMagic + " and a version")
	errUdevType   = errors.New("its type is unknown")
	errUdevNumber = errors.New("its number is out of range")
)

// parseUdevControl returns the function that a message asks for. Any version after the magic will do.
func parseUdevControl(msg []byte) (change func(Tunables), err error) {
	if len(msg) != udevSize {
		return nil, errUdevSize
	}
	if !bytes.HasPrefix(msg, []byte(udevMagic)) {
		return nil, errUdevMagic
	}
	kind := binary.NativeEndian.Uint32(msg[udevMagicSize:])
	n := int(int32(binary.NativeEndian.Uint32(msg[udevMagicSize+4:])))
	switch kind {
	case udevStop:
		return Tunables.Pause, nil
	case udevStart:
		return Tunables.Resume, nil
	case udevReload:
		return func(k Tunables) { _ = k.Reload() }, nil // it logs its error
	case udevLog:
		level, ok := log.SyslogLevel(n)
		if !ok {
			return nil, errUdevNumber
		}
		return func(k Tunables) { k.SetLevel(level) }, nil
	case udevChildren, udevRunning:
		if n < 1 {
			return nil, errUdevNumber
		}
		if kind == udevChildren {
			return func(k Tunables) { k.SetJobs(n) }, nil
		}
		return func(k Tunables) { k.SetRunnable(n) }, nil
	}
	return nil, errUdevType
}

// ServeUdevControl obeys messages of udevcontrol from root until the process ends, in a goroutine of
// its own. The error says so where another process has the socket.
func ServeUdevControl(k Tunables, logger *log.Logger) error {
	_, err := openUdevControl(k, logger)
	return err
}

// udevControl changes Tunables by messages of udevcontrol.
type udevControl struct {
	tunables Tunables
	log      *log.Logger
	file     *os.File // the socket
	conn     syscall.RawConn
	warned   map[error]bool // why messages were refused: logged once each; of serve's goroutine
}

// openUdevControl binds the socket, and serves it until it is closed.
func openUdevControl(k Tunables, logger *log.Logger) (*udevControl, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// Before bind, so that no message comes without its sender's credentials.
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: udevControlAddress})
	}
	if err != nil {
		unix.Close(fd)
		if err == unix.EADDRINUSE {
			err = errors.New("a udevd, or another loop, listens there; stop it first")
		}
		return nil, errors.New("cannot listen at " + udevControlAddress + ": " + err.Error())
	}
	c := &udevControl{tunables: k, log: logger, warned: map[error]bool{}}
	if c.file, c.conn, err = sys.Polled(fd, "udevcontrol"); err != nil {
		return nil, err
	}
	go c.serve()
	return c, nil
}

// serve obeys messages until the socket is closed.
func (c *udevControl) serve() {
	var msg [udevSize + 1]byte // one more, to notice a longer message
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
		var n, oobn int
		var failure error
		err := c.conn.Read(func(fd uintptr) bool {
			n, oobn, _, failure = sys.Receive(int(fd), msg[:], oob, nil, unix.MSG_DONTWAIT)
			return failure != unix.EAGAIN
		})
		if err != nil {
			return
		}
		if failure != nil {
			time.Sleep(100 * time.Millisecond) // out of memory, perhaps
			continue
		}
		if err := c.dispatch(msg[:n], oob[:oobn]); err != nil && !c.warned[err] {
			c.warned[err] = true
			c.log.Print(log.Warning, "refused a message at "+udevControlAddress+": "+err.Error())
		}
	}
}

// dispatch obeys a message from root. The error says why it is refused.
func (c *udevControl) dispatch(msg, oob []byte) error {
	if !sys.IsFromRoot(oob) {
		return errUdevSender
	}
	change, err := parseUdevControl(msg)
	if err == nil {
		change(c.tunables)
	}
	return err
}
