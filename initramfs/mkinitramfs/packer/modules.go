package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/initramfs"
	"devspool/initramfs/mkinitramfs/packer/kernel"
	"devspool/initramfs/mkinitramfs/packer/packed"
	"devspool/initramfs/mkinitramfs/packer/programs"
)

// addModules adds the chosen modules, their firmware, and the indexes. The modules that the image
// has already come first, so that the indexes are those of all.
func (p *packer) addModules() error {
	if !p.o.wantsModules() {
		return nil
	}
	parent, release, err := p.modulesOf()
	if err != nil {
		return err
	}
	tree, err := kernel.Open(filepath.Join(parent, release), release, p.report.progress)
	if err != nil {
		return fmt.Errorf("the modules of %s: %w", release, err)
	}
	// What is excluded is known before anything is selected.
	s := tree.Select(p.o.exclude.values...)
	p.choosePresent(s, release)
	if err := p.choose(tree, s); err != nil {
		return err
	}
	for _, n := range s.Notes {
		p.report.note("%s", n)
	}
	return p.addSelected(tree, s)
}

// modulesOf returns the directory of all kernels' modules, and the release that is
// meant. The running kernel's is taken for --for-this-machine only: else this program may run in a
// container, or on another machine than the image.
func (p *packer) modulesOf() (parent, release string, err error) {
	parent = p.o.modulesDir
	if parent == "" {
		root := programs.Root(p.o.root)
		for _, dir := range []string{"lib/modules", "usr/lib/modules"} {
			if _, end, err := root.Walk(dir); err == nil {
				parent = root.File(end)
				break
			}
		}
		if parent == "" {
			return "", "", fmt.Errorf("no lib/modules below %s: install a kernel's modules, or name their directory by --modules-dir", p.o.root)
		}
	}
	release = p.o.release
	if release == "" && p.o.thisMachine {
		var u unix.Utsname
		if err := unix.Uname(&u); err != nil {
			return "", "", err
		}
		release = unix.ByteSliceToString(u.Release[:])
	}
	entries, err := os.ReadDir(parent)
	if err != nil {
		return "", "", err
	}
	var there []string
	for _, e := range entries {
		there = append(there, e.Name())
	}
	// No guess where several are there: an image with the modules of another kernel boots into a shell, if
	// at all.
	switch {
	case slices.Contains(there, release):
		return parent, release, nil
	case release == "" && len(there) == 1:
		return parent, there[0], nil
	case release == "":
		return "", "", fmt.Errorf("which kernel's modules? %s has %q: choose by --kernel", parent, there)
	}
	return "", "", fmt.Errorf("%s has no modules of the kernel %s, but of %q: choose by --kernel", parent, release, there)
}

// choosePresent selects the modules that the image has already: the indexes that are
// there would else be replaced by those of fewer modules, and modprobe would not find the others.
func (p *packer) choosePresent(s *kernel.Selection, release string) {
	for name, h := range p.under {
		// The image may have /lib as a link to usr/lib, and the modules below the latter.
		rest, ok := strings.CutPrefix(strings.TrimPrefix(name, "usr/"), "lib/modules/"+release+"/")
		if !ok || !h.IsFile() {
			continue
		}
		// A binary index that is there has to be written anew: it hides the text, which alone would
		// have the new modules.
		p.kmod = p.kmod || rest == "modules.dep.bin"
		if strings.Contains(path.Base(rest), ".ko") && !s.AddPresent(rest) {
			p.report.warn("the image has a module %s, which the modules of %s do not know", name, release)
		}
	}
}

// choose selects what the options ask for. A module that was named must be there; of a set and of this
// machine's devices what this kernel has is taken.
func (p *packer) choose(tree *kernel.Tree, s *kernel.Selection) error {
	names, err := readList(p.o.modules.values)
	if err != nil {
		return err
	}
	for _, name := range names {
		// A name with a slash is a directory of modules, if there are any below it; else it may still
		// be an alias.
		if strings.Contains(name, "/") && s.AddDir(name, "--modules "+name) > 0 {
			continue
		}
		if err := s.Add(name, "--modules "+name); err != nil {
			return fmt.Errorf("--modules: %w", err)
		}
	}
	// By the table, so that a set counts once, however often it is asked for.
	for i := range sets {
		if name := sets[i].name; slices.Contains(p.o.sets.values, name) || p.o.allStorage && isStorage(name, tree) {
			p.chooseSet(tree, s, &sets[i])
		}
	}
	if p.o.thisMachine {
		return p.chooseThisMachine(s)
	}
	return nil
}

