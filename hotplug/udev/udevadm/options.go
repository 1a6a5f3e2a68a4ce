package udevadm

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"devspool/hotplug/cli"
)

// parse reads the options of a command by its table, see cli.Getopt. Every command knows --help and
// --version: what they ask for is printed, also where a wrong option follows, and the error errSaid
// ends the command.
func (t *tool) parse(args []string, table string) (*cli.Given, error) {
	g, err := cli.Getopt(args, table+" h:help V:version")
	text := ""
	switch {
	case g.Has('V'):
		text = version
	case g.Has('h'):
		text = "options:"
		for _, word := range strings.Fields(table) {
			text += " --" + strings.TrimRight(word[2:], "=?")
		}
	default:
		return g, err
	}
	t.print(text + "\n")
	return nil, errSaid
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
