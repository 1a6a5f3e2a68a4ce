package udevadm

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/sys"
	"devspool/hotplug/udev"
)

var controlOptions = options{
	{'e', "exit", none, "end the device manager"},
	{'l', "log-level", required, "what is logged: emerg to debug, or a number"},
	{0, "log-priority", required, ""},
	{'s', "stop-exec-queue", none, "queue events, and begin none"},
	{'S', "start-exec-queue", none, "begin events again"},
	{'R', "reload", none, "read the config anew"},
	{0, "reload-rules", none, ""},
	{'p', "property", required, "KEY=VALUE: a variable for all commands"},
	{0, "env", required, ""},
	{'m', "children-max", required, "how many commands run at once"},
	{0, "ping", none, "wait until the device manager answers"},
	{'t', "timeout", required, "how many seconds to wait for an answer; 60 where nothing is said"},
}

func (t *tool) control(args []string) error {
	limit := 60 * time.Second
	var messages [][]byte
	add := func(kind udev.Kind, number int, text string) error {
		msg, err := udev.Message(kind, number, text)
		messages = append(messages, msg)
		return err
	}
	operands, err := t.parse(args, "control", controlOptions, func(name, value string) (err error) {
		switch name {
		case "exit":
			return add(udev.Exit, 0, "")
		case "stop-exec-queue":
			return add(udev.StopQueue, 0, "")
		case "start-exec-queue":
			return add(udev.StartQueue, 0, "")
		case "reload", "reload-rules":
			return add(udev.Reload, 0, "")
		case "ping":
			return add(udev.Ping, 0, "")
		case "log-level", "log-priority":
			level, ok := levelOf(value)
			if !ok {
				return errors.New("there is no log level " + value)
			}
			return add(udev.LogLevel, level, "")
		case "children-max":
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil {
				return errors.New("no number: " + value)
			}
			return add(udev.ChildrenMax, int(n), "")
		case "property", "env":
			if strings.IndexByte(value, '=') < 1 {
				return errors.New("not of the form KEY=VALUE: " + value)
			}
			return add(udev.Property, 0, value)
		case "timeout":
			limit, err = seconds(value)
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(operands) > 0 {
		return errors.New("there is nothing to name here: " + operands[0])
	}
	if len(messages) == 0 {
		return errors.New("say what the device manager is to do; see udevadm control --help")
	}
	if t.inChroot() {
		return nil
	}
	if err := needRoot(); err != nil {
		return err
	}
	if err := t.converse(messages, limit); err != nil {
		return errors.New("the device manager does not answer: " + err.Error())
	}
	return nil
}

// levelOf reads a level as syslog names or numbers it.
func levelOf(text string) (int, bool) {
	for i, name := range []string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"} {
		if text == name {
			return i, true
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		level, ok := log.ParseLevel(text)
		return int(level), ok
	}
	_, ok := log.SyslogLevel(n)
	return n, ok
}

// ping waits until the device manager has taken on what the kernel has sent.
func (t *tool) ping(limit time.Duration) error {
	msg, _ := udev.Message(udev.Ping, 0, "")
	return t.converse([][]byte{msg}, limit)
}

// converse sends messages and End, and waits until the other side ends the connection: so
// it says that all is done.
func (t *tool) converse(messages [][]byte, limit time.Duration) error {
	start := sys.Now()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: t.run + "/" + udev.ControlName}); err != nil {
		return err
	}
	end, _ := udev.Message(udev.End, 0, "")
	for _, msg := range append(messages, end) {
		// EPIPE: a server that wants no more has done what came before.
		if err := unix.Sendto(fd, msg, unix.MSG_NOSIGNAL, nil); err != nil && err != unix.EPIPE {
			return err
		}
	}
	for {
		left := max(0, limit-start.Age())
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(min(left, time.Hour)/time.Millisecond)+1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			if left > 0 {
				continue
			}
			return unix.ETIMEDOUT
		}
		var answer [512]byte
		if n, err := unix.Read(fd, answer[:]); n <= 0 || err != nil {
			return nil
		}
	}
}
