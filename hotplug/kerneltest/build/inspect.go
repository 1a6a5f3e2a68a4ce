package build

import (
	"debug/elf"
	"debug/gosym"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// entry ends the name of the function where a program begins that hands its event over; see package
// handoff. What striplines leaves has no more of it.
const entry = "handoff.Entry"

// refused finds the functions of packages that the program does without, since they would make
// it larger by far. Their init stays where a package imports them whose part for them the linker
// drops.
var refused = regexp.MustCompile(`\x00(fmt|reflect)\.([^\x00]+)`)

// Inspect returns an error where the program in a file is none for the boot: it needs an
// interpreter or a library, which an empty root does not have, does not begin at our entry on
// a machine that has one, or holds a package that is too large for it.
func Inspect(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var wrong []error
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			wrong = append(wrong, fmt.Errorf("%s has a %v: it would need a dynamic linker", path, p.Type))
		}
	}
	table, text := f.Section(".gopclntab"), f.Section(".text")
	if table == nil || text == nil {
		return errors.Join(append(wrong, fmt.Errorf("%s is no program of Go", path))...)
	}
	data, err := table.Data()
	if err != nil {
		return err
	}
	for _, name := range refused.FindAllSubmatch(data, -1) {
		if string(name[2]) != "init" {
			wrong = append(wrong, fmt.Errorf("%s holds the package %s: %s", path, name[1], name[2]))
			break
		}
	}
	functions, err := gosym.NewTable(nil, gosym.NewLineTable(data, text.Addr))
	if err != nil {
		return err
	}
	switch f.Machine {
	case elf.EM_X86_64, elf.EM_AARCH64, elf.EM_ARM, elf.EM_386, elf.EM_RISCV, elf.EM_MIPS:
		if function := functions.PCToFunc(f.Entry); function == nil || function.Entry != f.Entry || !strings.HasSuffix(function.Name, entry) {
			wrong = append(wrong, fmt.Errorf("%s does not begin at %s: it hands no event over", path, entry))
		}
	}
	return errors.Join(wrong...)
}
