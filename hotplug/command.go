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
	"devspool/hotplug/procfs"
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

// missing reports whether err says that a command names no program that can be run,
// for which a shell would have given the status 127 or 126.
func missing(err error) bool {
	return err == errNotFound || err == syscall.ENOENT || err == syscall.ENOTDIR || err == syscall.EACCES
}

// started is a command that runs.
type started struct {
	task    *task
	command nodes.Command
	pid     int
	since   sys.Time
	long    bool // nothing waits for it any more; guarded by the Road's mutex

	mu     sync.Mutex
	ended  bool
	killed string // why it was killed, or ""
}

// outcome is what came of a command.
type outcome struct {
	status unix.WaitStatus
	killed string // why we killed it, or ""
}

func (o outcome) String() string {
	switch {
	case o.killed != "":
		return o.killed
	case o.status.Signaled():
		return "by signal " + strconv.Itoa(int(o.status.Signal()))
	}
	return "exit status " + strconv.Itoa(o.status.ExitStatus())
}

// spawn starts c for t, in its own process group, so that all of it can be killed.
func (r *Road) spawn(t *task, c nodes.Command) (*started, error) {
	env := commandEnviron(r.Environ, t.plan, c)
	program, argv, err := resolve(c, env)
	if err != nil {
		return nil, err
	}
	pid, err := r.exec(program, argv, env)
	if program == shell && missing(err) {
		return nil, errNoShell
	}
	if err == syscall.ENOEXEC {
		// A script that names no interpreter is the shell's.
		pid, err = r.exec(shell, append([]string{shell, program}, argv[1:]...), env)
	}
	if err != nil {
		return nil, err
	}
	return &started{task: t, command: c, pid: pid, since: sys.Now()}, nil
}

func (r *Road) exec(program string, argv, env []string) (int, error) {
	null, err := nullInput()
	if err != nil {
		return 0, err
	}
	defer unix.Close(null)
	files := []uintptr{uintptr(null), 1, 2}
	for fd := 1; fd <= 2; fd++ {
		if !isDirectory(fd) {
			continue
		}
		out, err := nullOutput()
		if err != nil {
			return 0, err
		}
		defer unix.Close(out)
		files[fd] = uintptr(out)
	}
	return syscall.ForkExec(program, argv, &syscall.ProcAttr{
		Dir:   r.Dev.Path(),
		Env:   env,
		Files: files,
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
}

// isDirectory reports whether a descriptor was closed when the process began:
// package handoff has opened the root directory on those.
func isDirectory(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// nullOutput opens /dev/null, or where there is none yet a pipe that is drained.
func nullOutput() (int, error) {
	fd, err := unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		return fd, nil
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return 0, err
	}
	go func() {
		defer unix.Close(p[0])
		var buf [512]byte
		for n := 1; n > 0; {
			sys.RetryEINTR(func() (err error) { n, err = unix.Read(p[0], buf[:]); return err })
		}
	}()
	return p[1], nil
}

// nullInput opens /dev/null, or where there is none yet a pipe at its end.
func nullInput() (int, error) {
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		return fd, nil
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return 0, err
	}
	unix.Close(p[1])
	return p[0], nil
}

// wait returns when the command has ended, or was killed at its time limit.
func (s *started) wait() (o outcome) {
	limit := s.command.Timeout
	if limit == 0 {
		limit = DefaultTimeout
	}
	if limit != nodes.Unlimited {
		timer := time.AfterFunc(time.Duration(limit)*time.Second, func() {
			s.kill("ran longer than " + strconv.Itoa(int(limit)) + " s")
		})
		defer timer.Stop()
	}
	// First wait without reaping: until the flag is set the process's number
	// cannot belong to another, so that kill cannot hit a stranger.
	if !s.await() {
		sys.RetryEINTR(func() error { return unix.Waitid(unix.P_PID, s.pid, nil, unix.WEXITED|unix.WNOWAIT, nil) })
	}
	s.mu.Lock()
	s.ended = true
	o.killed = s.killed
	s.mu.Unlock()
	sys.RetryEINTR(func() error { _, err := unix.Wait4(s.pid, &o.status, 0, nil); return err })
	return o
}

// await returns true when the command has ended, and false at once where the kernel has
// no descriptors of processes (before Linux 5.3). By these no thread has to stay in a
// system call, from which the runtime would have to take back the right to run Go code.
func (s *started) await() (ended bool) {
	fd, err := unix.PidfdOpen(s.pid, 0)
	if err != nil {
		return false
	}
	file, process, err := sys.Polled(fd, "pidfd")
	if err != nil {
		return false
	}
	defer file.Close()
	return process.Read(func(uintptr) bool { return sys.EndedChild(unix.P_PID, s.pid) != 0 }) == nil
}

// kill ends the command and what it started. Why is for the log.
func (s *started) kill(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.killed = why
		unix.Kill(-s.pid, unix.SIGKILL)
		unix.Kill(s.pid, unix.SIGKILL) // it may have left its group
	}
}

// countRunning returns how many processes of the commands are in state R: on a
// processor, or waiting for one.
func countRunning(commands map[*started]bool) (n int) {
	groups := map[string]bool{}
	for s := range commands {
		groups[strconv.Itoa(s.pid)] = true
	}
	for _, pid := range sys.ReadDir("/proc") {
		if pid[0] < '1' || pid[0] > '9' {
			continue
		}
		stat, err := sys.ReadAttribute("/proc/" + pid + "/stat")
		if err != nil {
			continue
		}
		if state, _, group := procfs.Fields(stat); state == "R" && groups[group] {
			n++
		}
	}
	return n
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
