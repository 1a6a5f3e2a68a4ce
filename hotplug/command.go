package hotplug

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

const shell = "/bin/sh"

var (
	errNoShell    = errors.New("it needs " + shell + ", which is missing; use plain words, or add a shell to the system")
	errNotFound   = errors.New("no such program")
	errNoExecline = errors.New("it needs execlineb, which is not here: install execline, or begin the command with @, $ or * and write it for " + shell)
)

// Missing reports whether err says that a command names no program that can be run,
// for which a shell would have given the status 127 or 126.
func Missing(err error) bool {
	return err == errNotFound || err == syscall.ENOENT || err == syscall.ENOTDIR || err == syscall.EACCES
}

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

	errors int // the pipe that its standard error goes to, or sys.None

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
	defer sys.CloseAll(&opened.input, &opened.output, &opened.errors)
	attr := &syscall.ProcAttr{Dir: spec.Dir, Env: env, Files: files, Sys: &syscall.SysProcAttr{Setpgid: true}}
	pid, err := syscall.ForkExec(program, argv, attr)
	if program == shell && Missing(err) {
		err = errNoShell
	} else if err == syscall.ENOEXEC {
		// A script that names no interpreter is the shell's.
		pid, err = syscall.ForkExec(shell, append([]string{shell, program}, argv[1:]...), attr)
	}
	if err != nil {
		sys.CloseAll(&opened.kept)
		return nil, err
	}
	return &Running{PID: pid, Since: sys.Now(), Command: spec.Command, errors: opened.kept}, nil
}

// Wait returns when the command has ended, or was killed at its time limit. It is to be
// called once.
func (r *Running) Wait() (o Outcome) {
	limit := r.Command.Timeout
	if limit == 0 {
		limit = DefaultTimeout
	}
	if limit != nodes.Unlimited {
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
	o.Errors = lastLine(r.errors)
	sys.CloseAll(&r.errors)
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

// resolve finds the program of c and its arguments. A line of plain words needs
// no shell; all else, and a program that only the shell may know, is for /bin/sh.
func resolve(c nodes.Command, env []string) (program string, argv []string, err error) {
	if c.Execline {
		return resolveExecline(c.Text, env)
	}
	argv, plain := words(c.Text, env)
	if !plain {
		return shell, []string{"sh", "-c", c.Text}, nil
	}
	if len(argv) == 0 {
		return "", nil, errNotFound
	}
	if builtins[argv[0]] && sys.Executable(shell) {
		return shell, []string{"sh", "-c", c.Text}, nil
	}
	if program := sys.LookPath(argv[0], env); program != "" {
		return program, argv, nil
	}
	if sys.Executable(shell) {
		return shell, []string{"sh", "-c", c.Text}, nil
	}
	return "", nil, errNotFound
}

// resolveExecline is resolve for a line that execlineb is to run. To that plain words
// mean no more than they are, so they need none; it knows quotes, backslashes, blocks and
// comments, while a $ is a character.
func resolveExecline(line string, env []string) (program string, argv []string, err error) {
	argv, err = strings.Fields(line), errNotFound
	if strings.ContainsAny(line, `"\{}#`) {
		argv, err = []string{"execlineb", "-Pc", line}, errNoExecline
	}
	if len(argv) > 0 {
		program = sys.LookPath(argv[0], env)
	}
	if program == "" {
		return "", nil, err
	}
	return program, argv, nil
}

// builtins are the commands that a shell does itself, or does in its own way.
var builtins = map[string]bool{
	".": true, ":": true, "[": true, "[[": true, "alias": true, "bg": true, "break": true,
	"case": true, "cd": true, "command": true, "continue": true, "do": true, "done": true,
	"echo": true, "elif": true, "else": true, "esac": true, "eval": true, "exec": true,
	"exit": true, "export": true, "false": true, "fg": true, "fi": true, "for": true,
	"function": true, "getopts": true, "hash": true, "if": true, "in": true, "jobs": true,
	"kill": true, "let": true, "local": true, "printf": true, "pwd": true, "read": true,
	"readonly": true, "return": true, "set": true, "shift": true, "source": true, "test": true,
	"then": true, "time": true, "times": true, "trap": true, "true": true, "type": true,
	"ulimit": true, "umask": true, "unalias": true, "unset": true, "until": true,
	"wait": true, "while": true, "!": true,
}

// shells are the variables that a shell gives values of its own.
var shells = map[string]bool{
	"IFS": true, "LINENO": true, "OLDPWD": true, "OPTARG": true, "OPTIND": true, "PPID": true,
	"PS1": true, "PS2": true, "PS4": true, "PWD": true, "RANDOM": true, "SECONDS": true,
	"SHLVL": true, "UID": true, "EUID": true, "_": true,
}

// words splits a command line that needs no shell: words, quoted or not, with
// $NAME or ${NAME} in them. Plain is false where there is anything else.
//
// A value is never split or expanded further, so what a device says can change
// no word but its own. A word of nothing but empty unquoted values is left out,
// as a shell does.
func words(line string, env []string) (argv []string, plain bool) {
	var word strings.Builder
	begun, quoted := false, false
	flush := func() {
		if quoted || word.Len() > 0 {
			argv = append(argv, word.String())
		}
		word.Reset()
		begun, quoted = false, false
	}
	for i := 0; i < len(line); {
		c := line[i]
		switch {
		case c == ' ' || c == '\t':
			flush()
			i++
			continue
		case c == '\'':
			end := strings.IndexByte(line[i+1:], '\'')
			if end < 0 {
				return nil, false
			}
			word.WriteString(line[i+1 : i+1+end])
			quoted = true
			i += end + 2
		case c == '"':
			text, n, ok := doubleQuoted(line[i:], env)
			if !ok {
				return nil, false
			}
			word.WriteString(text)
			quoted = true
			i += n
		case c == '$':
			value, n, ok := variable(line[i:], env)
			if !ok {
				return nil, false
			}
			word.WriteString(value)
			i += n
		case strings.IndexByte("|&;<>()`\\*?[{}\n", c) >= 0,
			c == '=' && len(argv) == 0, // an assignment
			!begun && (c == '#' || c == '~'):
			return nil, false
		default:
			word.WriteByte(c)
			i++
		}
		begun = true
	}
	flush()
	return argv, true
}

// doubleQuoted reads a "…" at the head of s, n bytes of it.
func doubleQuoted(s string, env []string) (text string, n int, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); {
		switch c := s[i]; c {
		case '"':
			return b.String(), i + 1, true
		case '`', '\\':
			return "", 0, false
		case '$':
			value, n, ok := variable(s[i:], env)
			if !ok {
				return "", 0, false
			}
			b.WriteString(value)
			i += n
		default:
			b.WriteByte(c)
			i++
		}
	}
	return "", 0, false
}

// variable reads a $NAME or ${NAME} at the head of s, n bytes of it.
func variable(s string, env []string) (value string, n int, ok bool) {
	start := 1
	if strings.HasPrefix(s, "${") {
		start = 2
	}
	end := start
	for end < len(s) && (s[end] == '_' || s[end]|0x20 >= 'a' && s[end]|0x20 <= 'z' ||
		end > start && s[end] >= '0' && s[end] <= '9') {
		end++
	}
	if end == start {
		return "", 0, false
	}
	name := s[start:end]
	if shells[name] {
		return "", 0, false
	}
	if start == 2 {
		if end == len(s) || s[end] != '}' {
			return "", 0, false
		}
		end++
	}
	return sys.Getenv(env, name), end, true
}
