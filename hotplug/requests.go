package hotplug

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/sys"
)

// request is one that another process made by the control socket.
type request struct {
	args []string
	pid  int // of who asks
	file *os.File
	gone chan struct{} // closed when nobody waits for the answer any more
}

// write sends one packet of the answer.
func (q *request) write(kind byte, text string) {
	q.file.Write(append([]byte{kind}, text...))
}

// say sends a line of the answer.
func (q *request) say(line string) { q.write(answerLine, line) }

// requests are what the loop can be asked for. An error is the answer.
var requests = map[string]func(c *control, q *request) error{
	"ping":         func(*control, *request) error { return nil },
	"status":       (*control).status,
	"stop":         func(c *control, _ *request) error { c.road.Halt(); return nil },
	"start":        func(c *control, _ *request) error { c.road.Start(); return nil },
	"exit":         (*control).exit,
	"reload":       func(c *control, _ *request) error { return c.road.Renew() },
	"log-level":    (*control).logLevel,
	"children-max": (*control).childrenMax,
	"running-max":  (*control).runningMax,
	"scan":         (*control).scan,
	"coldplug":     (*control).coldplug,
	"settle":       (*control).settle,
	"wait":         (*control).wait,
}

// obey does what a request says.
func (c *control) obey(what string, q *request) error {
	do := requests[what]
	if do == nil {
		return errors.New("the loop does not know the request " + strconv.Quote(what) + "; is it of another version?")
	}
	return do(c, q)
}

func (c *control) status(q *request) error {
	q.say("serving: " + c.road.Dev.Path() + ", as " + c.source.name() + ", pid " + strconv.Itoa(unix.Getpid()))
	for _, line := range c.road.Status() {
		q.say(line)
	}
	return nil
}

// exit ends the loop. The end of the connection, which comes with that of the
// process, is the answer.
func (c *control) exit(q *request) error {
	c.source.End()
	<-q.gone
	return nil
}

func (c *control) logLevel(q *request) error {
	level, ok := log.ParseLevel(arg(q, 0))
	if !ok {
		return errors.New("no level of the log: " + strconv.Quote(arg(q, 0)) + "; use error, warning, notice or info")
	}
	c.road.Log.SetLevel(level)
	return nil
}

func (c *control) childrenMax(q *request) error {
	n, err := strconv.Atoi(arg(q, 0))
	if err != nil || n < 1 {
		return errors.New("not a usable number of commands: " + strconv.Quote(arg(q, 0)) + "; use 1 or more")
	}
	c.road.SetJobs(n)
	return nil
}

func (c *control) runningMax(q *request) error {
	n, err := strconv.Atoi(arg(q, 0))
	if err != nil || n < 0 {
		return errors.New("not a usable number of commands: " + strconv.Quote(arg(q, 0)) + "; use 1 or more, or 0 for no limit")
	}
	c.road.SetRunning(n)
	return nil
}

func arg(q *request, i int) string {
	if i >= len(q.args) {
		return ""
	}
	return q.args[i]
}

// errLogged is the answer where there is more to say than fits into a line.
var errLogged = errors.New("the loop could not do all; its log says what")

// scan reads the config anew and makes /dev what /sys says.
func (c *control) scan(q *request) error {
	if arg(q, 0) != c.road.Conf || c.road.taskOf(q.pid) != nil {
		return errNotMine
	}
	if c.road.isHalted() {
		return errHalted
	}
	renewed := c.road.Renew()
	if !Coldplug(c.road).Wait() {
		return errLogged
	}
	return renewed
}

// errInCommand is the answer to a command that would wait for itself.
var errInCommand = errors.New("a command that a rule runs cannot wait for the end of commands")

// errHalted is the answer where what is asked for would have no end.
var errHalted = errors.New("the loop's queue is stopped; open it with: devspool ctl start")

// coldplug has the kernel send an add for each device, and waits for the end of
// all that follows from them.
func (c *control) coldplug(q *request) error {
	if c.road.taskOf(q.pid) != nil {
		return errInCommand
	}
	if c.road.isHalted() {
		return errHalted
	}
	quiet, err := ParseSeconds(arg(q, 0))
	if err != nil {
		return err
	}
	refusal := c.trigger(q.gone)
	if !c.settled(quiet, nil, q.gone) {
		return errLogged
	}
	return refusal
}

// settle waits until all events are at their end: TIMEOUT QUIET.
func (c *control) settle(q *request) error {
	if c.road.taskOf(q.pid) != nil {
		return errInCommand
	}
	timeout, err := ParseSeconds(arg(q, 0))
	if err != nil {
		return err
	}
	quiet, err := ParseSeconds(arg(q, 1))
	if err != nil {
		return err
	}
	if !c.settled(quiet, sys.After(timeout), q.gone) {
		for _, line := range c.road.Status() {
			q.say(line)
		}
		return errors.New("timed out: not all events are at their end")
	}
	return nil
}

// ParseSeconds reads a time in seconds, such as "2" or "0.5".
func ParseSeconds(text string) (time.Duration, error) {
	whole, part, _ := strings.Cut(text, ".")
	ns, err := strconv.ParseUint(whole+(part + "000000000")[:9], 10, 63)
	if err != nil || whole+part == "" || strings.Trim(text, "0123456789.") != "" {
		return 0, errors.New("not a time in seconds: " + strconv.Quote(text))
	}
	return time.Duration(ns), nil
}
