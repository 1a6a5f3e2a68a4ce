package kernel

import (
	"fmt"
	"slices"
	"strings"
)

// Selection is the modules that an image gets.
type Selection struct {
	tree     *Tree
	why      map[string]string // by name
	excluded []string          // names, and directories
	present  map[string]string // the paths of those that an image has already, by name
	// Notes says what was wished for and is not there, a line each.
	Notes []string
}

// Select returns an empty Selection. What exclude names, modules or directories of the
// tree, no list and no alias brings in, nor what needs it.
func (t *Tree) Select(exclude ...string) *Selection {
	return &Selection{tree: t, why: map[string]string{}, excluded: exclude, present: map[string]string{}}
}

// Add selects the module that has a name or, where there is none, those that have it
// as an alias.
func (s *Selection) Add(name, why string) error {
	found := s.tree.named(name)
	if len(found) == 0 {
		if s.tree.Builtin(name) {
			s.Notes = append(s.Notes, name+" is part of the kernel")
			return nil
		}
		return fmt.Errorf("no module and no alias %q in %s%s", name, s.tree.Dir, s.tree.similar(name))
	}
	for _, m := range found {
		if cause := s.isExcluded(m); cause != "" {
			return fmt.Errorf("the module %s is asked for, and excluded by %s", m.Name, cause)
		}
		s.add(m, why)
	}
	return nil
}

// AddDir selects the modules in a directory of the tree, and returns how many there are.
// Those that need one of a directory in without, or wish for it, do not count.
func (s *Selection) AddDir(dir, why string, without ...string) int {
	found := slices.DeleteFunc(s.tree.Below(dir), func(m *Module) bool {
		return slices.ContainsFunc(without, func(other string) bool { return s.tree.needs(m, other) })
	})
	return s.try(found, why)
}

// needs reports whether a module needs, or wishes for, one that is in a directory.
func (t *Tree) needs(m *Module, dir string) bool {
	names := m.Depends
	if soft := t.Soft(m.Name); soft != nil {
		names = slices.Concat(names, soft.Pre, soft.Post)
	}
	return slices.ContainsFunc(names, func(name string) bool {
		d := t.Module(name)
		return d != nil && strings.HasPrefix(d.Path, "kernel/"+dir+"/")
	})
}

// AddAlias selects the modules that an alias stands for, or that have it as their name,
// and returns how many there are.
func (s *Selection) AddAlias(alias, why string) int { return s.try(s.tree.named(alias), why) }

// named returns the module of a name, or those that have it as an alias.
func (t *Tree) named(name string) []*Module {
	if m := t.Module(name); m != nil && !strings.Contains(name, ":") {
		return []*Module{m}
	}
	return t.Lookup(name)
}

// try selects those that are not excluded.
func (s *Selection) try(found []*Module, why string) int {
	for _, m := range found {
		if cause := s.isExcluded(m); cause == "" {
			s.add(m, why)
		}
	}
	return len(found)
}

// isExcluded returns what excludes m or something that it needs, or "".
func (s *Selection) isExcluded(m *Module) string {
	for _, name := range append([]string{m.Name}, m.Depends...) {
		for _, e := range s.excluded {
			d := s.tree.byName[name]
			if d == nil {
				continue
			}
			if Normal(e) == name || strings.Contains(e, "/") && slices.Contains(s.tree.Below(e), d) {
				return e
			}
		}
	}
	return ""
}

// add selects m and what it needs and wishes for.
func (s *Selection) add(m *Module, why string) {
	if s.why[m.Name] != "" {
		return
	}
	// Set before the others are added, since wishes may go round in a circle.
	s.why[m.Name] = why
	for _, name := range m.Depends {
		if d := s.tree.byName[name]; d != nil {
			s.add(d, "needed by "+m.Name)
		}
	}
	soft := s.tree.Soft(m.Name)
	if soft == nil {
		return
	}
	// Wishes are aliases more often than names: crc32c is what several modules offer, and
	// which of them works depends on the processor.
	for _, name := range slices.Concat(soft.Pre, soft.Post, soft.Weak) {
		if s.AddAlias(name, "wished for by "+m.Name) == 0 && !s.tree.Builtin(name) {
			s.Notes = append(s.Notes, m.Name+" wishes for "+name+", which this kernel does not have as a module")
		}
	}
}

// AddPresent selects a module that an image has already, at a path below the directory
// of its modules. The indexes name it as it is there. It reports whether the tree knows
// it.
func (s *Selection) AddPresent(path string) bool {
	m := s.tree.Module(path)
	if m == nil || uncompressed(path) == path && !strings.HasSuffix(path, ".ko") {
		return false
	}
	s.present[m.Name] = path
	s.why[m.Name] = "in the image already"
	return true
}

// IsPresent reports whether an image has a module already.
func (s *Selection) IsPresent(m *Module) bool { return s.present[m.Name] != "" }

// stored returns the path of a module in the image.
func (s *Selection) stored(m *Module) string {
	if path := s.present[m.Name]; path != "" {
		return path
	}
	return m.Stored()
}

// Modules returns the selected ones, in the tree's order.
func (s *Selection) Modules() (all []*Module) {
	for _, m := range s.tree.Modules {
		if s.why[m.Name] != "" {
			all = append(all, m)
		}
	}
	return all
}

// Why returns what brought a module in.
func (s *Selection) Why(m *Module) string { return s.why[m.Name] }

// similar returns a remedy for a name that is not there: those that are like it.
func (t *Tree) similar(name string) string {
	name = Normal(name)
	var like []string
	for _, m := range t.Modules {
		if len(name) > 2 && (strings.Contains(m.Name, name) || strings.Contains(name, m.Name)) && len(like) < 5 {
			like = append(like, m.Name)
		}
	}
	if len(like) == 0 {
		return ""
	}
	return ": there are " + strings.Join(like, ", ")
}
