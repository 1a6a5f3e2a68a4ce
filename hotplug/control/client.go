package control

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/nodes"
)

// ErrNoLoop is returned where neither a loop nor a leader of helpers serves this /dev.
var ErrNoLoop = errors.New("no loop serves this /dev; start one with: devspool -d")

// ErrUnanswered is returned where the loop ended before it answered.
var ErrUnanswered = errors.New("the loop ended before it answered")

// ErrDeclined is the answer to a request that the client has to do itself, or that the process
// which serves this /dev cannot do, since it is the leader of helpers and no loop.
var ErrDeclined = errors.New("declined")

// Timeout is the error of a request for which there was not enough time, as a line of text.
type Timeout string

func (t Timeout) Error() string { return string(t) }

// Ask makes a request, the words of which are its name and arguments, of the process that serves
// dev, and calls say with each line of the answer. It returns when the request is done. The error is
// ErrNoLoop, ErrUnanswered, ErrDeclined, a Timeout, or what the answer says.
func Ask(dev *nodes.Dir, words []string, say func(line string)) error {
	err := ask(dev, words, func(fd int) error { return readAnswer(fd, say) })
	// A loop that ends does not answer: its end is the answer.
	if errors.Is(err, ErrUnanswered) && words[0] == "exit" {
		return nil
	}
	return err
}

// ask makes a request, and has answer read the answer from the connection. What answer returns comes
// back as it is; errors of ask itself say that nothing was asked.
func ask(dev *nodes.Dir, words []string, answer func(fd int) error) error {
	if unix.Access(dev.Path()+"/"+nodes.Private, unix.F_OK) == unix.ENOENT {
		return ErrNoLoop // controlAddress would make the private directory
	}
	addr, private, err := controlAddress(dev)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return errors.New("permission denied: only root may ask the loop")
	}
	if err != nil {
		return ErrNoLoop // no private directory can be had, so no loop has one
	}
	defer unix.Close(private)
	fd, err := controlSocket(0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	// There is no socket (ENOENT), or one whose process was killed (ECONNREFUSED).
	if unix.Connect(fd, addr) != nil {
		return ErrNoLoop
	}
	if _, err := unix.SendmsgN(fd, []byte(strings.Join(words, "\x00")), nil, nil, unix.MSG_NOSIGNAL); err != nil {
		return ErrNoLoop // it has just ended
	}
	return answer(fd)
}

// readAnswer reads messages until one ends the answer, and calls say with each line. Without
// such a message the loop has died. A SEQPACKET read returns one message, and cuts one that is
// longer than the buffer.
func readAnswer(fd int, say func(line string)) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := sys.ReadBlocking(fd, buf)
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
			return ErrDeclined
		case answerTimeout:
			return Timeout(text)
		default:
			return errors.New(text)
		}
	}
}

// Delegate asks the loop that serves dev to reload its config and to scan /sys, and waits until that
// is done. served is false where the caller has to scan itself: no loop serves dev, or one with
// another config than the file at conf, or the loop waits for a command that this process is.
func Delegate(dev *nodes.Dir, conf string) (served bool, err error) {
	err = Ask(dev, []string{"scan", conf}, func(string) {})
	// A loop that ended in the midst may have done a part. The caller's scan goes over all of
	// it again.
	if errors.Is(err, ErrNoLoop) || errors.Is(err, ErrDeclined) || errors.Is(err, ErrUnanswered) {
		return false, nil
	}
	return true, err
}
