// Package cli reads a command line by a table of the options that it may have. The help
// text is made from the same table, and so can be whatever else lists options, such as a
// shell's completion. Getopt does so for applets that other programs' callers call.
//
// It never acts on what the command line says, and never writes to anybody.
package cli

import (
	"strconv"
	"strings"
)

// Option is one row of a table. It takes an argument if it has a Text or a Number for it.
type Option struct {
	_ [0]func() // options are not compared; the code for that would be as long as this package

	// Name is the option as help shows it: its letter, its long name, or both, and how its
	// argument is called: "-t, --table", "-j N", "--conf FILE". An argument that may be left
	// out, "--libudev[=DIR]", counts only in the form --libudev=DIR.
	Name string

	// Help is one or more lines, short enough for a terminal beside the names. An option
	// without help is not for people.
	Help string

	Given  *bool   // is set if the option is given; may be nil
	Text   *string // takes the argument, which is not empty
	Number *int    // takes the argument: a number from Least to 2^31-1
	Least  int32

	// Mode says that the option tells what the program is to do, and not how: help lists it
	// with the other ways to call the program.
	Mode bool
}

// Error says what is wrong with a command line.
type Error string

func (e Error) Error() string { return string(e) }

// Misuse returns the lines that tell what is wrong with the command line of a tool, "" for the
// program itself, and where its options are shown.
func Misuse(tool, wrong string) string {
	if tool != "" {
		tool = " " + tool
	}
	return "devspool" + tool + ": " + wrong + "\ndevspool: the options are shown by" + tool + " --help\n"
}

// Split returns the letter, or 0, and the long name, or "". What follows these in help is
// arg, with the space or bracket that it begins with.
func (o *Option) Split() (letter byte, long, arg string) {
	arg = o.Name
	// A Name begins with a dash, and then has a letter or a second dash.
	if arg[1] != '-' {
		letter, arg = arg[1], strings.TrimPrefix(arg[2:], ", ")
	}
	if strings.HasPrefix(arg, "--") {
		n := 2
		for n < len(arg) && arg[n] != ' ' && arg[n] != '[' {
			n++
		}
		long, arg = arg[2:n], arg[n:]
	}
	return letter, long, arg
}

// Parse reads the words of a command line, and stores what its options say. Letters may
// stand together behind one dash. An argument is the rest of the word, or the next word.
// Rest is what is no option, and all after a word of two dashes. Errors are of type Error.
func Parse(args []string, options []Option) (rest []string, err error) {
	ended := false
	for len(args) > 0 && err == nil {
		arg := args[0]
		args = args[1:]
		switch {
		case ended || len(arg) < 2 || arg[0] != '-':
			rest = append(rest, arg)
		case arg == "--":
			ended = true
		case arg[1] == '-':
			name, value, given := strings.Cut(arg, "=")
			args, err = take(find(options, 0, name[2:]), name, value, given, args)
		default:
			args, err = parseLetters(arg[1:], args, options)
		}
	}
	return rest, err
}

// parseLetters reads a cluster of letters, of which the last one may take an argument.
func parseLetters(letters string, args []string, options []Option) (rest []string, err error) {
	for i, letter := range letters {
		o, value := find(options, letter, ""), ""
		if o != nil && o.hasArgument() {
			// The loop still goes over the letters as they were: what is cut off here is the
			// argument.
			value, letters = letters[i+1:], letters[:i+1]
		}
		args, err = take(o, "-"+string(letter), strings.TrimPrefix(value, "="), value != "", args)
		if err != nil || len(letters) == i+1 {
			break
		}
	}
	return args, err
}

// find returns the option with that letter, or if it is 0 with that long name, or nil.
func find(options []Option, letter rune, name string) *Option {
	for i := range options {
		l, long, _ := options[i].Split()
		if letter == 0 && long == name && name != "" || letter != 0 && rune(l) == letter {
			return &options[i]
		}
	}
	return nil
}

// hasArgument reports whether the option has a place for an argument, and so takes one.
func (o *Option) hasArgument() bool { return o.Text != nil || o.Number != nil }

// take stores that the option is given, and its argument: value, or if that is not given the
// first of args. Rest is args without it. No option is an unknown one.
func take(o *Option, name, value string, given bool, args []string) (rest []string, err error) {
	if o == nil {
		return nil, Error("unknown option " + name)
	}
	if o.Given != nil {
		*o.Given = true
	}
	wrong := ""
	switch {
	case !o.hasArgument() && given:
		wrong = " takes no value"
	case !o.hasArgument() || !given && strings.Contains(o.Name, "[="):
	// Where no word is left the value is empty, and store says what is missing.
	case given || len(args) == 0:
		wrong = o.store(value)
	default:
		wrong, args = o.store(args[0]), args[1:]
	}
	if wrong != "" {
		return nil, Error(name + wrong)
	}
	return args, nil
}

// store stores the argument, or says what is wrong with it, as what follows the option's name. By
// DIR or FILE in Name it knows that a path is wanted.
func (o *Option) store(value string) (wrong string) {
	switch {
	case value == "" && o.Text == nil:
		return " needs a number"
	case value == "" && (strings.Contains(o.Name, "DIR") || strings.HasSuffix(o.Name, "FILE")):
		return " needs a path"
	case value == "":
		return " needs a value"
	case o.Text != nil:
		*o.Text = value
		return ""
	}
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || int32(n) < o.Least {
		return ": not a usable number: " + value
	}
	*o.Number = int(n)
	return ""
}

// Usage returns the rows of a help text for those options that are modes, or for the others.
// Each begins with prefix, and its help with column.
func Usage(options []Option, modes bool, prefix string, column int) string {
	text := ""
	for i := range options {
		if o := &options[i]; o.Help != "" && o.Mode == modes {
			text += Row(prefix+o.Name, o.Help, column)
		}
	}
	return text
}

// Row returns one row of a help text: what, and from column on, which is 32 at most, the
// lines of help. They begin on a line of their own if what is too long.
func Row(what, help string, column int) string {
	margin := "                                "[:column]
	if len(what) < column {
		what += margin[len(what):]
	} else {
		what += "\n" + margin
	}
	for more := true; more; {
		var line string
		line, help, more = strings.Cut(help, "\n")
		if what += line; more {
			what += "\n" + margin
		}
	}
	return what + "\n"
}
