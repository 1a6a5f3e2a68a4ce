package udevadm

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// option is one that a command knows.
type option struct {
	short byte // 0 for none
	long  string
	value value
	help  string // "" for an older name, which help leaves out
}

// value says whether an option has a value.
type value uint8

const (
	none     value = iota
	required       // -o VALUE, -oVALUE, --option VALUE, --option=VALUE
	optional       // --option=VALUE
)

// options are what a command knows.
type options []option

// parse calls set for each option, in order, with its long name, and returns what else is
// there. Options may stand behind operands, up to "--".
func (t *tool) parse(args []string, command string, known options, set func(name, value string) error) (operands []string, err error) {
	known = append(known, option{'h', "help", none, "print this"}, option{'V', "version", none, "print the version"})
	apply := func(o *option, value string) error {
		switch o.long {
		case "help":
			t.print(known.help(command))
			return errHelp
		case "version":
			return errVersion
		}
		return set(o.long, value)
	}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			return append(operands, args[i+1:]...), nil
		case strings.HasPrefix(arg, "--"):
			name, text, given := strings.Cut(arg[2:], "=")
			o, err := known.find(name)
			if err != nil {
				return nil, err
			}
			if o.value == required && !given {
				if i++; i == len(args) {
					return nil, errors.New("option --" + o.long + " needs a value")
				}
				text = args[i]
			}
			if o.value == none && given {
				return nil, errors.New("option --" + o.long + " has no value")
			}
			if err := apply(o, text); err != nil {
				return nil, err
			}
		case len(arg) > 1 && arg[0] == '-':
			for arg = arg[1:]; arg != ""; {
				o := known.findShort(arg[0])
				if o == nil {
					return nil, errors.New("there is no option -" + arg[:1] + " here; see udevadm " + command + " --help")
				}
				arg = arg[1:]
				text := ""
				if o.value != none && arg != "" {
					text, arg = arg, ""
				} else if o.value == required {
					if i++; i == len(args) {
						return nil, errors.New("option -" + string(rune(o.short)) + " needs a value")
					}
					text = args[i]
				}
				if err := apply(o, text); err != nil {
					return nil, err
				}
			}
		default:
			operands = append(operands, arg)
		}
	}
	return operands, nil
}

// find returns the option of that name, or the only one whose name begins so.
func (known options) find(name string) (*option, error) {
	var found *option
	for i := range known {
		o := &known[i]
		if o.long == name {
			return o, nil
		}
		if name != "" && strings.HasPrefix(o.long, name) && o.help != "" {
			if found != nil {
				return nil, errors.New("option --" + name + " may be --" + found.long + " or --" + o.long)
			}
			found = o
		}
	}
	if found == nil {
		return nil, errors.New("there is no option --" + name + " here; see --help")
	}
	return found, nil
}

func (known options) findShort(short byte) *option {
	for i := range known {
		if known[i].short == short {
			return &known[i]
		}
	}
	return nil
}

// help returns a line for each option.
func (known options) help(command string) string {
	text := "udevadm " + command + " [OPTION]...\n\n"
	for _, o := range known {
		if o.help == "" {
			continue
		}
		line := "     --"
		if o.short != 0 {
			line = "  -" + string(rune(o.short)) + " --"
		}
		line += o.long + [...]string{"", "=VALUE", "[=VALUE]"}[o.value]
		text += line + strings.Repeat(" ", max(1, 36-len(line))) + o.help + "\n"
	}
	return text
}

// seconds reads a time as systemd writes it: a number of seconds, perhaps with a fraction
// or a unit.
func seconds(text string) (time.Duration, error) {
	if text == "infinity" {
		return 1<<63 - 1, nil
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil && n >= 0 && n < 1e9 {
		return time.Duration(n * float64(time.Second)), nil
	}
	number := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz ")
	n, err := strconv.ParseUint(number, 10, 31)
	unit := map[string]time.Duration{"s": time.Second, "sec": time.Second, "ms": time.Millisecond,
		"min": time.Minute, "m": time.Minute, "h": time.Hour}[strings.TrimSpace(text[len(number):])]
	if err != nil || unit == 0 {
		return 0, errors.New("no time: " + text)
	}
	return time.Duration(n) * unit, nil
}

// matches reports whether text is of the form of a shell's pattern (*, ?, [...]), as
// fnmatch(3) without flags.
func matches(pattern, text string) bool {
	for pattern != "" {
		switch pattern[0] {
		case '*':
			for pattern != "" && pattern[0] == '*' {
				pattern = pattern[1:]
			}
			for i := 0; i <= len(text); i++ {
				if pattern == "" || matches(pattern, text[i:]) {
					return true
				}
			}
			return false
		case '?':
			if text == "" {
				return false
			}
			pattern = pattern[1:]
		case '[':
			rest, in, ok := bracket(pattern, text)
			if !ok || !in {
				return false
			}
			pattern = rest
		default:
			if pattern[0] == '\\' && len(pattern) > 1 {
				pattern = pattern[1:]
			}
			if text == "" || text[0] != pattern[0] {
				return false
			}
			pattern = pattern[1:]
		}
		text = text[1:]
	}
	return text == ""
}

// bracket reports whether the first byte of text is in the set that pattern begins with,
// and returns what follows the set.
func bracket(pattern, text string) (rest string, in, ok bool) {
	end := 1
	not := end < len(pattern) && (pattern[end] == '!' || pattern[end] == '^')
	if not {
		end++
	}
	first := end
	for end < len(pattern) && (pattern[end] != ']' || end == first) {
		end++
	}
	if end == len(pattern) || text == "" {
		return "", false, false
	}
	for i := first; i < end; i++ {
		if i+2 < end && pattern[i+1] == '-' {
			in = in || pattern[i] <= text[0] && text[0] <= pattern[i+2]
			i += 2
		} else {
			in = in || pattern[i] == text[0]
		}
	}
	return pattern[end+1:], in != not, true
}
