package kernel

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Indexes returns the files that modprobe(8) looks modules up in, made for the selected
// ones alone, by their names. What is part of the kernel stays named in full. With
// binary those come along that kmod's modprobe needs.
func (s *Selection) Indexes(binary bool) map[string]string {
	files := map[string]string{
		"modules.dep":   s.dep(),
		"modules.alias": s.alias(),
		"modules.order": s.order(),
	}
	if text := s.softdep(); text != "" {
		files["modules.softdep"] = text
	}
	if text := s.weakdep(); text != "" {
		files["modules.weakdep"] = text
	}
	if text, err := os.ReadFile(filepath.Join(s.tree.Dir, "modules.builtin")); err == nil {
		files["modules.builtin"] = string(text)
	}
	if binary {
		s.binaries(files)
	}
	return files
}

// depLine is what both forms of modules.dep say of a module.
func (s *Selection) depLine(m *Module) string {
	var b strings.Builder
	b.WriteString(s.stored(m) + ":")
	for _, name := range m.Depends {
		if d := s.tree.byName[name]; d != nil && s.why[name] != "" {
			b.WriteString(" " + s.stored(d))
		}
	}
	return b.String()
}

// dep returns modules.dep.
func (s *Selection) dep() string {
	var b strings.Builder
	for _, m := range s.Modules() {
		b.WriteString(s.depLine(m) + "\n")
	}
	return b.String()
}

// order returns modules.order, by which depmod, if it runs on the image, sorts aliases.
func (s *Selection) order() string {
	var b strings.Builder
	for _, m := range s.Modules() {
		b.WriteString(s.stored(m) + "\n")
	}
	return b.String()
}

// aliases calls f for those of the selected modules.
func (s *Selection) aliases(f func(a Alias)) {
	for _, a := range s.tree.aliases {
		if s.why[a.Module] != "" {
			f(a)
		}
	}
}

// alias returns modules.alias.
func (s *Selection) alias() string {
	var b strings.Builder
	b.WriteString("# Aliases extracted from modules themselves.\n")
	s.aliases(func(a Alias) { b.WriteString("alias " + a.Pattern + " " + a.Module + "\n") })
	return b.String()
}

// softdep returns modules.softdep. Wishes for what is not in the image stay: the image may
// get it by another archive.
func (s *Selection) softdep() string {
	var b strings.Builder
	for _, m := range s.Modules() {
		soft := s.tree.Soft(m.Name)
		if soft == nil {
			continue
		}
		for _, line := range soft.lines {
			b.WriteString("softdep " + m.Name + " " + line + "\n")
		}
	}
	return b.String()
}

// weakdep returns modules.weakdep.
func (s *Selection) weakdep() string {
	var b strings.Builder
	for _, m := range s.Modules() {
		if soft := s.tree.Soft(m.Name); soft != nil && len(soft.Weak) > 0 {
			b.WriteString("weakdep " + m.Name + " " + strings.Join(soft.Weak, " ") + "\n")
		}
	}
	return b.String()
}

// binaries adds the forms that kmod reads: it has no reader for the text of these.
func (s *Selection) binaries(files map[string]string) {
	var dep, alias, builtin, builtinAlias trie
	for i, m := range s.Modules() {
		dep.insert(m.Name, s.depLine(m), i)
	}
	place := map[string]int{}
	for i, m := range s.tree.Modules {
		place[m.Name] = i
	}
	s.aliases(func(a Alias) { alias.insert(underscored(a.Pattern), a.Module, place[a.Module]) })
	var names []string
	for name := range s.tree.builtin {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		builtin.insert(name, "", 0)
		for _, a := range s.tree.builtinInfo[name].All("alias") {
			builtinAlias.insert(underscored(a), name, 0)
		}
	}
	files["modules.dep.bin"] = dep.String()
	files["modules.alias.bin"] = alias.String()
	files["modules.builtin.bin"] = builtin.String()
	files["modules.builtin.alias.bin"] = builtinAlias.String()
	// An empty one, so that modprobe does not complain: only symbol: aliases are looked up there.
	files["modules.symbols.bin"] = new(trie).String()
}
