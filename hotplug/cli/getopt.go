package cli

import "strings"

// Given is what a command line holds by Getopt: the values of each option, by its key ("" for an
// option that has none), and what else is there.
type Given struct {
	Operands []string
	values   [128][]string
}

// Has reports whether an option was given.
func (g *Given) Has(key byte) bool { return len(g.values[key]) > 0 }

// All returns the values of an option, as they were given.
func (g *Given) All(key byte) []string { return g.values[key] }

// Last returns the value that was given last, or what is meant where none was.
func (g *Given) Last(key byte, otherwise string) string {
	if all := g.values[key]; len(all) > 0 {
		return all[len(all)-1]
	}
	return otherwise
}

// Getopt reads a command line as programs do that use getopt_long(3). A table of words says which
// options there are: "v:verbose" for -v and --verbose, "t:type=" for one with a value, "w:wait?" for one
// that may have it as --wait=VALUE or -wVALUE. The letter is the key for Given; a digit stands for none.
// Words with one letter mean the same option.
//
// Options may stand behind operands, up to "--". A long name may be cut short where it stays the only
// one. With an error, which is of type Error, what stands before the wrong word is returned too.
func Getopt(args []string, table string) (*Given, error) {
	g, known := &Given{}, strings.Fields(table)
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			g.Operands = append(g.Operands, args...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			g.Operands = append(g.Operands, arg)
			continue
		}
		// Of letters that stand together each is an option, up to one that takes the rest as its value.
		for rest := arg[1:]; rest != ""; {
			name, value, attached := rest[:1], rest[1:], len(rest) > 1
			long := arg[1] == '-'
			if long {
				name, value, attached = strings.Cut(rest[1:], "=")
			} else {
				arg = "-" + name // for what is said of it
			}
			key, takes := match(known, name, long)
			rest = ""
			wrong := ""
			switch {
			case key == 0 && long:
				wrong = "is unknown, or short for several"
			case key == 0:
				wrong = "is unknown"
			case takes == '=' && !attached:
				if len(args) == 0 {
					wrong = "needs a value"
					break
				}
				value, args = args[0], args[1:]
			case takes == 0 && long && attached:
				wrong = "takes no value"
			case takes == 0:
				rest, value = value, ""
			}
			if wrong != "" {
				return g, Error("option '" + arg + "' " + wrong)
			}
			g.values[key] = append(g.values[key], value)
		}
	}
	return g, nil
}

// match returns the key of the option of that name, and the '=' or '?' of its word or 0. The key is 0
// for none, and for the beginning of several. A name that is not long is one letter.
func match(known []string, name string, long bool) (key, takes byte) {
	several := false
	for _, word := range known {
		full := strings.TrimRight(word[2:], "=?")
		switch {
		// A whole name prevails, even where it begins another one.
		case long && full == name, !long && word[0] > '9' && word[:1] == name:
			return word[0], kind(word)
		case long && name != "" && strings.HasPrefix(full, name):
			several = several || key != 0 && key != word[0]
			key, takes = word[0], kind(word)
		}
	}
	if several {
		return 0, 0
	}
	return key, takes
}

// kind returns the '=' or '?' at the end of an option's word, or 0.
func kind(word string) byte {
	if last := word[len(word)-1]; last == '=' || last == '?' {
		return last
	}
	return 0
}
