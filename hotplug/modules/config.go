package modules

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// ConfigDirs are where modprobe.d(5) lies. A file hides those of the same name in the
// directories behind its own.
const ConfigDirs = "/etc/modprobe.d /run/modprobe.d /usr/local/lib/modprobe.d /usr/lib/modprobe.d /lib/modprobe.d"

// config is what modprobe.d, modules.softdep, modules.weakdep and the kernel's command
// line say, in this order.
type config struct {
	lines    []line
	problems []string // lines that were not understood, with their places, and files that could not be read
}

// line is "DIRECTIVE KEY VALUE". No two directives begin with the same letter, so the first
// one tells which it is. The key is normalized: an alias, the name of a module, or a pattern
// of either. Of a blacklist line the value is empty.
type line struct{ directive, key, value string }

// directives are those of modprobe.d(5), each between blanks, so that a search finds whole
// words only.
const directives = " alias blacklist install options remove softdep weakdep "

// read reads a modprobe.d: directories, the first of which come first, or single files;
// and then, unless a name is there, files of the modules' directory, whose places are by
// their names too. What is not there is left out.
func (c *config) read(paths []string) {
	files, order := map[string]string{}, []string(nil) // paths by name, and the names
	add := func(path, name string) {
		if files[name] == "" {
			files[name] = path
			order = append(order, name)
		}
	}
	for _, path := range paths {
		names := sys.ReadDir(path)
		for _, name := range names {
			if name[0] != '.' && strings.HasSuffix(name, ".conf") {
				add(path+"/"+name, name)
			}
		}
		// A path may also be a single file: modules.softdep, or one of modprobe -C. ReadDir returns
		// nothing for it, and only for a directory does "path/." exist.
		if names == nil && sys.Exists(unix.AT_FDCWD, path) && !sys.Exists(unix.AT_FDCWD, path+"/.") { // no directory
			add(path, baseName(path))
		}
	}
	sys.Sort(order)
	for _, name := range order {
		path := files[name]
		text, err := sys.ReadFile(path)
		if err != nil {
			c.problem(err.Error())
		}
		c.parse(path, text)
	}
}

func (c *config) problem(text string) { c.problems = append(c.problems, text) }

func baseName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// parse reads the lines of a file. A backslash at a line's end joins the next one to it.
func (c *config) parse(path, text string) {
	joined := ""
	for number := 1; text != ""; number++ {
		var l string
		l, text, _ = strings.Cut(text, "\n")
		l = joined + l
		// At the end of the file there is no line to join, and the backslash stays.
		if start, continues := strings.CutSuffix(l, "\\"); continues && text != "" {
			joined = start
			continue
		}
		joined = ""
		if !c.line(l) {
			c.problem(path + ":" + strconv.Itoa(number) + ": not understood, and left out: " + l)
		}
	}
}

// blanks part the words of a line.
const blanks = " \t"

// word cuts the first word off a line.
func word(line string) (first, rest string) {
	line = strings.Trim(line, blanks)
	i := strings.IndexAny(line, blanks)
	if i < 0 {
		return line, ""
	}
	return line[:i], strings.Trim(line[i:], blanks)
}

// line reads one line, and reports whether it could. A comment and an empty line are read without a trace.
func (c *config) line(text string) bool {
	directive, rest := word(text)
	if directive == "" || directive[0] == '#' {
		return true
	}
	key, value := word(rest)
	key, ok := normalize(key)
	// Only blacklist has no value.
	if !ok || !strings.Contains(directives, " "+directive+" ") || value == "" && directive[0] != 'b' {
		return false
	}
	if directive[0] == 'a' {
		value, _ = word(value)
		if value, ok = normalize(value); !ok {
			return false
		}
	}
	c.lines = append(c.lines, line{directive, key, value})
	return true
}

// commandLine takes from the kernel's command line what concerns modules: parameters
// as MODULE.NAME[=VALUE], modprobe.blacklist= and module_blacklist=, which the kernel
// heeds too. What stands behind "--" is for init.
func (c *config) commandLine(text string) {
	for text != "" {
		var w string
		w, text = Parameter(text)
		if w == "--" {
			return
		}
		key, value, _ := strings.Cut(w, "=")
		if key == "modprobe.blacklist" || key == "module_blacklist" {
			for value != "" {
				var name string
				name, value, _ = strings.Cut(value, ",")
				c.line("blacklist " + name)
			}
			// Words for other programs, such as rd.debug, look the same. They become options of a
			// module that does not exist, and are never asked for.
		} else if i := strings.IndexByte(key, '.'); i >= 0 {
			c.line("options " + w[:i] + " " + w[i+1:])
		}
	}
}

// Parameter cuts the first word off a command line, as the kernel does (next_arg in
// lib/cmdline.c): blanks between double quotes part no words. Quotes around a whole word are
// taken away; those around a value stay, for the kernel's own parser of module parameters.
func Parameter(text string) (first, rest string) {
	text = strings.TrimLeft(text, " \t\n")
	quoted, i := false, 0
	for i < len(text) && (quoted || text[i] != ' ' && text[i] != '\t' && text[i] != '\n') {
		quoted = quoted != (text[i] == '"')
		i++
	}
	first = text[:i]
	if strings.HasPrefix(first, `"`) {
		first = strings.TrimSuffix(first[1:], `"`)
	}
	return first, text[i:]
}

// find returns the value of the first line of a kind whose key, a pattern, fits a module. The kind is the
// directive's first letter.
func (c *config) find(kind byte, name string) (value string, found bool) {
	for i := range c.lines {
		if l := &c.lines[i]; l.directive[0] == kind && match(l.key, name) {
			return l.value, true
		}
	}
	return "", false
}

// options returns the parameters of a module, which may be loaded for an alias. Unlike those
// of find, all lines count: for the module and for the alias, in the order of the files.
func (c *config) options(name, alias string) (all string) {
	for i := range c.lines {
		if l := &c.lines[i]; l.directive[0] == 'o' && (l.key == name || l.key == alias) {
			all += " " + l.value
		}
	}
	return strings.Trim(all, " ")
}
