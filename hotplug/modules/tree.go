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
	dir  string // DIR/lib/modules/RELEASE
	conf config

	dependencies, aliases, symbols, builtin, builtinAliases table
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
	if !sys.Exists(unix.AT_FDCWD, t.dir) && sys.Exists(unix.AT_FDCWD, s.Root+"/usr/lib/modules/"+s.Release) {
		t.dir = s.Root + "/usr/lib/modules/" + s.Release
	}
	file := t.dir + "/modules."
	t.dependencies = table{index: file + "dep.bin", text: file + "dep", entry: dependencyEntry, end: '\n'}
	t.aliases = table{index: file + "alias.bin", text: file + "alias", entry: aliasEntry, end: '\n'}
	t.symbols = table{index: file + "symbols.bin", text: file + "symbols", entry: aliasEntry, end: '\n'}
	t.builtin = table{index: file + "builtin.bin", text: file + "builtin", entry: builtinEntry, end: '\n'}
	t.builtinAliases = table{index: file + "builtin.alias.bin", text: file + "builtin.modinfo", entry: builtinInfoEntry}
	dirs := s.Config
	if dirs == nil {
		for _, dir := range ConfigDirs() {
			dirs = append(dirs, s.Root+dir)
		}
	}
	t.conf.read(dirs, file+"softdep", file+"weakdep")
	t.conf.commandLine(s.Cmdline)
	if t.dependencies.isEmpty() && t.builtin.isEmpty() {
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
	for _, table := range t.tables() {
		table.forget()
	}
}

func (t *Tree) tables() [5]*table {
	return [5]*table{&t.dependencies, &t.aliases, &t.symbols, &t.builtin, &t.builtinAliases}
}

// Lookup returns the modules that a name or an alias stands for, in the order in which
// they are to be loaded. The first of these that knows it says all: aliases of
// modprobe.d, modules, symbols, install lines, aliases of modules, modules that are part
// of the kernel, and their aliases.
func (t *Tree) Lookup(alias string) (found []Target) {
	name, ok := normalize(alias)
	if !ok {
		return nil
	}
	for _, a := range t.conf.aliases {
		if match(a.key, name) {
			found = append(found, Target{a.value, a.key})
		}
	}
	if len(found) > 0 {
		return found
	}
	plain := strings.IndexByte(name, ':') < 0 // no module has one in its name
	if plain && len(t.dependencies.lookup(name)) > 0 {
		return []Target{{Name: name}}
	}
	if strings.HasPrefix(name, "symbol:") {
		if found = aliased(t.symbols.lookup(name), name); len(found) > 0 {
			return found
		}
	}
	for _, lines := range [...][]setting{t.conf.installs, t.conf.removes} {
		for _, s := range lines {
			if s.key == name {
				return []Target{{Name: name}}
			}
		}
	}
	if found = aliased(t.aliases.lookup(name), name); len(found) > 0 {
		return found
	}
	if plain && t.isBuiltin(name) {
		return []Target{{Name: name}}
	}
	return aliased(t.builtinAliases.lookup(name), name)
}

func aliased(names []string, alias string) (found []Target) {
	for _, name := range names {
		found = append(found, Target{strings.ReplaceAll(name, "-", "_"), alias})
	}
	return found
}

func (t *Tree) isBuiltin(name string) bool { return len(t.builtin.lookup(name)) > 0 }

