package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"devspool/initramfs"
)

// arches are those that the Makefile builds for.
var arches = []string{"amd64", "arm64", "arm-6", "386", "riscv64", "mipsle", "mips", "s390x"}

// machines are what the ELF header says of these. The order of bytes parts mips from mipsle.
var machines = map[string]struct {
	machine elf.Machine
	data    elf.Data
}{
	"amd64": {elf.EM_X86_64, elf.ELFDATA2LSB}, "arm64": {elf.EM_AARCH64, elf.ELFDATA2LSB}, "arm-6": {elf.EM_ARM, elf.ELFDATA2LSB},
	"386": {elf.EM_386, elf.ELFDATA2LSB}, "riscv64": {elf.EM_RISCV, elf.ELFDATA2LSB}, "mipsle": {elf.EM_MIPS, elf.ELFDATA2LSB},
	"mips": {elf.EM_MIPS, elf.ELFDATA2MSB}, "s390x": {elf.EM_S390, elf.ELFDATA2MSB},
}

// addDevspool adds the binary with the names that it is called by, its config, and /init.
// An image that is added to (--append) has an /init, which stays.
func (p *packer) addDevspool() error {
	if p.o.devspool != "none" {
		binary, why, err := p.binary()
		if err != nil {
			return err
		}
		p.add(groupDevspool, why, binary)
		p.add(groupDevspool, "devspool by another name", initramfs.Symlink{Path: "sbin/mdev", Target: "devspool"})
		if p.o.wantsModules() {
			// A modprobe that --program adds has this path instead: groupPrograms comes after groupDevspool.
			p.add(groupDevspool, "devspool by another name", initramfs.Symlink{Path: "sbin/modprobe", Target: "devspool"})
		}
		// The kernel starts /init; our program knows by that name that it is to boot.
		if p.o.init == "" && p.o.appendTo == "" {
			p.add(groupDevspool, "what the kernel starts", initramfs.Symlink{Path: "init", Target: "sbin/devspool"})
		}
	}
	if p.o.conf != "" {
		e, err := copyOf(p.o.conf, "etc/mdev.conf")
		if err != nil {
			return fmt.Errorf("--conf: %w", err)
		}
		p.add(groupDevspool, "--conf "+p.o.conf, e)
	}
	if p.o.init != "" && p.o.init != "none" {
		e, err := copyOf(p.o.init, "init")
		if err != nil {
			return fmt.Errorf("--init: %w", err)
		}
		e.Mode = 0o755
		p.add(groupFiles, "--init "+p.o.init, e)
	}
	return nil
}

// binary returns devspool, as it is given or built, and why it is there.
func (p *packer) binary() (e initramfs.File, why string, err error) {
	source, why := p.o.devspool, "--devspool"
	if source == "" {
		arch := p.arch()
		if p.o.dryRun {
			return initramfs.File{Path: "sbin/devspool", Mode: 0o755}, "would be built for " + arch, nil
		}
		if source, err = p.build(arch); err != nil {
			return e, "", err
		}
		why = "built for " + arch
	}
	if err := p.checkBinary(source); err != nil {
		return e, "", err
	}
	e, err = copyOf(source, "sbin/devspool")
	e.Mode = 0o755
	return e, why, err
}

// arch returns what to build for: what --arch names, else what the modules or programs of the
// image are for, else this machine.
func (p *packer) arch() string {
	if p.o.arch != "" {
		return p.o.arch
	}
	for _, name := range arches {
		m := machines[name]
		// p.machine is 0 where the image has neither modules nor programs. Then none fits; nor does any for a
		// machine that devspool is not built for, and checkBinary refuses that image.
		if p.machine == m.machine && (p.order == 0 || p.order == m.data) {
			return name
		}
	}
	// The oldest ARM that has a name here runs on all later ones.
	if runtime.GOARCH == "arm" {
		return "arm-6"
	}
	return runtime.GOARCH
}

// build has the Makefile build the binary, and returns its path. The go command caches what has not
// changed, so a second image costs little.
func (p *packer) build(arch string) (path string, err error) {
	dir := p.o.source
	if dir == "" {
		if dir, err = findSource(); err != nil {
			return "", err
		}
	}
	// By make, since the flags and the entry point stand there and nowhere else.
	target := "dist/devspool-" + arch
	p.report.progress("building devspool for "+arch, 0, 0)
	cmd := exec.Command("make", "-s", "-C", dir, target)
	// The flags of a make that started us are not meant for this one.
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make -C %s %s: %w\n%sGive a binary by --devspool to build none", dir, target, err, out)
	}
	return filepath.Join(dir, target), nil
}

// findSource looks for devspool's source in this directory and above it, by the name of its Go
// module.
func findSource() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if text, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && bytes.HasPrefix(text, []byte("module devspool\n")) {
			return dir, nil
		}
		if filepath.Dir(dir) == dir {
			return "", errors.New("devspool's source is not here: name it by --source, or a binary by --devspool")
		}
		dir = filepath.Dir(dir)
	}
}

// checkBinary refuses a binary that would not start in the image: the kernel would panic with a
// message that does not say why.
func (p *packer) checkBinary(name string) error {
	e, err := elf.Open(name)
	if err != nil {
		return fmt.Errorf("--devspool %s: %w", name, err)
	}
	defer e.Close()
	// PT_INTERP names a dynamic linker.
	for _, part := range e.Progs {
		if part.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is linked dynamically, and does not start where there are no libraries: "+
				"build it by make, or with CGO_ENABLED=0 and -buildmode=exe", name)
		}
	}
	// A kernel of 64 bits runs programs of 32.
	older := map[elf.Machine]elf.Machine{elf.EM_X86_64: elf.EM_386, elf.EM_AARCH64: elf.EM_ARM}
	wrongOrder := p.order != 0 && p.order != e.Data
	if p.machine != 0 && (e.Machine != p.machine && e.Machine != older[p.machine] || wrongOrder) {
		return fmt.Errorf("%s is for %v, and what else is in the image for %v: choose by --arch or --devspool", name, e.Machine, p.machine)
	}
	return nil
}
