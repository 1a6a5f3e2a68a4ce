package control

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/coldplug"
	"devspool/hotplug/log"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// request is a request that a client has made.
type request struct {
	args []string      // the words after the name
	pid  int           // of the client
	file *os.File      // the connection
	gone chan struct{} // closed when the connection ends: the client does not wait any more
}

// write sends one packet of the answer. It is lost where the client does not wait any more. It blocks
// while the client does not read, which holds up nobody else.
func (q *request) write(kind byte, text string) {
	_, _ = q.file.Write(append([]byte{kind}, text...))
}

// say sends one line of the answer.
func (q *request) say(line string) { q.write(answerLine, line) }

// Request is a kind of request that a Server answers.
type Request struct {
	Name  string
	Args  string // the arguments on a command line, as help shows them
	Help  string // lines of help; "" for a request that only this program makes
	Ctl   bool   // a word after "devspool ctl", with one argument where Args names one
	Word  bool   // a word after "devspool", followed by Args
	Quiet bool   // it takes the option --quiet: how long no event may have come

	do func(c *Server, q *request) error // its error is the answer
}

// Requests is the table of all requests. The server dispatches by it, and the program makes its
// command line and its help from it.
var Requests = [...]Request{
	{Name: "status", Ctl: true, Word: true, Help: "show the status of a running loop", do: (*Server).status},
	{Name: "coldplug", Word: true, Quiet: true, do: (*Server).coldplug, Help: "have a running loop ask the kernel for an add of every\n" +
		"device, and wait for the end of all that follows"},
	{Name: "settle", Args: "[SECONDS]", Word: true, Quiet: true, do: (*Server).settle, Help: "wait until every event is done (120)"},
	{Name: "wait", Args: "DEVICE... [SECONDS]", Word: true, do: (*Server).wait, Help: "wait until all of these are there (120): a path below\n" +
		"/dev or /sys, KEY=VALUE of a device's event, or UUID=,\nLABEL=, PARTUUID= or PARTLABEL= of a disk"},
	{Name: "log", Args: "[-n N] [--json]", Word: true, do: (*Server).log, Help: "print the last events, or N, and what came of them"},
	{Name: "ping", Ctl: true, Help: "only answer: a loop runs", do: func(*Server, *request) error { return nil }},
	{Name: "stop", Ctl: true, Help: "begin no further event or command", do: func(c *Server, _ *request) error { c.Scheduler.Pause(); return nil }},
	{Name: "start", Ctl: true, Help: "go on after stop", do: func(c *Server, _ *request) error { c.Scheduler.Resume(); return nil }},
	{Name: "reload", Ctl: true, Help: "read the config anew", do: func(c *Server, _ *request) error { return c.Config.Reload() }},
	{Name: "exit", Ctl: true, Help: "end the loop", do: (*Server).exit},
	{Name: "log-level", Args: "LEVEL", Ctl: true, Help: "log error, warning, notice or info", do: (*Server).logLevel},
	{Name: "children-max", Args: "N", Ctl: true, Help: "run at most N commands at once", do: (*Server).childrenMax},
	{Name: "running-max", Args: "N", Ctl: true, Help: "have at most N of them on a processor (0: any)", do: (*Server).runningMax},
	{Name: "metrics", do: (*Server).metrics},
	{Name: "scan", do: (*Server).scan},
	{Name: "identity", do: (*Server).identity},
	{Name: "hand-over", do: (*Server).handOver},
	{Name: "switch-root", do: (*Server).switchRoot},
}

// FindRequest returns the entry of Requests with a name, or nil.
func FindRequest(name string) *Request {
	for i := range Requests {
		if Requests[i].Name == name {
			return &Requests[i]
		}
	}
	return nil
}

// dispatch does the request with a name. The error is the answer.
func (c *Server) dispatch(name string, q *request) error {
	r := FindRequest(name)
	if r == nil {
		return errors.New("the loop does not know the request " + strconv.Quote(name) + "; is it of another version?")
	}
	return r.do(c, q)
}

// status answers with lines for a person, the first of which says which process answers.
func (c *Server) status(q *request) error {
	q.say("serving: " + c.Dev.Path() + ", as " + c.Source.Name() + ", pid " + strconv.Itoa(unix.Getpid()))
	for _, line := range Status(c.Scheduler, c.Config) {
		q.say(line)
	}
	return nil
}

// exit ends the process. A loop does not answer: the connection ends together with its process.
func (c *Server) exit(q *request) error {
	c.Source.Stop(q.gone)
	return nil
}

