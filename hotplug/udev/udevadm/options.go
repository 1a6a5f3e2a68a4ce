package udevadm

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"devspool/hotplug/udev"
)

// A command's options are a table of words: "v:verbose" for -v and --verbose, "type=" for one with a
// value, "w:wait?" for one that may have it as --wait=VALUE or -wVALUE. A word's place in the table is the
// option's for given.

// cutOption returns the parts of such a word. Short is "" or a letter, value "", "=" or "?".
func cutOption(word string) (short, long, value string) {
	long = strings.TrimRight(word, "=?")
	value = word[len(long):]
	if word[1] == ':' {
		short, long = word[:1], long[2:]
	}
	return short, long, value
}

// given is what a command line holds: the values of each option, by its place in the
// command's table ("" for an option without one), and what else is there. No table has more
// options than values has room for.
type given struct {
	values   [24][]string
	operands []string
}

// has reports whether the option at a place was given.
func (g *given) has(i int) bool { return len(g.values[i]) > 0 }

// last returns the value that was given last, or what is meant where none was.
func (g *given) last(i int, otherwise string) string {
	if all := g.values[i]; len(all) > 0 {
		return all[len(all)-1]
	}
	return otherwise
}

// parse reads a command line, as getopt_long(3) does. Options may stand behind operands, up to "--". A
// long name may be cut short where it stays the only one. Words of several letters, such as -vn, are cut
// short in args.
func (t *tool) parse(args []string, table string) (*given, error) {
	g, known := &given{}, strings.Fields(table)
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if len(arg) < 2 || arg[0] != '-' {
			udev.Add(&g.operands, arg)
			continue
		}
		if arg == "--" {
			udev.Add(&g.operands, args[i+1:]...)
			break
		}
		long := arg[1] == '-'
		name, text, attached := strings.Cut(arg[2:], "=")
		if !long {
			// The rest of a word of short options is the value of the first that takes one.
			name, text = arg[1:2], arg[2:]
			attached = text != ""
		}
		o := find(known, name, long)
		if o < 0 {
			return nil, t.stray(name, known)
		}
		_, full, value := cutOption(known[o])
		switch {
		case value == "" && attached:
			if long {
				return nil, errors.New("option --" + full + " has no value")
			}
			// Go on with the next letter of the word.
			args[i], text = "-"+text, ""
			i--
		case value == "=" && !attached:
			if i++; i == len(args) {
				return nil, errors.New("option --" + full + " needs a value")
			}
			text = args[i]
		}
		udev.Add(&g.values[o], text)
	}
	return g, nil
}

// find returns the place of the option of that name, or -1 for none, and for the beginning of several. A
// name that is not long is one letter.
func find(known []string, name string, long bool) int {
	found := -1
	for i, word := range known {
		short, full, _ := cutOption(word)
		switch {
		case !long:
			if short == name {
				return i
			}
		// A whole name prevails, even where it begins another one.
		case full == name:
			return i
		case name != "" && strings.HasPrefix(full, name):
			// Several begin with this: the user has to say more.
			if found >= 0 {
				return -1
			}
			found = i
		}
	}
	return found
}

// stray returns what is said of an option that is in no table: every command knows --help and
// --version. What they ask for is printed at once, and the error errSaid ends the command.
func (t *tool) stray(name string, known []string) error {
	switch name {
	case "V", "version":
		t.print(version + "\n")
		return errSaid
	case "h", "help":
		text := "options:"
		for _, word := range known {
			_, full, _ := cutOption(word)
			text += " --" + full
		}
		t.print(text + "\n")
		return errSaid
	}
	return errors.New("no such option, or several: " + name)
}

// seconds reads a time: a number of seconds, perhaps with a fraction or a unit. Of a fraction
// three digits count. What is longer than the longest time is that.
func seconds(text string) (time.Duration, error) {
	if text == "infinity" {
		return forever, nil
	}
	// What is left when the letters of units are taken away; the rest has to be a unit.
	number := strings.TrimRight(text, "hmins ")
	unit := time.Second
	switch strings.TrimLeft(text[len(number):], " ") {
	case "", "s":
	case "ms":
		unit = time.Millisecond
	case "m", "min":
		unit = time.Minute
	case "h":
		unit = time.Hour
	default:
		number = ""
	}
	whole, part, _ := strings.Cut(number, ".")
	// The number is in thousandths of the unit.
	n, err := strconv.ParseUint(whole+(part + "000")[:3], 10, 40)
	if err != nil || whole == "" || len(whole) > 9 {
		return 0, errors.New("no time: " + text)
	}
	if unit /= 1000; n > uint64(forever/unit) {
		return forever, nil
	}
	return time.Duration(n) * unit, nil
}

// forever is the time for "infinity".
const forever time.Duration = 1<<63 - 1
