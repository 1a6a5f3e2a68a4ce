// Package conf is the flat config, in the format of mdev.conf: its grammar, its
// rules, and what they make of a device's event, which is a Plan.
//
// It touches nothing: texts are given to it, and it returns values. A fault in a
// config costs no more than the line that it stands in.
package conf

import (
	_ "embed"
	"errors"
	"strconv"
	"strings"

	"devspool/conf/ere"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// Default is the config that is used where the system has none.
//
//go:embed default.conf
var Default string

// Config is a config that was read. Expressions are compiled, and rules looked out
// by a first letter, when an event first needs them, so Plan must not be called by
// two goroutines at once.
type Config struct {
	// Problems holds what was found wrong, in the order of the text, up to a number
	// that no real config has.
	Problems []Problem

	// Err is not nil where the config is not to be used: it has too many rules
	// or conditions.
	Err error

	// Root is the block device that "/" is on; its node gets the link "root".
	// The zero Dev stands for none.
	Root uevent.Dev

	// Attr returns an attribute in sysfs, of the file path below the directory of the
	// device at devpath. There is no ".." in path. Where Attr is nil no device has any.
	Attr func(devpath, path string) (value string, ok bool)

	name     string // see File
	defaults rule   // of which only what directives set
	matcher  ere.Matcher
	rules    []*rule
	starts   map[byte][]*rule // see rulesFor
}

// Problem is one fault of a config.
type Problem struct {
	File         string
	Line, Column int    // from 1; the column counts bytes
	What, Remedy string // what is wrong, and what to write instead
}

// String returns the problem as "file:line:column: what; remedy".
func (p Problem) String() string {
	return p.File + ":" + strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Column) + ": " +
		uevent.Printable(p.What+"; "+p.Remedy)
}

// File is one of the files of a config.
type File struct {
	_     sys.NotComparable
	Name  string // for messages
	Text  string
	Fault string // why it cannot be read, or ""
}

// Parse reads the text of a config that is one file; file is its name, for messages. It never
// fails: what it cannot use becomes a Problem, and costs no other line.
func Parse(file, text string, ids IDs) *Config {
	return ParseFiles([]File{{Name: file, Text: text}}, ids)
}

// ParseFiles is Parse for a config of several files, at least one. Their rules follow each other
// as in one file, but no line goes on in the next file. The last file gives the config its name.
func ParseFiles(files []File, ids IDs) *Config { return parse(files, ids, nil) }

// parse is ParseFiles. Warnings are expressions for text that is valid and hardly meant; only
// Check has them.
func parse(files []File, ids IDs, warnings []ere.Expr) *Config {
	name := files[len(files)-1].Name
	if more := len(files) - 1; more > 0 {
		name += ", after " + strconv.Itoa(more) + " of its pieces"
	}
	p := parser{ids: ids, config: &Config{name: name, starts: map[byte][]*rule{}}, warnings: warnings}
	for _, file := range files {
		if !p.readFile(file) {
			what, most := " rules", MaxRules
			if p.conditions > maxConditions {
				what, most = " conditions and directives", maxConditions
			}
			return &Config{name: name, Err: errors.New(file.Name + ":" + strconv.Itoa(p.line.number) +
				": more than " + strconv.Itoa(most) + what + "; put several devices, or values, into one expression")}
		}
	}
	return p.config
}

// readFile reads one file. It returns false where there are too many rules or conditions.
func (p *parser) readFile(file File) bool {
	p.file, p.fileRules, p.binary, p.udevs = file.Name, len(p.config.rules), false, 0
	p.fileProblems = len(p.config.Problems)
	text := strings.TrimPrefix(file.Text, "\ufeff") // an editor's mark, no part of the first name
	what, remedy := foreign(text)
	if file.Fault != "" {
		what, remedy = file.Fault, "until then it is not used"
	}
	if what != "" {
		p.line = line{number: 1}
		p.problem(0, what, remedy)
		return true
	}
	for number := 1; text != ""; {
		p.line, text = cutLine(text, number)
		number += len(p.line.joints) + 1
		p.readLine()
		if len(p.config.rules) > MaxRules || p.conditions > maxConditions {
			return false
		}
	}
	p.rejectUdevRules()
	return true
}

