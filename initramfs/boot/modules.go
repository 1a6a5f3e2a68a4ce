package boot

import (
	"debug/elf"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// modules finds kernel modules by their names: the path of each.
type modules map[string]string

// findModules looks for the modules below root, in which a kernel's modules lie.
func findModules(root string) (modules, error) {
	found := modules{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(d.Name(), ".ko"); err == nil && ok {
			found[moduleName(name)] = path
		}
		return err
	})
	return found, err
}

// moduleName returns the kernel's name of a module, in which a dash of the
// file's name is an underscore.
func moduleName(name string) string { return strings.ReplaceAll(name, "-", "_") }

// order returns the named modules and all that they depend on, each after those
// that it needs. It reads the modules themselves: a kernel package that was only
// unpacked has no modules.dep.
func (m modules) order(names ...string) ([]string, error) {
	var all []string
	for _, name := range names {
		if err := m.visit(moduleName(name), &all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// visit appends to all what name needs and then name. The kernel's build refuses
// circles.
func (m modules) visit(name string, all *[]string) error {
	if slices.Contains(*all, name) {
		return nil
	}
	path, ok := m[name]
	if !ok {
		return fmt.Errorf("no kernel module %s: built in, or unknown to this kernel", name)
	}
	depends, err := moduleDepends(path)
	if err != nil {
		return err
	}
	for _, d := range depends {
		if err := m.visit(moduleName(d), all); err != nil {
			return fmt.Errorf("%s needs: %w", name, err)
		}
	}
	*all = append(*all, name)
	return nil
}

// moduleDepends reads what modinfo calls "depends".
func moduleDepends(path string) ([]string, error) {
	file, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	section := file.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("%s: no module", path)
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
