package command

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/handoff"
	"devspool/hotplug/sys"
	"devspool/nodes"
)

// DefaultTimeout is how long a command may run where its rule says nothing.
const DefaultTimeout nodes.Seconds = 180

// marker is a variable in the environment of each command. A helper that finds
// it was not started by the kernel, whatever else its environment says.
const marker = handoff.Marker

// InCommand reports whether environ is that of a command which a rule runs.
func InCommand(environ []string) bool { return slices.Contains(environ, marker) }

const Shell = "/bin/sh"

var (
	errNoShell    = errors.New("it needs " + Shell + ", which is missing; use plain words, or add a shell to the system")
	ErrNotFound   = errors.New("no such program")
	errNoExecline = errors.New("it needs execlineb, which is not here: install execline, or begin the command with @, $ or * and write it for " + Shell)
)

// Missing reports whether err says that a command names no program that can be run,
// for which a shell would have given the status 127 or 126.
func Missing(err error) bool {
	return err == ErrNotFound || err == syscall.ENOENT || err == syscall.ENOTDIR || err == syscall.EACCES
}

// Outlives reports whether a command may run longer than the process that starts it, as one
// that ends with an &: nothing waits for it, and it has no time limit.
func Outlives(c nodes.Command) bool { return c.Detach && c.Timeout <= 0 }

// Spec says which command to start, and how.
type Spec struct {
	Command nodes.Command
	Plan    *nodes.Plan // of the event that it runs for
	Dir     string      // its working directory
	Environ []string    // what it inherits, besides the event's variables

	// KeepErrors keeps the end of what the command writes to its standard error, for
	// Outcome.Errors. It needs /proc.
	KeepErrors bool
}

// Running is a command that runs. Its methods may be called by several goroutines.
type Running struct {
	PID     int
	Since   sys.Time // when it started
	Command nodes.Command

	errors *errorTail // or nil

	mu     sync.Mutex
	ended  bool
	killed string // why it was killed, or ""
}

// Outcome is what came of a command.
type Outcome struct {
	Status unix.WaitStatus
	Killed string // why Kill ended it, or ""
	Errors string // the last line of its standard error, where that was kept
}

// String returns how the command ended, and the last line of its standard error.
func (o Outcome) String() string {
	text := "exit status " + strconv.Itoa(o.Status.ExitStatus())
	switch {
	case o.Killed != "":
		text = o.Killed
	case o.Status.Signaled():
		text = "by signal " + strconv.Itoa(int(o.Status.Signal()))
	}
	if o.Errors != "" {
		text += ": " + o.Errors
	}
	return text
}

// Start starts a command, in a process group of its own, so that all of it can be
// killed. Missing tells of an error whether the program is not there.
func Start(spec Spec) (*Running, error) {
	env := commandEnviron(spec.Environ, spec.Plan, spec.Command)
	program, argv, err := resolve(spec.Command, env)
	if err != nil {
		return nil, err
	}
	files, opened, err := standardFiles(spec.KeepErrors)
	if err != nil {
		return nil, err
	}
	defer sys.CloseAll(&opened.input, &opened.output)
	attr := &syscall.ProcAttr{Dir: spec.Dir, Env: env, Files: files, Sys: &syscall.SysProcAttr{Setpgid: true}}
	pid, err := syscall.ForkExec(program, argv, attr)
	if program == Shell && Missing(err) {
		err = errNoShell
	} else if err == syscall.ENOEXEC {
		// A script that names no interpreter is the shell's.
		pid, err = syscall.ForkExec(Shell, append([]string{Shell, program}, argv[1:]...), attr)
	}
	if err != nil {
		sys.CloseAll(&opened.errors, &opened.kept)
		return nil, err
	}
	r := &Running{PID: pid, Since: sys.Now(), Command: spec.Command}
	if opened.kept != sys.None {
		r.errors = newErrorTail(opened.errors, opened.kept)
	}
	if r.errors != nil && Outlives(spec.Command) {
		r.errors.unblock()
	}
	return r, nil
}

// Wait returns when the command has ended, or was killed at its time limit. It is to be
// called once.
func (r *Running) Wait() (o Outcome) {
	limit := r.Command.Timeout
	if limit == 0 {
		limit = DefaultTimeout
	}
	if limit != nodes.Unlimited && !Outlives(r.Command) {
		timer := time.AfterFunc(time.Duration(limit)*time.Second, func() {
			r.Kill("ran longer than " + strconv.Itoa(int(limit)) + " s")
		})
		defer timer.Stop()
	}
	// First wait without reaping: until the flag is set the process's number
	// cannot belong to another, so that kill cannot hit a stranger.
	if !r.await() {
		sys.RetryEINTR(func() error { return unix.Waitid(unix.P_PID, r.PID, nil, unix.WEXITED|unix.WNOWAIT, nil) })
	}
	r.mu.Lock()
	r.ended = true
	o.Killed = r.killed
	r.mu.Unlock()
	sys.RetryEINTR(func() error { _, err := unix.Wait4(r.PID, &o.Status, 0, nil); return err })
	o.Errors = r.errors.lastLine()
	return o
}

// await returns true when the command has ended, and false at once where the kernel has
// no descriptors of processes (before Linux 5.3). By these no thread has to stay in a
// system call, from which the runtime would have to take back the right to run Go code.
func (r *Running) await() (ended bool) {
	fd, err := unix.PidfdOpen(r.PID, 0)
	if err != nil {
		return false
	}
	file, process, err := sys.Polled(fd, "pidfd")
	if err != nil {
		return false
	}
	defer file.Close()
	return process.Read(func(uintptr) bool { return sys.EndedChild(unix.P_PID, r.PID) != 0 }) == nil
}

// Kill ends the command and what it started. Why is for the log.
func (r *Running) Kill(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.killed = why
		unix.Kill(-r.PID, unix.SIGKILL)
		unix.Kill(r.PID, unix.SIGKILL) // it may have left its group
	}
}

// commandEnviron returns MDEV and TAGS, the event's variables, and what is inherited
// besides, each key once. Of a variable that the event says several times it is the
// value that the rule matched, else the first: what getenv(3) would find if all were
// there, while most shells would find the last.
func commandEnviron(inherited []string, p *nodes.Plan, c nodes.Command) []string {
	env := []string{"MDEV=" + c.Node, marker}
	if tags := p.TagList(); tags != "" {
		env = append(env, "TAGS="+tags)
	}
	for _, more := range [][]string{strings.Split(c.Said, "\x00"), slices.Collect(p.Event.Env()), inherited} {
		for _, kv := range more {
			key := kv[:strings.IndexByte(kv, '=')+1]
			if key != "" && !slices.ContainsFunc(env, func(o string) bool { return strings.HasPrefix(o, key) }) {
				env = append(env, kv)
			}
		}
	}
	return env
}
