package modules

import (
	"slices"
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

// The errors of Tree.
const (
	// ErrNotFound says that no module has a name or an alias.
	ErrNotFound = reason("no such module")
	// ErrNoTree says that there is no modules.dep for the release.
	ErrNoTree = reason("no modules.dep for this kernel: install its modules, or run depmod")
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
		s.Release = sys.Release()
	}
	t := &Tree{dir: s.Root + "/lib/modules/" + s.Release}
	// An image may have no link /lib to usr/lib.
	if other := s.Root + "/usr/lib/modules/" + s.Release; !sys.Exists(unix.AT_FDCWD, t.dir) && sys.Exists(unix.AT_FDCWD, other) {
		t.dir = other
	}
	file := t.dir + "/modules."
	for i := range t.tables {
		t.tables[i].kind, t.tables[i].prefix = i, file
	}
	if s.Config == nil {
		s.Config = strings.Fields(ConfigDirs)
		for i := range s.Config {
			s.Config[i] = s.Root + s.Config[i]
		}
	}
	t.conf.read(append(s.Config, file+"softdep", file+"weakdep"))
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
// modprobe.d, modules, install and remove lines, aliases of modules, symbols, modules that
// are part of the kernel, and their aliases.
func (t *Tree) Lookup(alias string) (found []Target) {
	name, ok := normalize(alias)
	if !ok {
		return nil
	}
	for i := range t.conf.lines {
		if l := &t.conf.lines[i]; l.directive[0] == 'a' && match(l.key, name) {
			found = addTarget(found, l.value, l.key)
		}
	}
	isName := strings.IndexByte(name, ':') < 0 // of a module, for all that can be seen
	// The order of the tables is that of the search.
	for i := 0; i < tableCount && found == nil; i++ {
		switch i {
		case dependencies, builtin:
			if isName && len(t.tables[i].lookup(name)) > 0 {
				return addTarget(nil, name, "")
			}
			continue
		// The keys of modules.symbols all have this prefix, so that a search for others is spared.
		case symbols:
			if isName || !strings.HasPrefix(name, "symbol:") {
				continue
			}
		case aliases:
			if t.hasCommand(name) {
				return addTarget(nil, name, "")
			}
		}
		for _, value := range t.tables[i].lookup(name) {
			found = addTarget(found, moduleName(value), name)
		}
	}
	return found
}

// addTarget appends a target; one that several aliases lead to is there as often, and Steps merges it.
func addTarget(targets []Target, name, alias string) []Target {
	return append(targets, Target{name, alias})
}

// hasCommand reports whether an install or remove line makes a module of a name which
// no file has.
func (t *Tree) hasCommand(name string) bool {
	for i := range t.conf.lines {
		if l := &t.conf.lines[i]; (l.directive[0] == 'i' || l.directive[0] == 'r') && l.key == name {
			return true
		}
	}
	return false
}

// isBuiltin reports whether a module is part of the kernel, by modules.builtin.
func (t *Tree) isBuiltin(name string) bool { return len(t.tables[builtin].lookup(name)) > 0 }

// isBlacklisted reports whether a target is to be left out. By modprobe.d(5) a blacklist line
// takes away a module's own aliases; by its name the module can still be loaded.
func (t *Tree) isBlacklisted(target Target, mode Mode) bool {
	if target.Alias == "" && mode&Blacklist == 0 {
		return false
	}
	_, is := t.conf.find('b', target.Name)
	return is
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
			// What one target only wishes for, another may need: so its steps are looked at again.
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
	steps   []Step   // of all targets; it grows, so that others keep indexes of it and no pointers
	target  Target   // the one whose steps are placed now
	needs   []string // what the target needs, directly or not: modules.dep names all of it
	visited []string // modules whose needs were looked at for the target
}

// module places a module behind all that it needs and wishes for. In a circle of wishes
// it is placed only once.
func (p *planner) module(name string) {
	if slices.Contains(p.visited, name) {
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
		softdep, _ = p.tree.conf.find('s', name)
	}
	var pre []int
	p.wish(softdep, "pre:", func(i int) { pre = append(pre, i) })
	self := p.append(name, softdep)
	for _, i := range pre {
		p.after(self, i)
	}
	p.wish(softdep, "post:", func(i int) { p.after(i, self) })
}

// after has a step wait for an earlier one. In a circle of softdeps the other order can come
// up, and then neither waits.
func (p *planner) after(late, early int) {
	if s := &p.steps[late]; early < late {
		s.After = append(s.After, early)
	}
}

// wish places what a softdep names behind "pre:" or "post:", and calls placed for the
// step of each. Words before either mean nothing; modules say such in their own softdep
// at times.
func (p *planner) wish(softdep, which string, placed func(step int)) {
	is := false
	for softdep != "" {
		var w string
		w, softdep = word(softdep)
		if w == "pre:" || w == "post:" {
			is = w == which
			continue
		}
		if !is {
			continue
		}
		for _, target := range p.tree.Lookup(w) {
			p.module(target.Name)
			if i := p.index(target.Name); i >= 0 {
				placed(i)
			}
		}
	}
}

// index returns the index of a module's step, or -1.
func (p *planner) index(name string) int {
	for i := range p.steps {
		if p.steps[i].Name == name {
			return i
		}
	}
	return -1
}

// append adds the step of a module, unless it is there, and returns its index. A module
// with a softdep has no install command: such a line is the older way to say the same.
func (p *planner) append(name, softdep string) int {
	isTarget := name == p.target.Name
	i := p.index(name)
	if i < 0 {
		i = len(p.steps)
		path, needs := p.tree.files(name)
		p.steps = append(p.steps, Step{})
		s := &p.steps[i]
		s.Name, s.Path, s.Optional = name, path, true
		s.Builtin = path == "" && p.tree.isBuiltin(name)
		alias := ""
		if isTarget {
			alias = p.target.Alias
		}
		s.Options = p.tree.conf.options(name, alias)
		if softdep == "" && !(isTarget && p.mode&IgnoreInstall != 0) {
			s.Install, _ = p.tree.conf.find('i', name)
		}
		for _, need := range needs {
			if j := p.index(need); j >= 0 && j < i {
				s.Needs = append(s.Needs, j)
			}
		}
	}
	// A step stays optional until a target, or what a target needs, has it.
	s := &p.steps[i]
	s.Target = s.Target || isTarget
	s.Optional = s.Optional && !isTarget && !slices.Contains(p.needs, name)
	return i
}

// Weak returns the modules, by name or alias, that a module may load at some time
// (weakdep): an image has to have them, while modprobe does not load them ahead.
func (t *Tree) Weak(name string) []string {
	wishes, _ := t.conf.find('w', name)
	return strings.Fields(wishes)
}

// RemoveCommand returns the command of the remove line for a module, or "".
func (t *Tree) RemoveCommand(name string) string {
	command, _ := t.conf.find('r', name)
	return command
}

// files returns the file of a module and the names of those that it needs, in the order
// in which they are to be loaded; or nothing for what modules.dep does not have.
func (t *Tree) files(name string) (path string, needs []string) {
	lines := t.tables[dependencies].lookup(name)
	if len(lines) == 0 {
		return "", nil
	}
	path, rest, _ := strings.Cut(lines[0], ":")
	// modules.dep names what is needed in the reverse order: what is loaded first stands last.
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
