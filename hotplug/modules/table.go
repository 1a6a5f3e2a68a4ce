package modules

import (
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// table is one of depmod's files: keys, which may be patterns, and their values. It is
// opened when it is first asked. The index is taken where there is one, and else the
// text, which is searched from one end to the other: BusyBox's depmod writes no index.
type table struct {
	index string // the path of the index
	text  string // the path of the text
	// entry reads a line of the text.
	entry func(line string) (key, value string)

	opened bool
	x      *index
	lines  string
}

// maxText is how large a text may be that is read: fifty times the largest of a distribution.
const maxText = 64 << 20

func (t *table) open() {
	if t.opened {
		return
	}
	t.opened = true
	if t.x = openIndex(t.index); t.x != nil || t.text == "" {
		return
	}
	fd, err := sys.OpenRegular(t.text)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	t.lines, _ = sys.ReadAll(fd, maxText)
}

// forget gives back the memory and the descriptor. The table opens anew when it is asked.
func (t *table) forget() {
	if t.x != nil {
		t.x.close()
	}
	t.opened, t.x, t.lines = false, nil, ""
}

// isEmpty reports whether nothing is there to be asked.
func (t *table) isEmpty() bool {
	t.open()
	return t.x == nil && t.lines == ""
}

// lookup returns the values of the keys that fit name, in depmod's order.
func (t *table) lookup(name string) (values []string) {
	t.open()
	if t.x != nil {
		return t.x.lookup(name)
	}
	t.eachLine(func(key, value string) {
		if match(key, name) {
			values = append(values, value)
		}
	})
	return values
}

// all calls f for each key and value.
func (t *table) all(f func(key, value string)) {
	t.open()
	if t.x != nil {
		t.x.all(f)
		return
	}
	t.eachLine(f)
}

func (t *table) eachLine(f func(key, value string)) {
	end := "\n"
	if strings.HasSuffix(t.text, "modinfo") {
		end = "\x00"
	}
	for rest := t.lines; rest != ""; {
		var line string
		line, rest, _ = strings.Cut(rest, end)
		if key, value := t.entry(line); key != "" {
			f(key, value)
		}
	}
}

// The lines of the texts. What is no entry has no key.

// aliasEntry reads modules.alias and modules.symbols: "alias PATTERN MODULE".
func aliasEntry(line string) (key, value string) {
	line, is := strings.CutPrefix(line, "alias ")
	i := strings.LastIndexByte(line, ' ')
	if !is || i < 0 {
		return "", ""
	}
	return line[:i], line[i+1:]
}

// dependencyEntry reads modules.dep: "FILE: FILE...". The value is the whole line, as in
// the index.
func dependencyEntry(line string) (key, value string) {
	i := strings.IndexByte(line, ':')
	if i < 0 || line[0] == '#' {
		return "", ""
	}
	return fileKey(line[:i]), line
}

// builtinEntry reads modules.builtin: a FILE each line.
func builtinEntry(line string) (key, value string) { return fileKey(line), line }

// fileKey is moduleName without a copy: match takes care of the dashes.
func fileKey(path string) string {
	name := path[strings.LastIndexByte(path, '/')+1:]
	if i := strings.IndexByte(name, '.'); i >= 0 {
		name = name[:i]
	}
	return name
}

// builtinInfoEntry reads modules.builtin.modinfo: "MODULE.KEY=VALUE".
func builtinInfoEntry(line string) (key, value string) {
	module, rest, _ := strings.Cut(line, ".")
	alias, is := strings.CutPrefix(rest, "alias=")
	if !is {
		return "", ""
	}
	return alias, module
}
