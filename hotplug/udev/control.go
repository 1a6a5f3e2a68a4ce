package udev

import (
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/sys"
)

// ControlName is the name of the control socket in Options.Run.
const ControlName = "control"

// Kind is the type of a message to the control socket.
type Kind int32

// The types of messages, in the order of systemd's udev-ctrl.h; systemd's and eudev's are the same, but
// for End, which eudev does not send.
const (
	End         Kind = iota // the last message of a connection
	LogLevel                // a number of syslog's
	StopQueue               // events are queued and not begun
	StartQueue              //
	Reload                  //
	Property                // KEY=VALUE, or KEY= to take it back
	ChildrenMax             // a number
	Ping                    //
	Exit                    //
)

// A message is a C struct of 280 bytes in host order: char version[16], which is "udev-"
// and a version; unsigned magic; int type; char value[256], which begins with an int
// where the type has a number.
const (
	controlSize  = 280
	controlMagic = 0xdead1dea // UDEV_CTRL_MAGIC in systemd's and eudev's sources
	atMagicWord  = 16
	atKind       = 20
	atValue      = 24
)

// Message returns a message for the control socket. Of number and text that one counts
// which the type has. Text of 256 bytes or more is refused.
func Message(kind Kind, number int, text string) ([]byte, error) {
	if len(text) >= controlSize-atValue {
		return nil, unix.EMSGSIZE
	}
	msg := make([]byte, controlSize)
	// systemd's and eudev's servers compare the magic, and not the version.
	copy(msg, "udev-252")
	binary.NativeEndian.PutUint32(msg[atMagicWord:], controlMagic)
	binary.NativeEndian.PutUint32(msg[atKind:], uint32(kind))
	if kind == Property {
		copy(msg[atValue:], text)
	} else {
		binary.NativeEndian.PutUint32(msg[atValue:], uint32(int32(number)))
	}
	return msg, nil
}

// Why a message is refused.
const (
	wrongSender = "its sender is not root"
	wrongForm   = "it is none of udevadm's"
	wrongKind   = "its type is unknown"
	wrongValue  = "its value is out of range"
)

// Manager does what messages ask for. It is called by one goroutine for each connection, and the
// sender waits until its methods return.
type Manager interface {
	// Ping returns when each event that the kernel sent before the call was given to
	// Queued: so settle, which pings first, waits for these too.
	Ping()

	Reload() error // which logs its error
	Pause()        // begins no event any more
	Resume()
	SetLevel(level log.Level)      // of the log
	SetJobs(n int)                 // how many commands run at once; n is at least 1
	SetProperty(key, value string) // for the commands of all later events; value "" takes it back
	End()                          // ends the loop
}

// obey does what a message asks for. It reports whether it was the last one, and why it is refused, or
// "".
func obey(msg []byte, m Manager) (last bool, wrong string) {
	// The field for the version is not compared: eudev's is another one.
	if len(msg) != controlSize || binary.NativeEndian.Uint32(msg[atMagicWord:]) != controlMagic {
		return true, wrongForm
	}
	// Which of the two the value is depends on the type; a text is never taken for a number.
	number := int(int32(binary.NativeEndian.Uint32(msg[atValue:])))
	switch Kind(binary.NativeEndian.Uint32(msg[atKind:])) {
	case End:
		return true, ""
	case StopQueue:
		m.Pause()
	case StartQueue:
		m.Resume()
	case Reload:
		_ = m.Reload()
	case Ping:
		m.Ping()
	case Exit:
		m.End()
	case LogLevel:
		level, ok := log.SyslogLevel(number)
		if !ok {
			return true, wrongValue
		}
		m.SetLevel(level)
	case ChildrenMax:
		if number < 1 {
			return true, wrongValue
		}
		m.SetJobs(number)
	case Property:
		// Without a NUL the text may have been cut off by a sender that did not check its length.
		text, _, ended := strings.Cut(string(msg[atValue:]), "\x00")
		key, value, ok := strings.Cut(text, "=")
		if !ended || !ok || key == "" {
			return true, wrongValue
		}
		m.SetProperty(key, value)
	default:
		return true, wrongKind
	}
	return false, ""
}

// endWait is how long the server waits after a message for a further one. systemd's
// udevadm sends End at once; eudev's sends nothing, and waits for an answer.
const endWait = 10 * time.Millisecond

// idleWait is how long a connection may stay silent before its first message, and after the
// server has said that it is done. Without it 16 idle connections would shut others out.
const idleWait = 30 * time.Second

// control is the server at the control socket. A goroutine of its own takes connections, and each
// connection has one; the slots bound how many there are.
type control struct {
	_       sys.NotComparable
	file    *os.File
	manager Manager
	log     *log.Logger
	slots   chan struct{} // one for each connection
}

