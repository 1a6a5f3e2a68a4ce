package command

import (
	"strings"

	"devspool/hotplug/sys"
	"devspool/nodes"
)

// resolve finds the program of c and its arguments. A line of plain words needs
// no shell; all else, and a program that only the shell may know, is for /bin/sh.
func resolve(c nodes.Command, env []string) (program string, argv []string, err error) {
	if c.Execline {
		return resolveExecline(c.Text, env)
	}
	argv, plain := words(c.Text, env)
	if !plain {
		return Shell, []string{"sh", "-c", c.Text}, nil
	}
	if len(argv) == 0 {
		return "", nil, ErrNotFound
	}
	if builtins[argv[0]] && sys.Executable(Shell) {
		return Shell, []string{"sh", "-c", c.Text}, nil
	}
	if program := sys.LookPath(argv[0], env); program != "" {
		return program, argv, nil
	}
	if sys.Executable(Shell) {
		return Shell, []string{"sh", "-c", c.Text}, nil
	}
	return "", nil, ErrNotFound
}

// resolveExecline is resolve for a line that execlineb is to run. To that plain words
// mean no more than they are, so they need none; it knows quotes, backslashes, blocks and
// comments, while a $ is a character.
func resolveExecline(line string, env []string) (program string, argv []string, err error) {
	argv, err = strings.Fields(line), ErrNotFound
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