// Jobs returns how many commands are to run at once, or 0 where the config says nothing.
func (c *Config) Jobs() int { return c.defaults.jobs }

// WantsNames reports whether devices get the links and properties that they deserve by what
// they are: unless names=no; stands in the config without a device.
func (c *Config) WantsNames() bool { return !c.defaults.noNames }

// Name returns the name of the config's file, and how many pieces it was read after.
func (c *Config) Name() string { return c.name }

// WantsUnnumbered reports whether a coldplug has to offer the device of that
// name to the rules, though it has no numbers: whether there is a rule that asks
// for a variable or sets attributes, may match it, and has something to do or to say for it. With "" it reports whether
// there is any such rule, for whatever device.
func (c *Config) WantsUnnumbered(sysname string) bool {
	for _, r := range c.rules {
		if !r.asksVariable() || r.kind == ofNumbers || !r.runsOn(uevent.Add) && r.rename == "" && len(r.sets)+len(r.tags)+len(r.properties) == 0 {
			continue
		}
		if sysname == "" || r.kind == ofVariable || c.matcher.Match(&r.expr, sysname) {
			return true
		}
	}
	return false
}

// line is a line of a config, together with those that a backslash joins to it.
type line struct {
	text   string
	number int   // of the first
	joints []int // the offsets in text at which a further line begins
}

// MaxRules is how many rules a config may have. It keeps the memory that any text
// takes within bounds.
const MaxRules = 10000

// maxConditions is how many conditions and directives all its rules together may have, for
// the same reason.
const maxConditions = 50000

// maxProblems is how many problems of a config are kept.
const maxProblems = 10000

// cutLine takes the first line off text. A backslash at the end joins the next
// line, before anything looks at comments. Carriage returns that end a line are
// no part of it.
func cutLine(text string, number int) (line, string) {
	l := line{number: number}
	var joined []byte // of the lines before the last
	for {
		part, rest, _ := strings.Cut(text, "\n")
		part = strings.TrimSuffix(part, "\r")
		part, joins := strings.CutSuffix(part, `\`)
		// A backslash at the end of the file has nothing to join, and is dropped.
		if !joins || rest == "" {
			l.text = part
			if len(joined) > 0 {
				l.text = string(append(joined, part...))
			}
			return l, rest
		}
		joined = append(joined, part...)
		l.joints = append(l.joints, len(joined))
		text = rest
	}
}

// position returns the line and the column, from 1, of an offset in l.text.
func (l *line) position(offset int) (number, column int) {
	number, start := l.number, 0
	for _, joint := range l.joints {
		if joint > offset {
			break
		}
		number, start = number+1, joint
	}
	return number, offset - start + 1
}

// field is a part of a line, with its place in the line.
type field struct {
	text   string
	offset int
}

// from returns the part of f that begins at i.
func (f field) from(i int) field { return field{f.text[i:], f.offset + i} }

// to returns the part of f that ends before i.
func (f field) to(i int) field { return field{f.text[:i], f.offset} }

// skipBlanks returns f without the blanks that it begins with.
func (f field) skipBlanks() field {
	return f.from(len(f.text) - len(strings.TrimLeft(f.text, blanks)))
}

// blanks part the fields of a line, as in BusyBox's mdev. No other white space does.
const blanks = " \t"

// split cuts a line into at most four fields, the last of which is the rest of
// the line. It stops where a field would begin with '#'.
func split(text string) (fields [4]field, n int) {
	rest := field{text: strings.TrimRight(text, blanks)}.skipBlanks()
	for n < 4 && rest.text != "" && rest.text[0] != '#' {
		end := strings.IndexAny(rest.text, blanks)
		if end < 0 || n == 3 {
			end = len(rest.text)
		}
		fields[n] = rest.to(end)
		rest = rest.from(end).skipBlanks()
		n++
	}
	return fields, n
}
