package modules

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// ConfigDirs returns where modprobe.d(5) lies. A file hides those of the same name in the
// directories behind its own.
func ConfigDirs() []string {
	return []string{"/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"}
}

// config is what modprobe.d, modules.softdep, modules.weakdep and the kernel's command
// line say, each kind in the order of its lines.
type config struct {
	aliases   []setting
	blacklist []string // names, normalized
	options   []setting
	installs  []setting
	removes   []setting
	softdeps  []softdep
	weakdeps  []softdep
	problems  []string
}

// setting is a line about one key: an alias, or a module's name or pattern.
type setting struct{ key, value string }

// softdep names what is to be loaded before a module and after it, as far as it is there.
type softdep struct {
	key       string
	pre, post []string
}

// read reads a modprobe.d: directories, the first of which come first, or single files.
// More is a file of the modules' directory, whose place is by its name too.
func (c *config) read(paths []string, more ...string) {
	var files []string
	for _, path := range paths {
		var st unix.Stat_t
		switch {
		case unix.Stat(path, &st) != nil:
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			files = insertFile(files, path)
		default:
			for _, name := range sys.ReadDir(path) {
				if name[0] != '.' && strings.HasSuffix(name, ".conf") {
					files = insertFile(files, path+"/"+name)
				}
			}
		}
	}
	for _, path := range more {
		files = insertFile(files, path)
	}
	for _, path := range files {
		text, err := sys.ReadFile(path)
		if err != nil && !slices.Contains(more, path) {
			c.problems = append(c.problems, err.Error())
		}
		c.parse(path, text)
	}
}

// insertFile keeps files in the order of their names, which are unlike.
func insertFile(files []string, path string) []string {
	name := path[strings.LastIndexByte(path, '/')+1:]
	for i, other := range files {
		switch old := other[strings.LastIndexByte(other, '/')+1:]; {
		case old == name:
			return files
		case old > name:
			return slices.Insert(files, i, path)
		}
	}
	return append(files, path)
}

// parse reads the lines of a file. A backslash at a line's end joins the next one to it.
func (c *config) parse(path, text string) {
	number := 0
	joined := ""
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSuffix(line, "\n")
		if start, continues := strings.CutSuffix(line, "\\"); continues {
			joined += start
			continue
		}
		line, joined = joined+line, ""
		if !c.line(line) {
			c.problems = append(c.problems, path+":"+strconv.Itoa(number)+": not understood, and left out: "+line)
		}
	}
	if joined != "" && !c.line(joined) {
		c.problems = append(c.problems, path+":"+strconv.Itoa(number)+": not understood, and left out: "+joined)
	}
}

const blanks = " \t"

// word cuts the first word off a line.
func word(line string) (first, rest string) {
	line = strings.TrimLeft(line, blanks)
	i := strings.IndexAny(line, blanks)
	if i < 0 {
		return line, ""
	}
	return line[:i], strings.Trim(line[i:], blanks)
}

// line reads one line, and reports whether it could.
func (c *config) line(line string) bool {
	directive, rest := word(line)
	if directive == "" || directive[0] == '#' {
		return true
	}
	key, rest := word(rest)
	key, ok := normalize(key)
	if !ok {
		return false
	}
	if directive == "blacklist" {
		c.blacklist = append(c.blacklist, key)
		return true
	}
	if directive == "softdep" || directive == "weakdep" {
		return c.dependencies(directive, key, strings.Fields(rest))
	}
	if rest == "" {
		return false
	}
	s := setting{key, rest}
	switch directive {
	case "alias":
		s.value, _ = word(rest)
		s.value = strings.ReplaceAll(s.value, "-", "_")
		c.aliases = append(c.aliases, s)
	case "options":
		c.options = append(c.options, s)
	case "install":
		c.installs = append(c.installs, s)
	case "remove":
		c.removes = append(c.removes, s)
	default:
		return false
	}
	return true
}

// dependencies reads the words behind "softdep NAME" or "weakdep NAME". Those before a
// "pre:" or "post:" mean nothing; modules say such in their own softdep at times.
func (c *config) dependencies(directive, key string, words []string) bool {
	d := softdep{key: key}
	if directive == "weakdep" {
		d.pre = words
		c.weakdeps = append(c.weakdeps, d)
		return len(words) > 0
	}
	var list *[]string
	for _, w := range words {
		switch {
		case w == "pre:":
			list = &d.pre
		case w == "post:":
			list = &d.post
		case list != nil:
			*list = append(*list, w)
		}
	}
	c.softdeps = append(c.softdeps, d)
	return true
}

// commandLine takes from the kernel's command line what concerns modules: parameters
// as MODULE.NAME[=VALUE], modprobe.blacklist= and module_blacklist=, which the kernel
// heeds too. What stands behind "--" is for init.
func (c *config) commandLine(line string) {
	for w := range splitQuoted(line) {
		if w == "--" {
			return
		}
		key, value, _ := strings.Cut(w, "=")
		if key == "modprobe.blacklist" || key == "module_blacklist" {
			for name := range strings.SplitSeq(value, ",") {
				if name, ok := normalize(name); ok {
					c.blacklist = append(c.blacklist, name)
				}
			}
			continue
		}
		if module, parameter, found := strings.Cut(key, "."); found && module != "" && parameter != "" {
			c.options = append(c.options, setting{strings.ReplaceAll(module, "-", "_"), w[len(module)+1:]})
		}
	}
}

// splitQuoted splits a command line as the kernel does: blanks between double quotes
// part no words. Quotes around a whole word are taken away.
func splitQuoted(line string) func(func(string) bool) {
	return func(yield func(string) bool) {
		quoted, start := false, 0
		for i := range len(line) + 1 {
			if i < len(line) {
				if line[i] == '"' {
					quoted = !quoted
				}
				if quoted || line[i] != ' ' && line[i] != '\t' && line[i] != '\n' {
					continue
				}
			}
			w := line[start:i]
			start = i + 1
			if len(w) > 1 && w[0] == '"' {
				w = strings.TrimSuffix(w[1:], "\"")
			}
			if w != "" && !yield(w) {
				return
			}
		}
	}
}

// find returns the value of the first line whose key, a pattern, fits a module.
func find(settings []setting, name string) string {
	for _, s := range settings {
		if match(s.key, name) {
			return s.value
		}
	}
	return ""
}

func (c *config) softdep(name string) (pre, post []string) {
	for _, d := range c.softdeps {
		if match(d.key, name) {
			return d.pre, d.post
		}
	}
	return nil, nil
}

// optionsOf returns the parameters of a module, which may be loaded for an alias.
func (c *config) optionsOf(name, alias string) string {
	var all []string
	for _, o := range c.options {
		if o.key == name || alias != "" && o.key == alias {
			all = append(all, o.value)
		}
	}
	return strings.Join(all, " ")
}
