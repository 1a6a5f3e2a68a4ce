// Package kernel knows the modules of one kernel release: what they need, what they
// are called by, and the index files that modprobe(8) reads. It reads a directory of
// modules and never writes there.
package kernel

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// Module is one file of a kernel module.
type Module struct {
	Name    string   // the kernel's, with underscores
	Path    string   // below the tree's directory, as it lies there: kernel/fs/x.ko.xz
	Depends []string // all modules that it cannot do without, those that come first at the end

	direct []string // what it says of itself, where there was no modules.dep
}

// Stored returns Path without the ending of a compression.
func (m *Module) Stored() string { return uncompressed(m.Path) }

// Alias is a pattern of fnmatch(3) that stands for a module.
type Alias struct{ Pattern, Module string }

// Soft is what a module wishes for (softdep, weakdep): names or aliases.
type Soft struct {
	Pre, Post, Weak []string

	lines []string // of softdep, as they were said: kmod takes the first one only
}

// Tree is a directory of modules, such as /lib/modules/RELEASE.
type Tree struct {
	Dir     string
	Release string
	Modules []*Module // in the order of the kernel's build

	byName  map[string]*Module
	aliases []Alias
	heads   map[string][]int // the aliases by what is before the first ':'
	soft    map[string]*Soft
	builtin map[string]bool
	// What the modules that are part of the kernel say of themselves.
	builtinInfo map[string]Info
}

// Progress is called again and again while something takes long.
type Progress func(what string, done, all int)

// Open reads the tree of a release. Where depmod did not run on it, as in a package
// that was only unpacked, it reads all of the modules.
func Open(dir, release string, progress Progress) (*Tree, error) {
	t := &Tree{Dir: dir, Release: release, byName: map[string]*Module{}, soft: map[string]*Soft{},
		builtin: map[string]bool{}, builtinInfo: map[string]Info{}}
	t.readBuiltin()
	err := t.readIndexes()
	if errors.Is(err, fs.ErrNotExist) {
		err = t.scan(progress)
	}
	if err != nil {
		return nil, err
	}
	t.sort()
	t.heads = map[string][]int{}
	for i, a := range t.aliases {
		t.heads[head(a.Pattern)] = append(t.heads[head(a.Pattern)], i)
	}
	return t, nil
}

// Module returns the module of a name, in which dashes and underscores are the same.
func (t *Tree) Module(name string) *Module { return t.byName[Normal(name)] }

// Builtin reports whether the module of a name is part of the kernel.
func (t *Tree) Builtin(name string) bool { return t.builtin[Normal(name)] }

// BuiltinInfo returns what a module that is part of the kernel says of itself.
func (t *Tree) BuiltinInfo(name string) Info { return t.builtinInfo[Normal(name)] }

// Soft returns what a module wishes for, or nil.
func (t *Tree) Soft(name string) *Soft { return t.soft[name] }

// Lookup returns the modules that a modalias or another alias stands for.
func (t *Tree) Lookup(alias string) (found []*Module) {
	// Thousands of patterns, hundreds of aliases: only those of the same bus are tried.
	for _, h := range []string{head(alias), ""} {
		for _, i := range t.heads[h] {
			a := t.aliases[i]
			m := t.byName[a.Module]
			if m != nil && !slices.Contains(found, m) && Match(underscored(a.Pattern), underscored(alias)) {
				found = append(found, m)
			}
		}
	}
	return found
}

// head returns what an alias begins with up to its colon. A pattern may have its first
// wildcard before: it may fit any alias, as one without a colon.
func head(alias string) string {
	i := strings.IndexAny(alias, ":*?[")
	if i < 0 || alias[i] != ':' {
		return ""
	}
	return alias[:i]
}

// Below returns the modules in a directory of the tree, such as drivers/nvme or
// kernel/drivers/nvme.
func (t *Tree) Below(dir string) (found []*Module) {
	dir = strings.Trim(dir, "/") + "/"
	for _, m := range t.Modules {
		if strings.HasPrefix(m.Path, dir) || strings.HasPrefix(m.Path, "kernel/"+dir) {
			found = append(found, m)
		}
	}
	return found
}