// isStorage reports whether a set may be needed for a root. A PC finds its disks without a board's parts;
// and no root is on the network here.
func isStorage(set string, tree *kernel.Tree) bool {
	return set != "network" && (set != "platform" || !isPC(tree))
}

// chooseSet selects the modules of a set. One that the kernel has built in counts as found; one that
// it does not have is only noted, since a set names more than any one kernel has.
func (p *packer) chooseSet(tree *kernel.Tree, s *kernel.Selection, set *set) {
	why := "set " + set.name
	found := 0
	for _, name := range set.modules {
		n := s.AddAlias(name, why)
		if n == 0 && !tree.Builtin(name) {
			p.report.note("set %s: this kernel has no module %s", set.name, name)
		} else {
			found++
		}
	}
	for _, dir := range set.dirs {
		found += s.AddDir(dir, why, set.without...)
	}
	// Built in counts as found, so this is a kernel that cannot do what the set is for.
	if found == 0 {
		p.report.warn("set %s: this kernel has none of its modules", set.name)
	}
}

// isPC reports whether a tree is of a kernel for PCs, or for s390: machines that list their own
// hardware.
func isPC(tree *kernel.Tree) bool {
	machine, _ := machineOf(tree)
	return machine == elf.EM_X86_64 || machine == elf.EM_386 || machine == elf.EM_S390
}

// machineOf returns what the modules are for, as the first of them says that can be read; 0 for none.
func machineOf(tree *kernel.Tree) (machine elf.Machine, order elf.Data) {
	for _, m := range tree.Modules {
		data, err := kernel.ReadModule(filepath.Join(tree.Dir, m.Path))
		if err != nil {
			continue
		}
		if e, err := elf.NewFile(bytes.NewReader(data)); err == nil {
			return e.Machine, e.Data
		}
	}
	return 0, 0
}

// addSelected adds the files of the selected modules, and what looks them up. It sets what the image
// is for, and refuses modules and programs of different machines.
func (p *packer) addSelected(tree *kernel.Tree, s *kernel.Selection) error {
	dir := path.Join("lib/modules", tree.Release)
	blobs := p.firmware(tree.Release)
	chosen := s.Modules()
	for i, m := range chosen {
		p.report.progress("reading modules", i, len(chosen))
		if s.IsPresent(m) {
			continue
		}
		source := filepath.Join(tree.Dir, m.Path)
		e := initramfs.File{Path: path.Join(dir, m.Stored()), Mode: 0o644, Source: source}
		// A compressed module in a compressed image is larger than the module itself.
		if m.Stored() != m.Path {
			data, err := kernel.ReadModule(source)
			if err != nil {
				return err
			}
			e.Source, e.Text = "", string(data)
		}
		info, err := infoOf(e)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: modules.dep names it, so run depmod %s", err, tree.Release)
		}
		if err != nil {
			return err
		}
		p.add(groupModules, s.Why(m), e)
		if err := p.addFirmware(blobs, m.Name, info); err != nil {
			return err
		}
	}
	// Drivers that are built in ask for firmware as well, where they were named. (Others are not
	// known to be wanted.)
	for _, name := range p.o.modules.values {
		if tree.Builtin(name) {
			if err := p.addFirmware(blobs, name, tree.BuiltinInfo(name)); err != nil {
				return err
			}
		}
	}
	// The order of a map does not matter: finish sorts the items by their paths.
	for name, text := range s.Indexes(p.o.index != "text") {
		// Only kmod asks for symbols, but for a softdep of one.
		if p.o.index == "auto" && !p.kmod && name == "modules.symbols.bin" {
			continue
		}
		p.add(groupModules, "index of the modules", initramfs.File{Path: path.Join(dir, name), Mode: 0o644, Text: text})
	}
	machine, order := machineOf(tree)
	// A kernel of 64 bits runs programs of 32.
	if p.machine != 0 && machine != 0 && p.machine != machine && p.machine != elf.EM_386 && p.machine != elf.EM_ARM {
		return fmt.Errorf("the programs of %s are for %v, and the modules of %s for %v", p.o.root, p.machine, tree.Dir, machine)
	}
	// The modules prevail over the programs: devspool is to fit the kernel, see arch. None may be
	// readable, where what was asked for is built in.
	if machine != 0 {
		p.machine, p.order = machine, order
	}
	return nil
}

