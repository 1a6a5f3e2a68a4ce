package modules

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// Source says where modules are.
type Source struct {
	Root    string   // in front of every path; "" for this system
	Release string   // of the kernel; "" for that of the running one
	Config  []string // directories and files of modprobe.d(5); nil for the usual ones below Root
	Cmdline string   // the kernel's command line
}

// Tree is the modules of one release of the kernel and their configuration. It only
// reads. It is not safe for use by several goroutines at once.
type Tree struct {
	dir    string // DIR/lib/modules/RELEASE
	conf   config
	tables [tableCount]table
}

// The tables of a tree.
const (
	dependencies = iota
	aliases
	symbols
	builtin
	builtinAliases
	tableCount
)

// sources are the files of each table, behind "modules.". Indexes end in ".bin" besides.
var sources = [tableCount]struct {
	index, text string
	entry       func(line string) (key, value string)
}{
	{"dep", "dep", dependencyEntry},
	{"alias", "alias", aliasEntry},
	{"symbols", "symbols", aliasEntry},
	{"builtin", "builtin", builtinEntry},
	{"builtin.alias", "builtin.modinfo", builtinInfoEntry},
}

// The errors of Tree.
var (
	// ErrNotFound says that no module has a name or an alias.
	ErrNotFound = errors.New("no such module")
	// ErrNoTree says that there is no modules.dep for the release.
	ErrNoTree = errors.New("no modules.dep for this kernel: install its modules, or run depmod")
)

// Target is a module that an alias or a name stands for.
type Target struct {
	Name  string
	Alias string // what it was found by, or "" for its own name
}

// Step is one module to load.
type Step struct {
	Name    string // the kernel's, with underscores
	Path    string // of its file, or ""
	Options string // its parameters, as init_module(2) takes them
	Install string // the command of an install line, to be run in its place; or ""
	Builtin bool   // part of the kernel, so there is nothing to do
	Target  bool   // asked for, rather than needed by another
	// Optional is set where others only wish for it (softdep): its failure is no failure
	// of what was asked for.
	Optional bool
	Needs    []int // the steps, by their index, all before this one, without which it cannot be loaded
	After    []int // the steps that come before it, whatever becomes of them
}

// Mode changes how Resolve reads the configuration.
type Mode uint8

// The modes, which may be combined.
const (
	// Blacklist has the blacklist hold for modules asked for by their name too, as
	// modprobe -b; without it only those found by an alias are left out.
	Blacklist Mode = 1 << iota
	// IgnoreInstall has the install lines, and the softdeps, of what was asked for mean
	// nothing, as modprobe -i.
	IgnoreInstall
)

// OpenTree reads the configuration. The modules' files are opened when they are asked.
func OpenTree(s Source) (*Tree, error) {
	if s.Release == "" {
		var u unix.Utsname
		if err := unix.Uname(&u); err != nil {
			return nil, err
		}
		s.Release = unix.ByteSliceToString(u.Release[:])
	}
	t := &Tree{dir: s.Root + "/lib/modules/" + s.Release}
	if other := s.Root + "/usr/lib/modules/" + s.Release; !sys.Exists(unix.AT_FDCWD, t.dir) && sys.Exists(unix.AT_FDCWD, other) {
		t.dir = other
	}
	file := t.dir + "/modules."
	for i := range t.tables {
		t.tables[i] = table{index: file + sources[i].index + ".bin", text: file + sources[i].text, entry: sources[i].entry}
	}
	if s.Config == nil {
		for _, dir := range strings.Fields(ConfigDirs) {
			s.Config = append(s.Config, s.Root+dir)
		}
	}
	t.conf.read(s.Config, file+"softdep", file+"weakdep")
	t.conf.commandLine(s.Cmdline)
	if t.tables[dependencies].isEmpty() && t.tables[builtin].isEmpty() {
		return t, ErrNoTree
	}
	return t, nil
}

// Dir returns the directory of the modules.
func (t *Tree) Dir() string { return t.dir }

// Problems returns what of the configuration was not understood, a line each.
func (t *Tree) Problems() []string { return t.conf.problems }

// Forget gives back the memory and the descriptors that searches have taken. The tree
// goes on to work, and then sees files that depmod wrote anew.
func (t *Tree) Forget() {
	for i := range t.tables {
		t.tables[i].forget()
	}
}

// Lookup returns the modules that a name or an alias stands for, in the order in which
// they are to be loaded. The first of these that knows it says all: aliases of
// modprobe.d, modules, symbols, install and remove lines, aliases of modules, modules
// that are part of the kernel, and their aliases.
func (t *Tree) Lookup(alias string) (found []Target) {
	name, ok := normalize(alias)
	if !ok {
		return nil
	}
	hasLine := false // that makes a module of a name which no file has
	for i := range t.conf.lines {
		l := &t.conf.lines[i]
		switch l.directive[0] {
		case 'a':
			if match(l.key, name) {
				found = append(found, Target{l.value, l.key})
			}
		case 'i', 'r':
			hasLine = hasLine || l.key == name
		}
	}
	for i := 0; i < tableCount && len(found) == 0; i++ {
		if i == aliases && hasLine {
			return []Target{{Name: name}}
		}
		// No module has a colon in its name, and nothing else is a symbol.
		isAlias := i != dependencies && i != builtin
		if !isAlias && strings.IndexByte(name, ':') >= 0 || i == symbols && !strings.HasPrefix(name, "symbol:") {
			continue
		}
		for _, value := range t.tables[i].lookup(name) {
			if !isAlias {
				return []Target{{Name: name}}
			}
			found = append(found, Target{moduleName(value), name})
		}
	}
	return found
}

