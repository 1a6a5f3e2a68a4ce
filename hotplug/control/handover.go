//go:build !noboot

package control

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/nodes"
)

// handOver gives the socket of the source's events to the client, which is another loop, and
// ends this process. The last packet of the answer has the descriptor with it.
func (c *Server) handOver(q *request) error {
	if c.Boot == nil {
		return ErrDeclined
	}
	socket, done, err := c.Boot.HandOver()
	if err != nil {
		return err
	}
	// done goes last, since the process may end as soon as it is called.
	defer done()
	// Whatever comes of the answer, this process reads no events any more and is to end.
	conn, err := q.file.SyscallConn()
	if err != nil {
		return err
	}
	_ = conn.Control(func(fd uintptr) {
		_, err = unix.SendmsgN(int(fd), []byte{answerDone}, unix.UnixRights(socket), nil, unix.MSG_NOSIGNAL)
	})
	return err
}

// switchRoot has the source go on in another root: PATH.
func (c *Server) switchRoot(q *request) error {
	if c.Boot == nil {
		return ErrDeclined
	}
	return c.Boot.SwitchRoot(arg(q, 0))
}

// TakeOver asks the loop that serves dev, and is left in the root of an early boot, for the
// socket of its events, and returns that when the loop has done all events before. The error
// is ErrRunning where the loop is none to be replaced.
func TakeOver(dev *nodes.Dir) (socket int, err error) {
	err = ask(dev, []string{"hand-over"}, func(fd int) error {
		// Room for an error's text, and for one descriptor.
		data, rights := make([]byte, 512), make([]byte, unix.CmsgSpace(4))
		n, size, _, err := sys.Receive(fd, data, rights, nil, unix.MSG_CMSG_CLOEXEC)
		switch {
		case err != nil:
			return err
		case n > 1 && data[0] == answerFailed && string(data[1:n]) != ErrRunning.Error():
			return errors.New(string(data[1:n]))
		case n == 0 || data[0] != answerDone:
			return ErrRunning
		}
		messages, err := unix.ParseSocketControlMessage(rights[:size])
		if err != nil || len(messages) != 1 {
			return ErrRunning
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			return ErrRunning
		}
		socket = fds[0]
		// The answer's end is the end of the process, or nearly.
		_, _ = unix.Read(fd, data)
		return nil
	})
	if errors.Is(err, ErrNoLoop) || errors.Is(err, os.ErrPermission) {
		err = ErrRunning
	}
	return socket, err
}