// isBlacklisted reports whether a target is to be left out.
func (t *Tree) isBlacklisted(target Target, mode Mode) bool {
	if target.Alias == "" && mode&Blacklist == 0 {
		return false
	}
	for _, name := range t.conf.blacklist {
		if name == target.Name {
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
	p := planner{tree: t}
	for _, target := range targets {
		if !t.isBlacklisted(target, mode) {
			p.target(target, mode)
		}
	}
	return p.steps
}

// planner puts steps in order.
type planner struct {
	tree    *Tree
	steps   []Step
	visited []string // modules whose dependencies were looked at for the target
}

func (p *planner) target(target Target, mode Mode) {
	p.visited = nil
	first := len(p.steps)
	_, needs := p.tree.files(target.Name)
	if mode&IgnoreInstall != 0 {
		for _, path := range needs {
			p.place(moduleName(path))
		}
		p.append(target.Name, true, nil)
	} else {
		p.module(target.Name)
	}
	for i := range p.steps {
		s := &p.steps[i]
		isTarget := s.Name == target.Name
		needed := isTarget
		for _, path := range needs {
			needed = needed || moduleName(path) == s.Name
		}
		if isTarget && (target.Alias != "" || mode != 0) {
			s.Options = p.tree.conf.optionsOf(s.Name, target.Alias)
		}
		s.Target = s.Target || isTarget
		// A step of an earlier target stays needed.
		s.Optional = !needed && (i >= first || s.Optional)
	}
}

// module places a module behind all that it needs and wishes for. In a circle of wishes
// it is placed only once.
func (p *planner) module(name string) {
	for _, v := range p.visited {
		if v == name {
			return
		}
	}
	p.visited = append(p.visited, name)
	_, needs := p.tree.files(name)
	for _, path := range needs {
		p.place(moduleName(path))
	}
	p.place(name)
}

// place puts a module, whose needs are placed, between what its softdep names.
func (p *planner) place(name string) {
	pre, post := p.tree.conf.softdep(name)
	var after []int
	for _, wish := range pre {
		for _, target := range p.tree.Lookup(wish) {
			p.module(target.Name)
			if i := p.index(target.Name); i >= 0 {
				after = append(after, i)
			}
		}
	}
	p.append(name, len(pre)+len(post) > 0, after)
	self := p.index(name)
	for _, wish := range post {
		for _, target := range p.tree.Lookup(wish) {
			p.module(target.Name)
			if i := p.index(target.Name); i > self {
				p.steps[i].After = append(p.steps[i].After, self)
			}
		}
	}
}

func (p *planner) index(name string) int {
	for i := range p.steps {
		if p.steps[i].Name == name {
			return i
		}
	}
	return -1
}

// append adds the step of a module, unless it is there. A module with a softdep has no
// install command: such a line says the same in the way of old.
func (p *planner) append(name string, noInstall bool, after []int) {
	if p.index(name) >= 0 {
		return
	}
	path, needs := p.tree.files(name)
	s := Step{Name: name, Path: path, After: after, Options: p.tree.conf.optionsOf(name, "")}
	s.Builtin = path == "" && p.tree.isBuiltin(name)
	if !noInstall {
		s.Install = find(p.tree.conf.installs, name)
	}
	for _, path := range needs {
		if i := p.index(moduleName(path)); i >= 0 {
			s.Needs = append(s.Needs, i)
		}
	}
	p.steps = append(p.steps, s)
}

// Weak returns the modules, by name or alias, that a module may load at some time
// (weakdep): an image has to have them, while nobody loads them ahead.
func (t *Tree) Weak(name string) (wishes []string) {
	for _, d := range t.conf.weakdeps {
		if match(d.key, name) {
			wishes = append(wishes, d.pre...)
		}
	}
	return wishes
}

// RemoveCommand returns the command of the remove line for a module, or "".
func (t *Tree) RemoveCommand(name string) string { return find(t.conf.removes, name) }

// files returns the file of a module and those of the modules that it needs, in the
// order in which they are to be loaded; or nothing for what modules.dep does not have.
func (t *Tree) files(name string) (path string, needs []string) {
	lines := t.dependencies.lookup(name)
	if len(lines) == 0 {
		return "", nil
	}
	path, rest, _ := strings.Cut(lines[0], ":")
	words := strings.Fields(rest)
	for i := len(words) - 1; i >= 0; i-- {
		needs = append(needs, t.absolute(words[i]))
	}
	return t.absolute(path), needs
}

func (t *Tree) absolute(path string) string {
	if strings.HasPrefix(path, "/") {
		return path
	}
	return t.dir + "/" + path
}

// Config calls f for each line of the configuration and then of the indexes, as
// modprobe -c prints them.
func (t *Tree) Config(f func(line string)) {
	for _, name := range t.conf.blacklist {
		f("blacklist " + name)
	}
	for _, kind := range [...]struct {
		directive string
		settings  []setting
	}{{"alias ", t.conf.aliases}, {"options ", t.conf.options}, {"install ", t.conf.installs}, {"remove ", t.conf.removes}} {
		for _, s := range kind.settings {
			f(kind.directive + s.key + " " + s.value)
		}
	}
	for _, d := range t.conf.softdeps {
		line := "softdep " + d.key
		if len(d.pre) > 0 {
			line += " pre: " + strings.Join(d.pre, " ")
		}
		if len(d.post) > 0 {
			line += " post: " + strings.Join(d.post, " ")
		}
		f(line)
	}
	for _, d := range t.conf.weakdeps {
		f("weakdep " + d.key + " " + strings.Join(d.pre, " "))
	}
	f("\n# End of configuration files. Dumping indexes now:\n")
	alias := func(key, value string) { f("alias " + key + " " + value) }
	t.aliases.all(alias)
	t.symbols.all(alias)
}