func (t *Tree) isBuiltin(name string) bool { return len(t.tables[builtin].lookup(name)) > 0 }

// isBlacklisted reports whether a target is to be left out.
func (t *Tree) isBlacklisted(target Target, mode Mode) bool {
	if target.Alias == "" && mode&Blacklist == 0 {
		return false
	}
	for i := range t.conf.lines {
		if l := &t.conf.lines[i]; l.directive[0] == 'b' && l.key == target.Name {
			return true
		}
	}
	return false
}

// Resolve returns what is to be loaded for a name or an alias, each module once and
// after those that it needs. The error is ErrNotFound where nothing has the name; of what
// is blacklisted there are no steps and no error.
func (t *Tree) Resolve(alias string, mode Mode) ([]Step, error) {
	found := t.Lookup(alias)
	if len(found) == 0 {
		return nil, ErrNotFound
	}
	return t.Steps(found, mode), nil
}

// Steps is Resolve for targets that Lookup has found.
func (t *Tree) Steps(targets []Target, mode Mode) []Step {
	p := planner{tree: t, mode: mode}
	for _, target := range targets {
		if !t.isBlacklisted(target, mode) {
			p.target, p.visited = target, nil
			_, p.needs = t.files(target.Name)
			p.module(target.Name)
		}
	}
	return p.steps
}

// planner puts steps in order.
type planner struct {
	tree    *Tree
	mode    Mode
	steps   []Step
	target  Target
	needs   []string // what the target needs
	visited []string // modules whose needs were looked at for the target
}

// module places a module behind all that it needs and wishes for. In a circle of wishes
// it is placed only once.
func (p *planner) module(name string) {
	if contains(p.visited, name) {
		return
	}
	p.visited = append(p.visited, name)
	_, needs := p.tree.files(name)
	for _, need := range needs {
		p.place(need)
	}
	p.place(name)
}

// place puts a module, whose needs are placed, between what its softdep names.
func (p *planner) place(name string) {
	softdep := ""
	if name != p.target.Name || p.mode&IgnoreInstall == 0 {
		softdep = p.tree.conf.find('s', name)
	}
	pre := p.wish(softdep, "pre:")
	self := p.append(name, softdep)
	for _, i := range pre {
		if i < self {
			p.steps[self].After = append(p.steps[self].After, i)
		}
	}
	for _, i := range p.wish(softdep, "post:") {
		if i > self {
			p.steps[i].After = append(p.steps[i].After, self)
		}
	}
}

// wish places what a softdep names, and returns which steps that became.
func (p *planner) wish(softdep, which string) (steps []int) {
	for _, alias := range wishes(softdep, which) {
		for _, target := range p.tree.Lookup(alias) {
			p.module(target.Name)
			if i := p.index(target.Name); i >= 0 {
				steps = append(steps, i)
			}
		}
	}
	return steps
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

func (p *planner) index(name string) int {
	for i := range p.steps {
		if p.steps[i].Name == name {
			return i
		}
	}
	return -1
}

// append adds the step of a module, unless it is there, and returns its index. A module
// with a softdep has no install command: such a line says the same in the way of old.
func (p *planner) append(name, softdep string) int {
	isTarget := name == p.target.Name
	i := p.index(name)
	if i < 0 {
		i = len(p.steps)
		path, needs := p.tree.files(name)
		s := Step{Name: name, Path: path, Optional: true}
		s.Builtin = path == "" && p.tree.isBuiltin(name)
		if isTarget {
			s.Options = p.tree.conf.options(name, p.target.Alias)
		} else {
			s.Options = p.tree.conf.options(name, "")
		}
		if softdep == "" && !(isTarget && p.mode&IgnoreInstall != 0) {
			s.Install = p.tree.conf.find('i', name)
		}
		for _, need := range needs {
			if j := p.index(need); j >= 0 {
				s.Needs = append(s.Needs, j)
			}
		}
		p.steps = append(p.steps, s)
	}
	s := &p.steps[i]
	s.Target = s.Target || isTarget
	s.Optional = s.Optional && !isTarget && !contains(p.needs, name)
	return i
}

// Weak returns the modules, by name or alias, that a module may load at some time
// (weakdep): an image has to have them, while nobody loads them ahead.
func (t *Tree) Weak(name string) []string { return strings.Fields(t.conf.find('w', name)) }

// RemoveCommand returns the command of the remove line for a module, or "".
func (t *Tree) RemoveCommand(name string) string { return t.conf.find('r', name) }

// files returns the file of a module and the names of those that it needs, in the order
// in which they are to be loaded; or nothing for what modules.dep does not have.
func (t *Tree) files(name string) (path string, needs []string) {
	lines := t.tables[dependencies].lookup(name)
	if len(lines) == 0 {
		return "", nil
	}
	path, rest, _ := strings.Cut(lines[0], ":")
	for rest != "" {
		i := strings.LastIndexByte(rest, ' ')
		if need := moduleName(rest[i+1:]); need != "" {
			needs = append(needs, need)
		}
		rest = rest[:max(0, i)]
	}
	if !strings.HasPrefix(path, "/") {
		path = t.dir + "/" + path
	}
	return path, needs
}

// Config calls f for each line of the configuration and then of the indexes, as
// modprobe -c prints them.
func (t *Tree) Config(f func(directive, key, value string)) {
	for i := range t.conf.lines {
		l := &t.conf.lines[i]
		f(l.directive, l.key, l.value)
	}
	f("\n# End of configuration files. Dumping indexes now:\n", "", "")
	for _, i := range [...]int{aliases, symbols} {
		t.tables[i].all(func(key, value string) { f("alias", key, value) })
	}
}
