package control

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/nodes"
)

// ErrNoLoop is returned where no loop, nor a server of helpers, serves this /dev.
var ErrNoLoop = errors.New("no loop serves this /dev; start one with: devspool -d")

// errDeclined is the answer to a request that the asker has to do by itself.
var errDeclined = errors.New("declined")

// Ask has the loop that serves dev do what words say, and hands each line of its
// answer to say. ErrNoLoop tells that there is none; another error is the loop's.
func Ask(dev *nodes.Dir, words []string, say func(line string)) error {
	if unix.Access(dev.Path()+"/"+nodes.Private, unix.F_OK) == unix.ENOENT {
		return ErrNoLoop // and whoever only asks makes nothing in /dev
	}
	addr, dir, err := controlAddress(dev)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return errors.New("permission denied: only root may ask the loop")
	}
	if err != nil {
		return ErrNoLoop // there is no private directory
	}
	defer unix.Close(dir)
	fd, err := controlSocket(0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if unix.Connect(fd, addr) != nil {
		return ErrNoLoop
	}
	if _, err := unix.SendmsgN(fd, []byte(strings.Join(words, "\x00")), nil, nil, unix.MSG_NOSIGNAL); err != nil {
		return ErrNoLoop // it has just ended
	}
	err = readAnswer(fd, say)
	if err == ErrUnanswered && words[0] == "exit" {
		return nil
	}
	return err
}

// ErrUnanswered tells that the loop ended before it answered.
var ErrUnanswered = errors.New("the loop ended before it answered")

func readAnswer(fd int, say func(line string)) error {
	buf := make([]byte, 64<<10)
	for {
		n := 0
		err := sys.RetryEINTR(func() (err error) { n, err = unix.Read(fd, buf); return err })
		if err != nil || n == 0 {
			return ErrUnanswered
		}
		text := string(buf[1:n])
		switch buf[0] {
		case answerLine:
			say(text)
		case answerDone:
			return nil
		case answerDeclined:
			return errDeclined
		default:
			return errors.New(text)
		}
	}
}

// Delegate asks the loop that serves dev to read its config anew and to scan /sys, and
// waits for the end of it. Served is false where no loop serves it, or one with another
// config than the file at conf.
func Delegate(dev *nodes.Dir, conf string) (served bool, err error) {
	switch err := Ask(dev, []string{"scan", conf}, func(string) {}); err {
	case ErrNoLoop, errDeclined, ErrUnanswered:
		return false, nil // do it ourselves
	default:
		return true, err
	}
}