// logLevel changes what is logged from now on: LEVEL. A reload of the config does not undo it.
func (c *Server) logLevel(q *request) error {
	level, ok := log.ParseLevel(arg(q, 0))
	if !ok {
		return errors.New("not a log level: " + strconv.Quote(arg(q, 0)) + "; use error, warning, notice or info")
	}
	c.Log.SetLevel(level)
	return nil
}

// childrenMax limits how many commands run at once: N. Those that run already go on.
func (c *Server) childrenMax(q *request) error {
	n, err := strconv.Atoi(arg(q, 0))
	if err != nil || n < 1 {
		return errors.New("not a usable number of commands: " + strconv.Quote(arg(q, 0)) + "; use 1 or more")
	}
	c.Scheduler.SetJobs(n)
	return nil
}

// runningMax limits how many of the commands that run may be on a processor: N. No other is
// started while more are; 0 is no limit.
func (c *Server) runningMax(q *request) error {
	n, err := strconv.Atoi(arg(q, 0))
	if err != nil || n < 0 {
		return errors.New("not a usable number of commands: " + strconv.Quote(arg(q, 0)) + "; use 1 or more, or 0 for no limit")
	}
	c.Scheduler.SetRunnable(n)
	return nil
}

// arg returns argument i, or "" where there are fewer.
func arg(q *request, i int) string {
	if i >= len(q.args) {
		return ""
	}
	return q.args[i]
}

// errLogged is the answer where the log says more than fits into a line.
var errLogged = errors.New("the loop could not do all; its log says what")

// scan reloads the config and scans /sys: CONFIG. It declines for another config file, and for a
// command that a rule runs, which would wait for itself.
func (c *Server) scan(q *request) error {
	if arg(q, 0) != c.Config.Path() || c.inCommand(q) {
		return ErrDeclined
	}
	if c.Scheduler.IsPaused() {
		return errPaused
	}
	// Where the new config is refused, the scan is done by the old one, and the answer is the
	// refusal.
	refusal := c.Config.Reload()
	if !coldplug.Scan(c.Scheduler, c.Sys).Wait() {
		return errLogged
	}
	return refusal
}

// identity answers with what a device has besides what the kernel tells of it. The argument is
// its devpath. A line is KEY=VALUE, or S: and the path of a link.
func (c *Server) identity(q *request) error {
	e, err := c.Sys.Event(uevent.Change, arg(q, 0))
	if err != nil {
		return err
	}
	properties, links := c.Scheduler.Identity(e)
	for _, kv := range properties {
		q.say(kv)
	}
	for _, path := range links {
		q.say("S:" + path)
	}
	return nil
}

// errInCommand is the answer to a command that would wait for itself.
var errInCommand = errors.New("a command that a rule runs cannot wait for the end of commands")

// errPaused is the answer to a request that would wait until the queue is open again.
var errPaused = errors.New("the loop's queue is stopped; open it with: devspool ctl start")

// coldplug has the kernel send an add for each device, and waits until nothing that follows from
// them is under way: QUIET.
func (c *Server) coldplug(q *request) error {
	if c.inCommand(q) {
		return errInCommand
	}
	if c.Scheduler.IsPaused() {
		return errPaused
	}
	quiet, err := ParseSeconds(arg(q, 0))
	if err != nil {
		return err
	}
	// Where some devices refused, the events of the others are waited for all the same.
	// trigger waits for the events to come, settled for the commands and modules that follow from them.
	refusal := c.trigger(q.gone)
	if !c.settled(quiet, nil, q.gone) {
		return errLogged
	}
	return refusal
}

// settle waits until no event is under way: TIMEOUT QUIET, in seconds.
func (c *Server) settle(q *request) error {
	if c.inCommand(q) {
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
		for _, line := range Status(c.Scheduler, c.Config) {
			q.say(line)
		}
		return Timeout("timed out: not all events are done")
	}
	return nil
}

// inCommand reports whether the client is a command that a rule runs, or a child of one. It cannot
// wait for the end of commands: that would be its own.
func (c *Server) inCommand(q *request) bool {
	_, is := c.Scheduler.Owner(q.pid)
	return is
}

// ParseSeconds parses a time in seconds, such as "2" or "0.5". Digits after the ninth decimal do not
// count.
func ParseSeconds(text string) (time.Duration, error) {
	whole, part, _ := strings.Cut(text, ".")
	ns, err := strconv.ParseUint(whole+(part + "000000000")[:9], 10, 63)
	if err != nil || whole+part == "" || strings.Trim(text, "0123456789.") != "" {
		return 0, errors.New("not a time in seconds: " + strconv.Quote(text))
	}
	return time.Duration(ns), nil
}