// openControl binds the socket in the directory run, and serves it until it is closed.
func openControl(dir int, run string, m Manager, logger *log.Logger) (*control, error) {
	// By way of the descriptor: a link or a mount that has taken the directory's place since it was
	// opened does not lead elsewhere. bind(2) has no form that takes a directory.
	addr := &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(dir) + "/" + ControlName}
	if unix.Access("/proc/self/fd", unix.F_OK) != nil {
		addr.Name = run + "/" + ControlName // no /proc yet
	}
	fd, err := bindControl(dir, addr)
	if err != nil {
		return nil, sys.PathError("listen", run+"/"+ControlName, err)
	}
	c := &control{manager: m, log: logger, slots: make(chan struct{}, 16)}
	c.file = os.NewFile(uintptr(fd), ControlName)
	go c.serve()
	return c, nil
}

// ErrTaken is returned by New where another process listens at the control socket.
var ErrTaken = errors.New("a udevd, or another loop, listens there; stop it first")

// lockName is the name of a file that a process has locked from its look for a listener until it
// listens itself. Not of the directory, which any user could lock.
const lockName = ".#control.lock"

// bindControl returns a listening socket at addr in the directory dir. ErrTaken is returned
// where a process listens there already: two loops would each do every event.
func bindControl(dir int, addr *unix.SockaddrUnix) (fd int, err error) {
	// SEQPACKET, as udevd: messages keep their bounds, and the end of a connection is seen. Nonblocking,
	// for Go's poller.
	const kind = unix.SOCK_SEQPACKET | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	if fd, err = unix.Socket(unix.AF_UNIX, kind, 0); err != nil {
		return sys.None, err
	}
	lock, err := sys.Openat(dir, lockName, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW, 0o600)
	if err == nil {
		err = sys.Flock(lock, unix.LOCK_EX)
	}
	if err == nil {
		// A full backlog (EAGAIN) has a listener too.
		if err = unix.Connect(fd, addr); err == nil || err == unix.EAGAIN {
			err = ErrTaken
		} else {
			sys.Unlinkat(dir, ControlName)               // of a process that was killed
			if err = sys.Fchmod(fd, 0o600); err == nil { // bind gives this mode to the file
				err = unix.Bind(fd, addr)
			}
			if err == nil {
				err = unix.Listen(fd, 16)
			}
		}
	}
	sys.Close(lock)
	if err != nil {
		unix.Close(fd)
		return sys.None, err
	}
	return fd, nil
}

// serve takes connections until the socket is closed.
func (c *control) serve() {
	conn, err := c.file.SyscallConn()
	if err != nil {
		return
	}
	// The send blocks when all slots are taken; further clients then wait in the kernel's backlog.
	sys.Accept(conn, 0, func(fd int) {
		c.slots <- struct{}{}
		go func() {
			c.converse(fd)
			unix.Close(fd)
			<-c.slots
		}()
	})
}

// converse does what the messages of one connection ask for. The end of its own sending
// side is all that the server says, and clients wait for it. It comes after the last
// message: after End, or where none follows at once. What comes after that is done too. The caller closes
// fd, which ends the sending side where nothing else has.
func (c *control) converse(fd int) {
	// The socket's mode keeps others out already, unless it was changed, or the descriptor passed on.
	if peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil || peer.Uid != 0 {
		c.refuse(wrongSender)
		return
	}
	var msg [controlSize + 1]byte // so that a longer one is seen to be longer
	wait := idleWait
	for {
		// After endWait the client may be eudev's, which waits for this. After idleWait it is gone or
		// stuck.
		if !Readable(fd, wait) {
			if wait == idleWait {
				return
			}
			_ = unix.Shutdown(fd, unix.SHUT_WR)
			wait = idleWait
			continue
		}
		n, err := unix.Read(fd, msg[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return
		}
		last, wrong := obey(msg[:n], c.manager)
		if wrong != "" {
			c.refuse(wrong)
		}
		if last {
			return
		}
		wait = endWait
	}
}

// refuse logs why a connection ends. The client learns nothing but the end.
func (c *control) refuse(why string) {
	c.log.Print(log.Warning, "refused a message at the control socket: "+why)
}

// Readable waits until something can be read, for limit at most.
func Readable(fd int, limit time.Duration) bool {
	for start := sys.Now(); ; {
		// An hour at most, since poll(2) takes milliseconds as an int; and one millisecond more, or the rest
		// of one would be polled for without a pause.
		left := min(max(0, limit-start.Age()), time.Hour)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left/time.Millisecond)+1)
		if err != unix.EINTR {
			return err == nil && n > 0
		}
	}
}
