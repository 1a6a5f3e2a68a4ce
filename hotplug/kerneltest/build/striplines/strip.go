package main

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// The tables are those of Go 1.20 to 1.26 (runtime/symtab.go, cmd/link/internal/ld/pcln.go),
// found by the section that Go has had since 1.26:
//
//	.go.module   moduledata: the addresses and lengths of all that follows
//	.gopclntab   pcHeader | names | cutab | files | pctab | ftab, functions | their data | the rest
//
// pctab is what goes by a function's address: a table each for the depth of the stack, the
// file, the line, and what the collector asks. Cutab and files are for the tables of files. The rest
// is what finds a function by an address.
const (
	tableSection  = ".gopclntab"
	moduleSection = ".go.module"
	tableMagic    = 0xfffffff1
)

// errUnknown says that the program is of a Go release with other tables.
var errUnknown = errors.New("its tables are not those that striplines knows")

// Words of pcHeader after its first eight bytes.
const (
	headerFunctions     = 0 // how many
	headerFiles         = 1 // how many
	headerNamesOffset   = 3
	headerUnitsOffset   = 4
	headerFilesOffset   = 5
	headerPctabOffset   = 6
	headerFunctabOffset = 7
	headerWords         = 8
)

// Words of moduledata. A slice has three: address, length, capacity.
const (
	moduleHeader  = 0
	moduleNames   = 1
	moduleUnits   = 4
	moduleFiles   = 7
	modulePctab   = 10
	moduleFunctab = 13 // the functab and the records
	moduleFtab    = 16 // the functab alone
	moduleData    = 40 // the address of the functions' data
	moduleEnd     = 41 // the address where .gopclntab ends
)

// byteOrder is that of the program.
type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// program is an ELF file that is being changed.
type program struct {
	data  []byte
	file  *elf.File
	order byteOrder
	word  uint64 // bytes of an address
}

// strip returns the program without what of its tables serves tracebacks alone.
//
// What stands behind them in their segment moves down by some multiple of moveUnit; only
// moduledata has addresses of it, in a program that is not relocated. All other addresses stay, as
// the next segment is mapped where it was.
func strip(data []byte) ([]byte, error) {
	file, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	p := &program{data: slices.Clone(data), file: file, order: binary.LittleEndian, word: 8}
	if file.ByteOrder == binary.ByteOrder(binary.BigEndian) {
		p.order = binary.BigEndian
	}
	if file.Class == elf.ELFCLASS32 {
		p.word = 4
	}
	table, module := file.Section(tableSection), file.Section(moduleSection)
	if file.Type != elf.ET_EXEC || table == nil || module == nil || table.Size < 8+headerWords*p.word || module.Size < (moduleEnd+1)*p.word ||
		p.order.Uint32(p.data[table.Offset:]) != tableMagic || uint64(p.data[table.Offset+7]) != p.word {
		return nil, errUnknown
	}
	segment := p.segmentOf(table.Addr)
	if segment == nil {
		return nil, fmt.Errorf("%s is in no segment", tableSection)
	}
	header := func(n uint64) uint64 { return table.Offset + 8 + n*p.word }
	words := func(n uint64) uint64 { return module.Offset + n*p.word }
	for field, offset := range map[uint64]uint64{moduleHeader: 0, moduleNames: p.get(header(headerNamesOffset)), moduleUnits: p.get(header(headerUnitsOffset)),
		moduleFiles: p.get(header(headerFilesOffset)), modulePctab: p.get(header(headerPctabOffset)),
		moduleFunctab: p.get(header(headerFunctabOffset)), moduleFtab: p.get(header(headerFunctabOffset))} {
		if p.get(words(field)) != table.Addr+offset {
			return nil, errUnknown
		}
	}

	names := table.Offset + p.get(header(headerNamesOffset))
	units := table.Offset + p.get(header(headerUnitsOffset))
	pctab := table.Offset + p.get(header(headerPctabOffset))
	functab := table.Offset + p.get(header(headerFunctabOffset))
	functionData := p.get(words(moduleData)) - table.Addr + table.Offset
	end := segment.Off + segment.Filesz
	if p.get(words(moduleEnd)) != table.Addr+table.Size || functionData < functab || functionData > table.Offset+table.Size {
		return nil, errUnknown
	}
	offset := func(address uint64) uint64 { return address - table.Addr + table.Offset }
	// What is behind the data: the first of what moduledata knows there.
	behind := table.Offset + table.Size
	for n := range module.Size / p.word {
		if a := p.get(words(n)); a > table.Addr && offset(a) > functionData && offset(a) < behind {
			behind = offset(a)
		}
	}
	paths, err := modules(p.data)
	if err != nil {
		return nil, err
	}
	old := tables{names: p.data[names:units], pctab: p.data[pctab:functab], functions: p.data[functab:functionData], data: p.data[functionData:behind]}
	slim, err := old.slim(p.order, p.get(header(headerFunctions)), paths)
	if err != nil {
		return nil, err
	}

	// One follows the other, and what is behind moves down.
	const moveUnit = 64 // what is behind keeps its alignment
	newPctab := names + uint64(len(slim.names))
	newFunctab := align(newPctab+uint64(len(slim.pctab)), tableAlign)
	newData := align(newFunctab+uint64(len(slim.functions)), tableAlign)
	shift := (behind - newData - uint64(len(slim.data))) / moveUnit * moveUnit
	clear(p.data[names : behind-shift])
	copy(p.data[names:], slim.names)
	copy(p.data[newPctab:], slim.pctab)
	copy(p.data[newFunctab:], slim.functions)
	copy(p.data[newData:], slim.data)
	copy(p.data[behind-shift:], p.data[behind:end])
	clear(p.data[end-shift : end])

	address := func(offset uint64) uint64 { return table.Addr + offset - table.Offset }
	for n := range module.Size / p.word {
		if a := p.get(words(n)); a >= address(behind) && a <= address(end) {
			p.put(words(n), a-shift)
		}
	}
	slice := func(field, at, length uint64) {
		p.put(words(field), address(at))
		p.put(words(field+1), length)
		p.put(words(field+2), length)
	}
	slice(moduleNames, names, newPctab-names)
	slice(moduleUnits, newPctab, 0)
	slice(moduleFiles, newPctab, 0)
	slice(modulePctab, newPctab, newFunctab-newPctab)
	slice(moduleFunctab, newFunctab, newData-newFunctab)
	p.put(words(moduleFtab), address(newFunctab))
	p.put(words(moduleData), address(newData))
	p.put(header(headerFiles), 0)
	p.put(header(headerUnitsOffset), newPctab-table.Offset)
	p.put(header(headerFilesOffset), newPctab-table.Offset)
	p.put(header(headerPctabOffset), newPctab-table.Offset)
	p.put(header(headerFunctabOffset), newFunctab-table.Offset)
	return p.closeGap(table, segment, shift), nil
}