// Normal returns the kernel's name of a module that may be given as a file's.
func Normal(name string) string {
	name = name[strings.LastIndexByte(name, '/')+1:]
	if stem, ok := strings.CutSuffix(uncompressed(name), ".ko"); ok {
		name = stem
	}
	return strings.ReplaceAll(name, "-", "_")
}

// endings are those of the compressions that the kernel's build offers.
var endings = []string{".xz", ".zst", ".gz"}

func uncompressed(path string) string {
	for _, e := range endings {
		if stem, ok := strings.CutSuffix(path, e); ok && strings.HasSuffix(stem, ".ko") {
			return stem
		}
	}
	return path
}

// lines calls f for each line of an index that is no comment.
func (t *Tree) lines(name string, f func(line string)) error {
	text, err := os.ReadFile(filepath.Join(t.Dir, name))
	if err != nil {
		return err
	}
	s := bufio.NewScanner(bytes.NewReader(text))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if line := strings.TrimSpace(s.Text()); line != "" && line[0] != '#' {
			f(line)
		}
	}
	return s.Err()
}

// readIndexes reads what depmod wrote.
func (t *Tree) readIndexes() error {
	err := t.lines("modules.dep", func(line string) {
		path, needs, ok := strings.Cut(line, ":")
		if !ok {
			return
		}
		m := &Module{Name: Normal(path), Path: strings.TrimPrefix(path, t.Dir+"/")}
		for n := range strings.FieldsSeq(needs) {
			m.Depends = append(m.Depends, Normal(n))
		}
		t.add(m)
	})
	if err != nil {
		return err
	}
	if len(t.Modules) == 0 {
		return fs.ErrNotExist // left by a depmod that ran before the modules came
	}
	for _, name := range []string{"modules.alias", "modules.softdep", "modules.weakdep"} {
		if err := t.lines(name, t.indexLine); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// indexLine reads one line in the syntax of modprobe.d(5).
func (t *Tree) indexLine(line string) {
	word := strings.Fields(line)
	if len(word) < 3 {
		return
	}
	switch word[0] {
	case "alias":
		t.aliases = append(t.aliases, Alias{word[1], Normal(word[2])})
	case "softdep":
		t.addSoft(word[1], strings.Join(word[2:], " "))
	case "weakdep":
		t.softOf(word[1]).Weak = append(t.softOf(word[1]).Weak, word[2:]...)
	}
}

// softOf returns what a module wishes for, to be added to.
func (t *Tree) softOf(name string) *Soft {
	name = Normal(name)
	if t.soft[name] == nil {
		t.soft[name] = &Soft{}
	}
	return t.soft[name]
}

// addSoft reads "pre: a b post: c".
func (t *Tree) addSoft(name, text string) {
	s := t.softOf(name)
	s.lines = append(s.lines, text)
	list := &s.Pre
	for w := range strings.FieldsSeq(text) {
		switch w {
		case "pre:":
			list = &s.Pre
		case "post:":
			list = &s.Post
		default:
			*list = append(*list, w)
		}
	}
}

// add adds a module to the tree.
func (t *Tree) add(m *Module) {
	if t.byName[m.Name] != nil {
		return // the first one counts: depmod puts updates/ there
	}
	t.byName[m.Name] = m
	t.Modules = append(t.Modules, m)
}

// readBuiltin reads what is part of the kernel. Old kernels have no such files.
func (t *Tree) readBuiltin() {
	_ = t.lines("modules.builtin", func(line string) { t.builtin[Normal(line)] = true })
	text, err := os.ReadFile(filepath.Join(t.Dir, "modules.builtin.modinfo"))
	if err != nil {
		return
	}
	for field := range strings.SplitSeq(string(text), "\x00") {
		name, rest, ok := strings.Cut(field, ".")
		key, value, is := strings.Cut(rest, "=")
		if ok && is {
			t.builtinInfo[Normal(name)] = append(t.builtinInfo[Normal(name)], [2]string{key, value})
		}
	}
}

// sort puts the modules in the order of modules.order, as depmod does, and those that
// it does not name behind.
func (t *Tree) sort() {
	place := map[string]int{}
	_ = t.lines("modules.order", func(line string) { place[Normal(line)] = len(place) + 1 })
	if len(place) == 0 {
		return
	}
	at := func(name string) int {
		if p := place[name]; p > 0 {
			return p
		}
		return len(place) + 1
	}
	// Two modules with one alias are tried in this order, so it has to be depmod's.
	slices.SortStableFunc(t.Modules, func(a, b *Module) int { return at(a.Name) - at(b.Name) })
	slices.SortStableFunc(t.aliases, func(a, b Alias) int { return at(a.Module) - at(b.Module) })
}

// scan reads the modules themselves.
func (t *Tree) scan(progress Progress) error {
	paths, err := t.files()
	if err != nil {
		return err
	}
	if len(paths) == 0 {
		return fmt.Errorf("%s holds no kernel modules: give the directory by --modules-dir, and the release by --kernel", t.Dir)
	}
	infos := make([]Info, len(paths))
	if err := t.readAll(paths, infos, progress); err != nil {
		return err
	}
	for i, path := range paths {
		m := &Module{Name: Normal(path), Path: path}
		for _, d := range infos[i].All("depends") {
			for name := range strings.SplitSeq(d, ",") {
				if name != "" {
					m.direct = append(m.direct, Normal(name))
				}
			}
		}
		t.add(m)
		if t.byName[m.Name] != m {
			continue
		}
		for _, a := range infos[i].All("alias") {
			t.aliases = append(t.aliases, Alias{a, m.Name})
		}
		for _, s := range infos[i].All("softdep") {
			t.addSoft(m.Name, s)
		}
		for _, w := range infos[i].All("weakdep") {
			t.softOf(m.Name).Weak = append(t.softOf(m.Name).Weak, strings.Fields(w)...)
		}
	}
	return t.close()
}

// files returns the paths of all modules, those of updates/ first, then sorted.
func (t *Tree) files() (paths []string, err error) {
	err = filepath.WalkDir(t.Dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(uncompressed(path), ".ko") {
			paths = append(paths, strings.TrimPrefix(path, t.Dir+"/"))
		}
		// These lead to the source or to headers, where modules may lie that were only built.
		if err == nil && path != t.Dir && (d.Name() == "build" || d.Name() == "source") {
			return fs.SkipDir
		}
		return err
	})
	slices.SortStableFunc(paths, func(a, b string) int {
		inA, inB := strings.HasPrefix(a, "updates/"), strings.HasPrefix(b, "updates/")
		if inA != inB {
			if inA {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	return paths, err
}

// readAll reads what many modules say of themselves.
func (t *Tree) readAll(paths []string, infos []Info, progress Progress) error {
	errs := make([]error, len(paths))
	var next, done int
	var mu sync.Mutex
	take := func() int {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1
	}
	var work sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for i := take(); i < len(paths); i = take() {
				infos[i], errs[i] = ReadInfo(filepath.Join(t.Dir, paths[i]))
				mu.Lock()
				done++
				if progress != nil {
					progress("reading all modules, since depmod did not run on them", done, len(paths))
				}
				mu.Unlock()
			}
		})
	}
	work.Wait()
	return errors.Join(errs...)
}

// close makes Depends of what the modules say, each before what it needs.
func (t *Tree) close() error {
	for _, m := range t.Modules {
		var order []string
		seen := map[string]bool{}
		var visit func(m *Module) error
		visit = func(m *Module) error {
			if seen[m.Name] {
				return nil
			}
			// Set before the needs are visited, so that a circle, which the kernel's build
			// refuses, would end here.
			seen[m.Name] = true
			for _, name := range m.direct {
				d := t.byName[name]
				if d == nil {
					if t.builtin[name] {
						continue
					}
					return fmt.Errorf("%s needs a module %s, which is not there", filepath.Join(t.Dir, m.Path), name)
				}
				if err := visit(d); err != nil {
					return err
				}
			}
			order = append(order, m.Name)
			return nil
		}
		if err := visit(m); err != nil {
			return err
		}
		// modprobe(8) loads from the end of the line.
		slices.Reverse(order)
		m.Depends = order[1:]
	}
	return nil
}
