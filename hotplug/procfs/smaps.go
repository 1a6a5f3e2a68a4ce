package procfs

import (
	"strconv"
	"strings"
)

// Mapping is a range of addresses: the first, and the one after the last.
type Mapping struct{ From, To uintptr }

// FileMappings returns the private mappings of files that cannot be written and of which no page
// differs from the file, by the text of /proc/self/smaps (proc_pid_smaps(5)). A page can differ
// where a dynamic linker changed it before it made the mapping read-only.
func FileMappings(smaps string) (parts []Mapping) {
	candidate := false // the last of parts is still being read about, and may turn out to differ
	for line := range strings.Lines(smaps) {
		key, value, _ := strings.Cut(line, ":")
		switch {
		case strings.Contains(key, "-"): // the line of addresses, which begins the next mapping
			var p Mapping
			if p, candidate = fileMapping(line); candidate {
				parts = append(parts, p)
			}
		case candidate && (key == "Anonymous" || key == "Swap") && strings.TrimSpace(value) != "0 kB":
			parts = parts[:len(parts)-1]
			candidate = false
		}
	}
	return parts
}

// fileMapping parses the first line about a mapping, as in /proc/self/maps (proc_pid_maps(5)). ok
// is false for a mapping of no file, and for one that is shared or can be written.
func fileMapping(line string) (p Mapping, ok bool) {
	const (
		addresses   = 0
		permissions = 1
		inode       = 4
	)
	fields := strings.Fields(line)
	if len(fields) <= inode || fields[inode] == "0" || len(fields[permissions]) != len("r-xp") ||
		fields[permissions][1] != '-' || fields[permissions][3] != 'p' {
		return Mapping{}, false
	}
	first, last, _ := strings.Cut(fields[addresses], "-")
	from, err1 := strconv.ParseUint(first, 16, strconv.IntSize)
	to, err2 := strconv.ParseUint(last, 16, strconv.IntSize)
	return Mapping{uintptr(from), uintptr(to)}, err1 == nil && err2 == nil && from < to
}
