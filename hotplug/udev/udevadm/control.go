package udevadm

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/udev"
)

// The options of control, with older names of some.
const controlOptions = "t:timeout= l:log-level= s:stop-exec-queue S:start-exec-queue R:reload p:property= m:children-max= 1:ping e:exit " +
	"l:log-priority= R:reload-rules p:env="

// controlKeys are the keys of the options, at the place of the type of message that each is for.
const controlKeys = "tlsSRpm1e"

// control sends messages to the device manager, and returns when it has done what they ask.
func (t *tool) control(args []string) error {
	g, err := t.parse(args, controlOptions)
	if err != nil {
		return err
	}
	limit, err := seconds(g.Last('t', "60"))
	if err == nil && len(g.Operands) > 0 {
		err = errors.New("a word too many: " + g.Operands[0])
	}
	if err != nil {
		return err
	}
	// They are sent in the order of their types, whatever that of the command line: Exit comes last, Ping
	// before it.
	var messages [][]byte
	for kind := udev.LogLevel; kind <= udev.Exit; kind++ {
		for _, text := range g.All(controlKeys[kind]) {
			number, valid := 0, true
			switch kind {
			case udev.LogLevel:
				number, valid = levelOf(text)
			case udev.ChildrenMax:
				n, err := strconv.ParseUint(text, 10, 31)
				number, valid = int(n), err == nil
			case udev.Property:
				valid = strings.IndexByte(text, '=') > 0
			}
			msg, err := udev.Message(kind, number, text)
			if !valid || err != nil {
				return errors.New("not a value for this: " + text)
			}
			messages = append(messages, msg)
		}
	}
	if len(messages) == 0 {
		return errors.New("say what the device manager is to do")
	}
	if t.inChroot() {
		return nil
	}
	// The server would refuse it, and only log why.
	if unix.Geteuid() != 0 {
		return unix.EPERM
	}
	if err := t.converse(messages, limit); err != nil {
		return errors.New("the device manager does not answer: " + err.Error())
	}
	return nil
}

// levelOf reads a level as syslog names or numbers it: 0 to 7, debug being the highest. The names
// stand at multiples of 7 in one string, and may be cut short to three letters.
func levelOf(text string) (int, bool) {
	const names = "emerg  alert  crit   err    warningnotice info   debug  "
	if at := strings.Index(names, text); at >= 0 && at%7 == 0 && len(text) > 2 {
		return at / 7, true
	}
	n, err := strconv.ParseUint(text, 10, 3)
	return int(n), err == nil
}

// ping waits until the device manager has taken on what the kernel has sent. Its errors are converse's.
func (t *tool) ping(limit time.Duration) error {
	msg, _ := udev.Message(udev.Ping, 0, "")
	return t.converse([][]byte{msg}, limit)
}

// converse sends messages and End, and waits until the other side ends the connection: so
// it says that all is done. The error is ETIMEDOUT after limit, and ENOENT or ECONNREFUSED where
// no device manager runs.
func (t *tool) converse(messages [][]byte, limit time.Duration) error {
	start := sys.Now()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	// The descriptor stays until the program ends, soon.
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
	// Nothing is ever said to a client but the end.
	for {
		left := limit - start.Age()
		if left <= 0 {
			return unix.ETIMEDOUT
		}
		if udev.Readable(fd, left) {
			return nil
		}
	}
}
