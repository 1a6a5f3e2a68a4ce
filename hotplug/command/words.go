package command

import (
	"strings"

	"devspool/hotplug/sys"
	"devspool/nodes"
)

// resolve finds the program of c and its arguments. A line of plain words needs no shell.
// Every other line is for /bin/sh, and so is a program that only the shell may know: one of
// its builtins, or one that is not in PATH.
func resolve(c *nodes.Command, env []string) (program string, argv []string, err error) {
	if c.Execline {
		return resolveExecline(c.Text, env)
	}
	argv, plain := words(c.Text, env)
	if plain {
		if len(argv) == 0 {
			return "", nil, errNotFound
		}
		program = sys.LookPath(argv[0], env)
		if program != "" && !isOneOf(builtins, argv[0]) {
			return program, argv, nil
		}
		if !sys.Executable(shell) { // then the program of a builtin's name has to do
			if program == "" {
				return "", nil, errNotFound
			}
			return program, argv, nil
		}
	}
	return shell, []string{"sh", "-c", c.Text}, nil
}

// resolveExecline is resolve for a line in the language of execlineb. Plain words mean the
// same without it, so they need no execlineb. It knows quotes, backslashes, blocks and
// comments; a $ is an ordinary character.
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

// builtins are the words that a shell runs itself, or runs otherwise than the program of that
// name. They are in one string, each between two blanks, since maps are large in the binary.
const builtins = " . : [ [[ alias bg break case cd command continue do done echo elif else esac eval exec exit" +
	" export false fg fi for function getopts hash if in jobs kill let local printf pwd read readonly return set" +
	" shift source test then time times trap true type ulimit umask unalias unset until wait while ! "

// shellVariables are the variables that a shell gives values of its own, in the form of
// builtins.
const shellVariables = " IFS LINENO OLDPWD OPTARG OPTIND PPID PS1 PS2 PS4 PWD RANDOM SECONDS SHLVL UID EUID _ "

// isOneOf reports whether word is one of a list in the form of builtins. A word with a blank
// could match two of them at once.
func isOneOf(list, word string) bool {
	return word != "" && strings.IndexByte(word, ' ') < 0 && strings.Contains(list, " "+word+" ")
}

// words splits a command line that needs no shell: words, quoted or not, with $NAME or
// ${NAME} in them. Plain is false where the line has anything else: the shell must get every line
// that it could read in another way.
//
// A value is never split or expanded further, so what a device says can change only its own
// word. A word that consists of empty unquoted values is left out, as a shell does.
func words(line string, env []string) (argv []string, plain bool) {
	var word strings.Builder
	// Begun: the word has a byte already, so that # and ~ are ordinary. Quoted: a part of it was in quotes,
	// so that it counts even if it is empty.
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

// doubleQuoted reads the "…" that s begins with. It is n bytes long. Ok is false for a backquote, a
// backslash and a missing end, which are left to a shell, and for a $ that variable leaves to one.
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

// variable reads the $NAME or ${NAME} that s begins with, and returns the value of NAME in
// env, or "" for one that is not set. It is n bytes long. Ok is false for all else that a $ can begin, such
// as $1, $? and ${NAME:-...}, which is left to a shell.
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
	// Only a shell knows its value.
	if isOneOf(shellVariables, name) {
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
