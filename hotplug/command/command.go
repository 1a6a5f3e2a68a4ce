// Package command runs the command of a rule as a process: it finds the program, makes the
// environment and the descriptors, waits for the end, and kills what runs for too long.
//
// It never decides which command runs, or when, and never gives a shell a line into which a
// device could have put code: values reach a command as variables, or as one word.
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

// defaultTimeout is how long a command may run where neither its rule nor the config says: as long as udevd
// lets an event take.
const defaultTimeout nodes.Seconds = 180

// marker is a variable in the environment of each command. A helper that finds it was not
// started by the kernel, whatever else its environment says.
const marker = handoff.Marker

// InCommand reports whether environ is the environment of a command of a rule.
func InCommand(environ []string) bool { return slices.Contains(environ, marker) }

// shell is the program that gets command lines which are not plain words.
const shell = "/bin/sh"

var (
	errNotFound   = errors.New("no such program")
	errNoShell    = errors.New("it needs " + shell + ", which is missing; use plain words, or add a shell to the system")
	errNoExecline = errors.New("it needs execlineb, which is not here: install execline, or begin the command with @, $ or * and write it for " + shell)
)

// Missing reports whether err is that of a command whose program is missing or may not be
// run, for which a shell would end with status 127 or 126. The errors are compared as Start
// returns them: bare.
func Missing(err error) bool {
	return err == errNotFound || err == syscall.ENOENT || err == syscall.ENOTDIR || err == syscall.EACCES
}

// Outlives reports whether a command may run longer than the process that starts it, as one
// that ends with an &: nothing waits for it, and it has no time limit.
func Outlives(c *nodes.Command) bool { return c.Detach && c.Timeout <= 0 }

// Spec says which command to start, and how.
type Spec struct {
	Command *nodes.Command
	Plan    *nodes.Plan // of the event that the command runs for
	Dir     string      // the working directory
	Environ []string    // variables to inherit, besides those of the event

	// KeepErrors keeps the end of what the command writes to its standard error, for
	// Outcome.Errors. It needs /proc.
	KeepErrors bool
}

// Running is a command that runs. Its methods may be called by several goroutines.
type Running struct {
	PID     int      // of the command, and of its process group
	Since   sys.Time // when it started
	Command *nodes.Command

	errors *errorTail // nil without Spec.KeepErrors, and where no pipe could be made

	mu     sync.Mutex // guards the fields below
	ended  bool       // its end was seen; its number may soon belong to another process
	killed string     // the reason given to Kill, or ""
}

// Outcome is how a command ended.
type Outcome struct {
	Status unix.WaitStatus
	Killed string // the reason given to Kill, or ""
	Errors string // the last lines of its standard error, where Spec.KeepErrors was set
}

// String returns how the command ended, and the last lines of its standard error.
func (o *Outcome) String() string {
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

// Start starts a command, in a process group of its own, so that Kill can end all that it
// starts. See Missing about the error; it is a bare errno or a text without a path.
func Start(spec *Spec) (*Running, error) {
	env := commandEnviron(spec.Environ, spec.Plan, spec.Command)
	program, argv, err := resolve(spec.Command, env)
	if err != nil {
		return nil, err
	}
	s, err := openStreams(spec.KeepErrors)
	if err != nil {
		return nil, err
	}
	defer sys.CloseAll(&s.input, &s.output)
	// ForkExec takes only descriptors 0 to 2 along: all that this process opens is close-on-exec.
	attr := &syscall.ProcAttr{Dir: spec.Dir, Env: env, Files: s.files(), Sys: &syscall.SysProcAttr{Setpgid: true}}
	pid, err := syscall.ForkExec(program, argv, attr)
	// The errno would be the shell's, and the message would name a program that no rule names.
	if program == shell && Missing(err) {
		err = errNoShell
	} else if err == syscall.ENOEXEC {
		// A script that names no interpreter is for the shell.
		pid, err = syscall.ForkExec(shell, append([]string{shell, program}, argv[1:]...), attr)
	}
	if err != nil {
		sys.CloseAll(&s.errors, &s.kept)
		return nil, err
	}
	r := &Running{PID: pid, Since: sys.Now(), Command: spec.Command}
	if s.kept != sys.None {
		r.errors = newErrorTail(s.errors, s.kept)
	}
	// The command runs on when nobody reads any more, and must not block in a write then.
	if r.errors != nil && Outlives(spec.Command) {
		r.errors.unblock()
	}
	return r, nil
}

// Wait returns when the command has ended. It kills a command that runs for longer than its
// time limit. It must be called once.
func (r *Running) Wait() (o Outcome) {
	limit := r.Command.Timeout
	if limit == 0 {
		limit = defaultTimeout
	}
	if limit != nodes.Unlimited && !Outlives(r.Command) {
		timer := time.AfterFunc(time.Duration(limit)*time.Second, func() {
			r.Kill("ran longer than " + strconv.Itoa(int(limit)) + " s")
		})
		defer timer.Stop()
	}
	// First wait without reaping, then set ended, then reap: so Kill, which looks at ended,
	// never hits another process that has got the number. Neither call can fail, but for a
	// parent that ignores SIGCHLD: the kernel reaps then, and the status is lost.
	if !r.await() {
		_ = sys.RetryEINTR(func() error { return unix.Waitid(unix.P_PID, r.PID, nil, unix.WEXITED|unix.WNOWAIT, nil) })
	}
	r.mu.Lock()
	r.ended = true
	o.Killed = r.killed
	r.mu.Unlock()
	_ = sys.RetryEINTR(func() error { _, err := unix.Wait4(r.PID, &o.Status, 0, nil); return err })
	o.Errors = r.errors.lastLines()
	return o
}

// await returns true when the command has ended, and false at once where the kernel has no
// pidfd_open (before Linux 5.3). The runtime's poller waits for the descriptor of a process,
// so that no thread is blocked in a system call, which is dearer.
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

// Kill kills the process group of the command, unless that has ended. Why goes to
// Outcome.Killed.
func (r *Running) Kill(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.killed = why
		_ = unix.Kill(-r.PID, unix.SIGKILL)
		_ = unix.Kill(r.PID, unix.SIGKILL) // it may have left its group, which fails the first call
	}
}

// commandEnviron returns the environment of a command: MDEV and TAGS, the variables of the
// event, and the inherited ones, each key once and the first value of each. Of a variable
// that the event says several times, that is the value that the rule matched, else the
// first: the one that getenv(3) would find, while most shells would find the last.
func commandEnviron(inherited []string, p *nodes.Plan, c *nodes.Command) []string {
	env := []string{"MDEV=" + c.Node, marker}
	add := func(kv string) {
		// With its "=", so that no key is taken for the beginning of another one.
		key := kv[:strings.IndexByte(kv, '=')+1]
		if key == "" {
			return
		}
		for _, other := range env {
			if strings.HasPrefix(other, key) {
				return
			}
		}
		env = append(env, kv)
	}
	if tags := p.TagList(); tags != "" {
		add("TAGS=" + tags)
	}
	for _, kv := range strings.Split(c.Matched, "\x00") {
		add(kv)
	}
	for kv := range p.Event.Env() {
		add(kv)
	}
	for _, kv := range inherited {
		add(kv)
	}
	return env
}
