package broker

import (
	"bytes"
	"errors"
	"slices"
	"strings"
)

// What libudev-compat takes at most, the byte that ends a string counted in. A
// file may have 8192 bytes, which a header and lines within these do not reach.
const (
	compatEnv   = 4000 // bytes of KEY=VALUE lines
	compatKeys  = 120
	compatValue = 1024 // bytes of the header, of DEVPATH, DEVPATH_OLD, DEVLINKS, TAGS
)

// ErrTooLong is returned for an event of which libudev-compat cannot be told,
// whatever is left out.
var ErrTooLong = errors.New("the devpath is too long for libudev-compat")

// compatKnown are the variables of which libudev-compat makes something; all else
// it only hands on.
var compatKnown = []string{"ACTION", "DEVPATH", "SUBSYSTEM", "SEQNUM", "MAJOR", "MINOR", "DEVNAME", "DEVTYPE",
	"DRIVER", "IFINDEX", "DEVPATH_OLD", "DEVLINKS", "TAGS", "USEC_INITIALIZED", "DEVMODE", "DEVUID", "DEVGID"}

// FitLibudev returns the text of an event file, as Append makes it, within the limits of
// libudev-compat, which drops in silence whatever is over one of them. DEVLINKS
// and TAGS lose their last members; variables that have no room are left out, of
// those that libudev-compat knows none before all others. cut names the variables
// that lost something. Where all fits, fitted is text itself.
func FitLibudev(text []byte) (fitted []byte, cut []string, err error) {
	// A text that is shorter than the limit of one value is within all limits but that of the keys.
	if len(text) < compatValue && bytes.Count(text, []byte{'\n'}) <= compatKeys {
		return text, nil, nil
	}
	header, rest, _ := strings.Cut(string(text), "\n")
	if len(header) >= compatValue {
		return nil, nil, ErrTooLong
	}
	lines := strings.SplitAfter(rest, "\n")
	keys, size := 0, 0
	for _, known := range []bool{true, false} {
		for i, line := range lines {
			key, value, said := strings.Cut(line, "=")
			if !said || slices.Contains(compatKnown, key) != known {
				continue // also what follows the last newline, which is ""
			}
			lines[i] = shorten(key, value)
			if keys == compatKeys || size+len(lines[i]) >= compatEnv {
				lines[i] = ""
			}
			if lines[i] != "" {
				keys, size = keys+1, size+len(lines[i])
			}
			if lines[i] != line {
				cut = append(cut, key)
			}
		}
	}
	return []byte(header + "\n" + strings.Join(lines, "")), cut, nil
}

// shorten returns the line of key without what its value has too much of, or ""
// where a part of the value would say something else.
func shorten(key, value string) string {
	text := strings.TrimSuffix(value, "\n")
	if len(text) >= compatValue {
		switch key {
		case "DEVLINKS":
			// The blank at its end goes below, so the value is shorter than the limit all the same.
			text = text[:strings.LastIndexByte(text[:compatValue], ' ')+1]
		case "TAGS":
			// The value keeps the colon that ends it.
			text = text[:strings.LastIndexByte(text[:compatValue-1], ':')+1]
		case "DEVPATH", "DEVPATH_OLD":
			return ""
		}
	}
	return key + "=" + strings.TrimSuffix(text, " ") + "\n"
}
