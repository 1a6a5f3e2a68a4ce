package modules

import "strings"

// Command is what a rule's command line asks of modprobe, where it can be carried out in
// the process: that spares a process, and often a shell, for each device of a boot.
type Command struct {
	Blacklist bool // -b
	Quiet     bool // -q: an alias that nothing has is no failure worth a word
	Syslog    bool // -s
}

// ParseCommand reads a rule's command. Ok is true only for a call of modprobe, with or
// without the directory where it usually lies, for the alias in $MODALIAS, quoted or not,
// and with no options but -a, -b, -q, -s and their long forms. Output may be sent to
// /dev/null. Anything else is for the program.
func ParseCommand(text string) (c Command, ok bool) {
	words := strings.Fields(text)
	for len(words) > 0 && isSilencer(words[len(words)-1]) {
		words = words[:len(words)-1]
	}
	if len(words) < 2 || !isModprobe(words[0]) || !isModalias(words[len(words)-1]) {
		return c, false
	}
	options := words[1 : len(words)-1]
	if n := len(options); n > 0 && options[n-1] == "--" {
		options = options[:n-1]
	}
	for _, o := range options {
		if !c.option(o) {
			return c, false
		}
	}
	return c, true
}

// isSilencer reports whether a word sends output away. Here there is none: failures go to the
// log.
func isSilencer(word string) bool {
	return strings.Contains(" >/dev/null 2>/dev/null 2>&1 ", " "+word+" ")
}

// isModprobe reports whether a word, which holds no blank, calls modprobe.
func isModprobe(word string) bool {
	return strings.Contains(" modprobe "+programs+" ", " "+word+" ")
}

// isModalias reports whether a word is the variable MODALIAS alone. Elsewhere, as in "x$MODALIAS", the
// alias would be another one than the event's.
func isModalias(word string) bool {
	return strings.Contains(` $MODALIAS "$MODALIAS" ${MODALIAS} "${MODALIAS}" `, " "+word+" ")
}

// option takes a word of options.
func (c *Command) option(o string) bool {
	switch o {
	case "--all":
		return true
	case "--use-blacklist":
		o = "-b"
	case "--quiet":
		o = "-q"
	case "--syslog":
		o = "-s"
	}
	letters, is := strings.CutPrefix(o, "-")
	if !is || letters == "" {
		return false
	}
	for _, letter := range letters {
		switch letter {
		// -a makes a difference only where several names follow.
		case 'a':
		case 'b':
			c.Blacklist = true
		case 'q':
			c.Quiet = true
		case 's':
			c.Syslog = true
		default:
			return false
		}
	}
	return true
}
