package control

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/reload"
	"devspool/hotplug/scheduler"
)

// udevControlAddress is the abstract socket at which udevcontrol reached the
// udevd of 2006. It belongs to the network namespace.
const udevControlAddress = "@/org/kernel/udev/udevd"

// tunables is what of a Road can be steered.
type tunables interface {
	Pause()
	Resume()
	SetJobs(n int)
	SetRunnable(n int)
	SetLevel(level log.Level) // of the log
	Reload() error            // what is wrong was logged
}

// schedulerTunables are those of a Scheduler, its log and its config.
type schedulerTunables struct {
	*scheduler.Scheduler
	*log.Logger
	*reload.Config
}

// A message of udevcontrol is a C struct in host order, without gaps: char
// magic[32], which is "udevd_" and a version; int type; char buf[256], which
// begins with an int where the type has one.
const (
	udevMagic     = "udevd_"
	udevMagicSize = 32
	udevSize      = udevMagicSize + 4 + 256
)

// The types of messages.
const (
	udevStop = 1 + iota
	udevStart
	udevLog
	udevChildren
	udevRunning
	udevReload
)

// Why a message is refused.
var (
	errUdevSender = errors.New("its sender is not root")
	errUdevSize   = errors.New("it has another size than udevcontrol's")
	errUdevMagic  = errors.New("it does not begin with " + udevMagic + " and a version")
	errUdevType   = errors.New("its type is unknown")
	errUdevNumber = errors.New("its number is out of range")
)

// parseUdevControl returns what a message asks for.
func parseUdevControl(msg []byte) (steer func(tunables), err error) {
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
		return tunables.Pause, nil
	case udevStart:
		return tunables.Resume, nil
	case udevReload:
		return func(k tunables) { k.Reload() }, nil
	case udevLog:
		level, ok := log.SyslogLevel(n)
		if !ok {
			return nil, errUdevNumber
		}
		return func(k tunables) { k.SetLevel(level) }, nil
	case udevChildren, udevRunning:
		if n < 1 {
			return nil, errUdevNumber
		}
		if kind == udevChildren {
			return func(k tunables) { k.SetJobs(n) }, nil
		}
		return func(k tunables) { k.SetRunnable(n) }, nil
	}
	return nil, errUdevType
}

// ServeUdevControl lets udevcontrol steer a loop, until the process ends. At the socket's
// address there can be one only.
func ServeUdevControl(s *scheduler.Scheduler, config *reload.Config, logger *log.Logger) error {
	_, err := openUdevControl(schedulerTunables{s, logger, config}, logger)
	return err
}

// udevControl lets udevcontrol turn tunables.
type udevControl struct {
	tunables tunables
	log      *log.Logger
	file     *os.File
	said     map[error]bool // why messages were refused: logged once each
}

// openUdevControl binds the socket, and serves it until its file is closed.
func openUdevControl(k tunables, logger *log.Logger) (*udevControl, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// First, so that no message comes without its sender's credentials.
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
	c := &udevControl{tunables: k, log: logger, file: os.NewFile(uintptr(fd), "udevcontrol"), said: map[error]bool{}}
	go c.serve()
	return c, nil
}

// serve does what messages ask for until the socket is closed.
func (c *udevControl) serve() {
	conn, err := c.file.SyscallConn()
	if err != nil {
		return
	}
	var msg [udevSize + 1]byte // so that a longer one is seen to be longer
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
		var n, oobn int
		var failure error
		err := conn.Read(func(fd uintptr) bool {
			n, oobn, _, _, failure = unix.Recvmsg(int(fd), msg[:], oob, unix.MSG_DONTWAIT)
			return failure != unix.EAGAIN
		})
		if err != nil {
			return
		}
		if failure != nil {
			time.Sleep(100 * time.Millisecond) // short of memory, perhaps
			continue
		}
		if err := c.dispatch(msg[:n], oob[:oobn]); err != nil && !c.said[err] {
			c.said[err] = true
			c.log.Print(log.Warning, "refused a message at "+udevControlAddress+": "+err.Error())
		}
	}
}

// dispatch does what a message asks for.
func (c *udevControl) dispatch(msg, oob []byte) (refused error) {
	if !fromRoot(oob) {
		return errUdevSender
	}
	steer, err := parseUdevControl(msg)
	if err == nil {
		steer(c.tunables)
	}
	return err
}

// fromRoot reports whether the credentials that came with a message are root's.
func fromRoot(oob []byte) bool {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return false
	}
	for i := range messages {
		if ucred, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
			return ucred.Uid == 0
		}
	}
	return false
}