// modules returns the paths of the modules that the program was built of.
func modules(program []byte) (paths []string, err error) {
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		return nil, err
	}
	paths = append(paths, info.Main.Path)
	for _, module := range info.Deps {
		paths = append(paths, module.Path)
	}
	return paths, nil
}

// align returns the next multiple of unit, a power of two.
func align(n, unit uint64) uint64 { return (n + unit - 1) &^ (unit - 1) }

// closeGap makes a segment that ends shift bytes earlier than before shorter, and moves what
// follows it in the file as far as the alignment of segments allows.
func (p *program) closeGap(table *elf.Section, segment *elf.Prog, shift uint64) []byte {
	end := segment.Off + segment.Filesz
	gap := shift
	for _, other := range p.file.Progs {
		if other.Type == elf.PT_LOAD && other.Off >= end {
			gap = gap / other.Align * other.Align
		}
	}
	headers := p.layout()
	for n, prog := range p.file.Progs {
		at := headers.prog + uint64(n)*headers.progSize
		switch {
		case prog.Off >= end:
			p.put(at+headers.progOff, prog.Off-gap)
		case prog == segment:
			p.put(at+headers.progFilesz, prog.Filesz-shift)
			p.put(at+headers.progMemsz, prog.Memsz-shift)
		}
	}
	for n, section := range p.file.Sections {
		at := headers.section + uint64(n)*headers.sectionSize
		switch {
		case section == table:
			p.put(at+headers.sectionLength, section.FileSize-shift)
		case section.Offset >= end:
			p.put(at+headers.sectionOff, section.Offset-gap)
		case section.Offset > table.Offset:
			p.put(at+headers.sectionAddr, section.Addr-shift)
			p.put(at+headers.sectionOff, section.Offset-shift)
		}
	}
	if headers.section >= end {
		p.put(headers.sectionField, headers.section-gap)
	}
	next := uint64(len(p.data))
	for _, prog := range p.file.Progs {
		if prog.Type == elf.PT_LOAD && prog.Off >= end {
			next = min(next, prog.Off)
		}
	}
	return slices.Delete(p.data, int(next-gap), int(next))
}

// headers says where the headers of segments and of sections stand, and their fields in them.
type headers struct {
	prog, progSize, progOff, progFilesz, progMemsz                             uint64
	section, sectionField, sectionSize, sectionAddr, sectionOff, sectionLength uint64
}

func (p *program) layout() headers {
	if p.word == 4 {
		return headers{prog: p.get(28), progSize: 32, progOff: 4, progFilesz: 16, progMemsz: 20,
			section: p.get(32), sectionField: 32, sectionSize: 40, sectionAddr: 12, sectionOff: 16, sectionLength: 20}
	}
	return headers{prog: p.get(32), progSize: 56, progOff: 8, progFilesz: 32, progMemsz: 40,
		section: p.get(40), sectionField: 40, sectionSize: 64, sectionAddr: 16, sectionOff: 24, sectionLength: 32}
}

// segmentOf returns the segment that is loaded at an address.
func (p *program) segmentOf(address uint64) *elf.Prog {
	for _, prog := range p.file.Progs {
		if prog.Type == elf.PT_LOAD && address >= prog.Vaddr && address < prog.Vaddr+prog.Filesz {
			return prog
		}
	}
	return nil
}

// get returns the word at an offset of the file.
func (p *program) get(at uint64) uint64 {
	if p.word == 4 {
		return uint64(p.order.Uint32(p.data[at:]))
	}
	return p.order.Uint64(p.data[at:])
}

func (p *program) put(at, value uint64) {
	if p.word == 4 {
		p.order.PutUint32(p.data[at:], uint32(value))
		return
	}
	p.order.PutUint64(p.data[at:], value)
}
