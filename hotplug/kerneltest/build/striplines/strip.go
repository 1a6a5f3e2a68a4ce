package main

import (
	"bytes"
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
//	.gopclntab   pcHeader | names | cutab | files | pctab | ftab, functions, their data
//
// pctab is what goes by a function's address: a table each for the depth of the stack, the
// file, the line, and what the collector asks. Cutab and files are for the tables of files.
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
)

// Where things stand in the record of a function.
const (
	functionPcsp      = 16
	functionPcfile    = 20
	functionPcln      = 24
	functionNpcdata   = 28
	functionUnit      = 32
	functionStartLine = 36
	functionNfuncdata = 43 // a byte
	functionSize      = 44 // then the offsets of the tables in pctab, then those of what else the function has
	functabEntry      = 8  // two words of 32 bits, the second of which is where the record stands
	functabRecordWord = 4
)

// What of a function serves tracebacks alone (internal/abi/symtab.go): where its arguments lie, and
// which of them still hold what they were called with. A traceback without says "...".
const (
	pcdataArgLive    = 3
	funcdataArgs     = 5
	funcdataArgsLive = 6
	noFuncdata       = 0xffffffff
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

// strip returns the program without its tables of lines, files and arguments.
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
	if file.Type != elf.ET_EXEC || table == nil || module == nil || table.Size < 8+headerWords*p.word || module.Size < (moduleFtab+1)*p.word ||
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

	units := table.Offset + p.get(header(headerUnitsOffset))
	functab := table.Offset + p.get(header(headerFunctabOffset))
	end := segment.Off + segment.Filesz
	offset := func(address uint64) uint64 { return address - table.Addr + table.Offset }
	// What is behind the records: the first of what moduledata knows there.
	behind := end
	for n := range module.Size / p.word {
		if a := p.get(words(n)); a > table.Addr && offset(a) > functab && offset(a) < behind {
			behind = offset(a)
		}
	}
	old := p.data[table.Offset+p.get(header(headerPctabOffset)) : functab]
	pctab, functions, err := p.rewriteFunctions(old, p.data[functab:behind], p.get(header(headerFunctions)))
	if err != nil {
		return nil, err
	}

	// Units and files go, pctab stands in their place, and the functions follow.
	const moveUnit = 64 // what is behind keeps its alignment
	newFunctab := (units + uint64(len(pctab)) + 7) &^ 7
	shift := (behind - newFunctab - uint64(len(functions))) / moveUnit * moveUnit
	gone := uint64(len(p.data[functab:behind]) - len(functions))
	clear(p.data[units : behind-shift])
	copy(p.data[units:], pctab)
	copy(p.data[newFunctab:], functions)
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
	slice(moduleUnits, units, 0)
	slice(moduleFiles, units, 0)
	slice(modulePctab, units, newFunctab-units)
	slice(moduleFunctab, newFunctab, p.get(words(moduleFunctab+1))-gone)
	p.put(words(moduleFtab), address(newFunctab))
	p.put(header(headerFiles), 0)
	p.put(header(headerFilesOffset), units-table.Offset)
	p.put(header(headerPctabOffset), units-table.Offset)
	p.put(header(headerFunctabOffset), newFunctab-table.Offset)
	return p.closeGap(table, segment, shift), nil
}

// rewriteFunctions returns pctab, and the functab with the records of all functions, without what
// tracebacks alone need. Records is the old functab with what follows it.
func (p *program) rewriteFunctions(old, records []byte, functions uint64) (pctab, rewritten []byte, err error) {
	if functions*functabEntry+4 > uint64(len(records)) {
		return nil, nil, errors.New("there are fewer functions than the header says")
	}
	pctab = []byte{0}                                            // a function without a table has 0 in its place
	rewritten = slices.Clone(records[:functions*functabEntry+4]) // the last entry has no record
	moved := map[uint32]uint32{0: 0}
	move := func(from uint32) (to uint32, err error) {
		to, done := moved[from]
		if !done {
			length, err := tableLength(old, from)
			if err != nil {
				return 0, err
			}
			to = uint32(len(pctab))
			pctab = append(pctab, old[from:int(from)+length]...)
			moved[from] = to
		}
		return to, nil
	}
	for n := range functions {
		at := uint64(p.order.Uint32(records[n*functabEntry+functabRecordWord:]))
		if at+functionSize > uint64(len(records)) {
			return nil, nil, errors.New("a function is outside of the table")
		}
		record := slices.Clone(records[at : at+functionSize])
		ntables, nothers := uint64(p.order.Uint32(record[functionNpcdata:])), uint64(record[functionNfuncdata])
		if at+functionSize+4*(ntables+nothers) > uint64(len(records)) {
			return nil, nil, errors.New("a function has more tables than there is room for")
		}
		rest := records[at+functionSize:]
		tables, others := p.numbers(rest[:4*ntables]), p.numbers(rest[4*ntables:][:4*nothers])
		tables = without(tables, 0, pcdataArgLive)
		others = without(others, noFuncdata, funcdataArgs, funcdataArgsLive)
		for _, field := range []uint64{functionPcfile, functionPcln, functionUnit, functionStartLine} {
			p.order.PutUint32(record[field:], 0)
		}
		stack, err := move(p.order.Uint32(record[functionPcsp:]))
		if err != nil {
			return nil, nil, err
		}
		p.order.PutUint32(record[functionPcsp:], stack)
		p.order.PutUint32(record[functionNpcdata:], uint32(len(tables)))
		record[functionNfuncdata] = byte(len(others))
		for _, from := range tables {
			to, err := move(from)
			if err != nil {
				return nil, nil, err
			}
			record = p.order.AppendUint32(record, to)
		}
		for _, offset := range others {
			record = p.order.AppendUint32(record, offset)
		}
		p.order.PutUint32(rewritten[n*functabEntry+functabRecordWord:], uint32(len(rewritten)))
		rewritten = append(rewritten, record...)
	}
	return pctab, rewritten, nil
}

// numbers returns what an array of 32-bit words holds.
func (p *program) numbers(words []byte) (numbers []uint32) {
	for ; len(words) > 0; words = words[4:] {
		numbers = append(numbers, p.order.Uint32(words))
	}
	return numbers
}

// without has the given places of an array say none, and cuts off its end as far as that says so:
// what is not there is none.
func without(array []uint32, none uint32, places ...int) []uint32 {
	for _, place := range places {
		if place < len(array) {
			array[place] = none
		}
	}
	for len(array) > 0 && array[len(array)-1] == none {
		array = array[:len(array)-1]
	}
	return array
}

// tableLength returns how many bytes one table of pctab has: pairs of varints, the difference
// of the value and that of the address, and a 0 in the place of a later value.
func tableLength(pctab []byte, from uint32) (int, error) {
	at := int(from)
	for first := true; at < len(pctab); first = false {
		if pctab[at] == 0 && !first {
			return at + 1 - int(from), nil
		}
		for range 2 {
			_, n := binary.Uvarint(pctab[at:])
			if n <= 0 {
				return 0, errors.New("a table has a number that is none")
			}
			at += n
		}
	}
	return 0, errors.New("a table does not end")
}

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