// infoOf returns what a packed module says of itself: its firmware among it. One that was decompressed
// is in memory already.
func infoOf(e initramfs.File) (kernel.Info, error) {
	if e.Source == "" {
		return kernel.ParseInfo(e.Path, strings.NewReader(e.Text))
	}
	return kernel.ReadInfo(e.Source)
}

// firmware returns the directories that firmware is looked for in, as the kernel does
// (Documentation/driver-api/firmware/fw_search_path.rst).
func (p *packer) firmware(release string) (dirs []programs.Root) {
	if p.o.noFirmware {
		return nil
	}
	tops := p.o.firmwareDirs.values
	if len(tops) == 0 {
		root := programs.Root(p.o.root)
		for _, dir := range []string{"lib/firmware", "usr/lib/firmware"} {
			if _, end, err := root.Walk(dir); err == nil {
				tops = []string{root.File(end)}
				break
			}
		}
	}
	for _, top := range tops {
		// As the kernel's fw_path, in its order.
		for _, below := range []string{"updates/" + release, "updates", release, ""} {
			dirs = append(dirs, programs.Root(filepath.Join(top, below)))
		}
	}
	return dirs
}

// addFirmware adds the firmware that a module names. What is not there is no error:
// modules name that of every device that they have ever known.
func (p *packer) addFirmware(dirs []programs.Root, module string, info kernel.Info) error {
	if p.o.noFirmware {
		return nil
	}
	for _, name := range info.All("firmware") {
		found, err := p.addBlob(dirs, name, "firmware of "+module)
		if err != nil {
			return err
		}
		if !found {
			p.report.note("%s may ask for the firmware %s, which is not there", module, name)
		}
	}
	return nil
}

// addBlob adds one firmware, or those that fit a pattern: some drivers name theirs by one. It reports
// whether there is any.
func (p *packer) addBlob(dirs []programs.Root, name, why string) (found bool, err error) {
	names := []string{name}
	if strings.ContainsAny(name, "*?[") {
		names = nil
		for _, dir := range dirs {
			for _, one := range append(dir.Glob(name), dir.Glob(name+".*")...) {
				// The pattern is of the name that a driver asks for, the file may be compressed.
				names = append(names, strings.TrimSuffix(strings.TrimSuffix(one, ".xz"), ".zst"))
			}
		}
	}
	for _, name := range names {
		one, err := p.addNamedBlob(dirs, name, why)
		if err != nil {
			return found, err
		}
		found = found || one
	}
	return found, nil
}

// addNamedBlob adds the firmware of a name that the kernel would take: it looks for what is not
// compressed in all directories, before it looks for what is (_request_firmware in
// drivers/base/firmware_loader/main.c).
func (p *packer) addNamedBlob(dirs []programs.Root, name, why string) (found bool, err error) {
	for _, ending := range []string{"", ".zst", ".xz"} {
		for _, dir := range dirs {
			if links, end, err := dir.Walk(name + ending); err == nil {
				return true, p.addBlobFile(dir, ending, links, end, why)
			}
		}
	}
	return false, nil
}

// addBlobFile adds a firmware that is there. The links to it stay links, so that what
// has two names is stored once; a compressed one is stored decompressed: the kernel of the image may
// not know how to, and the image is compressed as a whole.
func (p *packer) addBlobFile(dir programs.Root, ending string, links []programs.Link, end, why string) error {
	// The links are stored by names without the ending too, as the kernel then looks for the name alone.
	stem := func(p string) string { return strings.TrimSuffix(p, ending) }
	for _, l := range links {
		p.add(groupFirmware, why, initramfs.Symlink{Path: path.Join("lib/firmware", stem(l.Path)), Target: stem(l.Target)})
	}
	place := path.Join("lib/firmware", stem(end))
	// Two drivers may share a firmware: the first has it.
	if slices.ContainsFunc(p.items, func(i item) bool { return i.group == groupFirmware && i.path() == place }) {
		return nil
	}
	e, err := copyOf(dir.File(end), place)
	if err != nil || ending == "" {
		p.add(groupFirmware, why, e)
		return err
	}
	data, err := os.ReadFile(dir.File(end))
	if err == nil {
		data, err = packed.Unpack(data)
	}
	if err != nil {
		return fmt.Errorf("the firmware %s: %w", dir.File(end), err)
	}
	e.Source, e.Text = "", string(data)
	p.add(groupFirmware, why, e)
	return nil
}
