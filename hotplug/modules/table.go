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
	_       [0]func() // tables are not compared, which would take 900 bytes
	kind    int       // one of the constants below
	prefix  string    // of the files' paths
	noIndex bool      // for tests

	opened bool   // also where no file was found
	x      *index // nil where the text is searched, and until it is opened
	lines  string // the text, where there is no index
}

// The kinds of tables, and their files: those of the index end in ".bin" besides.
const (
	dependencies = iota
	aliases
	symbols
	builtin
	builtinAliases
	tableCount
)

// The text of the kernel's own aliases is made with the kernel, by its build; depmod writes only the
// index of it.
var (
	indexNames = [tableCount]string{"dep", "alias", "symbols", "builtin", "builtin.alias"}
	textNames  = [tableCount]string{"dep", "alias", "symbols", "builtin", "builtin.modinfo"}
)

// maxText is how large a text may be that is read: fifty times the largest of a distribution.
const maxText = 64 << 20

// open opens the table, unless it is open. A missing file is an empty table.
func (t *table) open() {
	if t.opened {
		return
	}
	t.opened = true
	if !t.noIndex {
		t.x = openIndex(t.prefix + indexNames[t.kind] + ".bin")
	}
	if t.x != nil {
		return
	}
	fd, err := sys.OpenRegular(t.prefix + textNames[t.kind])
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

// lookup returns the values of the keys that fit name, in depmod's order. Name is normalized and not
// empty. A search of the text compares the first character before it tries a pattern, since that
// settles most lines.
func (t *table) lookup(name string) (values []string) {
	t.open()
	if t.x != nil {
		return t.x.lookup(name)
	}
	for rest := t.lines; rest != ""; {
		var key, value string
		key, value, rest = t.entry(rest)
		if key != "" && (key[0] == name[0] || isWild(key[0])) && match(key, name) {
			values = append(values, value)
		}
	}
	return values
}

// all calls f for each key and value.
func (t *table) all(f func(key, value string)) {
	t.open()
	if t.x != nil {
		t.x.all(f)
	}
	for rest := t.lines; rest != ""; {
		var key, value string
		if key, value, rest = t.entry(rest); key != "" {
			f(key, value)
		}
	}
}

// entry reads the first line of a text. What is no entry has no key. The forms are:
//
//	FILE: FILE...             modules.dep; the value is the whole line, as in the index
//	alias PATTERN MODULE      modules.alias, modules.symbols
//	FILE                      modules.builtin
//	MODULE.KEY=VALUE          modules.builtin.modinfo, with NULs for newlines
func (t *table) entry(text string) (key, value, rest string) {
	end := byte('\n')
	if t.kind == builtinAliases {
		end = 0
	}
	line := text
	if i := strings.IndexByte(text, end); i >= 0 {
		line, rest = text[:i], text[i+1:]
	}
	switch t.kind {
	case dependencies:
		if i := strings.IndexByte(line, ':'); i >= 0 {
			key = fileKey(line[:i])
		}
		return key, line, rest
	// modules.builtin has paths as modules.dep does, without what they need.
	case builtin:
		return fileKey(line), line, rest
	case builtinAliases:
		if i := strings.Index(line, ".alias="); i >= 0 {
			return line[i+len(".alias="):], line[:i], rest
		}
	default:
		// The pattern may hold blanks, the module's name cannot. Six is the length of "alias ".
		if i := strings.LastIndexByte(line, ' '); i >= 6 && line[0] != '#' {
			return line[len("alias "):i], line[i+1:], rest
		}
	}
	return "", "", rest
}

// fileKey is a file's name up to its first dot. Its dashes stay; match and moduleName take care of them.
func fileKey(path string) string {
	name := baseName(path)
	if i := strings.IndexByte(name, '.'); i >= 0 {
		name = name[:i]
	}
	return name
}
