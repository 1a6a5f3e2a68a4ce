// Package applet holds the tools by which a person or a script meets the spool:
// devspool watch and devspool event. They use the spool as any client does.
//
// It never publishes but for event put, and knows nothing of /sys.
package applet

import (
	"errors"
	"io"
	"strings"
)

// The exit codes, which are those of devspool.
const (
	exitDone   = 0
	exitFailed = 1 // also where there is no event to be had
	exitUsage  = 100
)

// Streams are what a tool reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// misuse says what is wrong with a command line.
type misuse string

func (m misuse) Error() string { return string(m) }

func noSpool(root string) error {
	return errors.New("no spool at " + root + "; does devspool run there?")
}

// fail writes why a tool failed, or how it is to be used, and returns the exit
// code for it.
func (s Streams) fail(usage, tool string, err error) int {
	var wrong misuse
	if errors.As(err, &wrong) {
		return s.misused(usage, string(wrong))
	}
	io.WriteString(s.Err, "devspool "+tool+": error: "+err.Error()+"\n")
	return exitFailed
}

func (s Streams) misused(usage, wrong string) int {
	io.WriteString(s.Err, usage+"\n"+wrong+"\n")
	return exitUsage
}

func (s Streams) help(usage string) int {
	if _, err := io.WriteString(s.Out, usage); err != nil {
		return exitFailed
	}
	return exitDone
}

// errHelp is returned where the command line asks for help.
var errHelp = errors.New("help")

// parse reads a command line. Of options, the key is what stands on the command
// line; one that takes a value is given it, with "" for the others. What is no
// option comes back as rest.
func parse(args []string, options map[string]option) (rest []string, err error) {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			return append(rest, args...), nil
		}
		if len(arg) < 2 || arg[0] != '-' {
			rest = append(rest, arg)
			continue
		}
		if arg == "-h" || arg == "--help" {
			return nil, errHelp
		}
		name, value, given := strings.Cut(arg, "=")
		o, known := options[name]
		switch {
		case !known:
			return nil, misuse("unknown option " + name)
		case o.value == nil && given:
			return nil, misuse(name + " takes no value")
		case o.value == nil:
			*o.is = true
			continue
		case !given && len(args) == 0:
			return nil, misuse(name + " needs a value")
		case !given:
			value, args = args[0], args[1:]
		}
		if value == "" {
			return nil, misuse(name + " needs a value")
		}
		*o.value = value
	}
	return rest, nil
}

// option is one of a command line: a value, or whether it is there.
type option struct {
	value *string
	is    *bool
}

// left and right bring text to a width.
func left(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-len(text)))
}

func right(text string, width int) string {
	return strings.Repeat(" ", max(0, width-len(text))) + text
}
