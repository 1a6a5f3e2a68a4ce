package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
)

// tables are the parts of .gopclntab that are made anew.
type tables struct {
	names     []byte // each ends with a 0
	pctab     []byte
	functions []byte // the functab, then a record for each function
	data      []byte // what records have the offsets of, beside tables in pctab
}

// tableAlign is what tables and what stands in the functions' data are aligned to, at most.
const tableAlign = 8

// Where things stand in the record of a function.
const (
	functionName      = 4
	functionPcsp      = 16
	functionPcfile    = 20
	functionPcln      = 24
	functionNpcdata   = 28
	functionUnit      = 32
	functionStartLine = 36
	functionNfuncdata = 43 // a byte
	functionSize      = 44 // then the offsets of the tables in pctab, then those in the functions' data
	functabEntry      = 8  // two words of 32 bits, the second of which is where the record stands
	functabRecordWord = 4
)

// What of a function serves tracebacks alone (internal/abi/symtab.go): which functions are inlined in it,
// where its arguments lie, and which of them still hold what they were called with. A traceback without
// names the function that others are inlined in, and says "..." for arguments.
const (
	pcdataInlined    = 2
	pcdataArgLive    = 3
	funcdataInlined  = 3
	funcdataArgs     = 5
	funcdataArgsLive = 6
	noFuncdata       = 0xffffffff
)

// alwaysUnsafe is a table of pctab that says of each place of a function that no signal may interrupt
// it there: -2 for the 128 Mi instructions that follow.
//
// For that the runtime would have to know what is inlined at a place. Goroutines give way where a
// function that calls others begins, as they did before Go 1.14: a loop that calls none of these holds up
// the collector.
var alwaysUnsafe = []byte{1, 0x80, 0x80, 0x80, 0x40, 0}

// slim returns the tables of as many functions without what tracebacks alone need. In names, the paths of
// packages of the given modules lose their directories.
func (old tables) slim(order byteOrder, functions uint64, modules []string) (tables, error) {
	records, err := old.records(order, functions)
	if err != nil {
		return tables{}, err
	}
	bounds := []uint32{uint32(len(old.data))} // where something begins in the data, and where that ends
	for _, record := range records {
		bounds = append(bounds, numbers(order, record[functionSize+4*order.Uint32(record[functionNpcdata:]):])...)
	}
	slices.Sort(bounds)

	names := packer{from: old.names, packed: []byte{0}, take: func(at uint32) ([]byte, error) { return shortName(old.names[at:], modules) }}
	pctab := packer{from: old.pctab, packed: append([]byte{0}, alwaysUnsafe...), take: func(at uint32) ([]byte, error) { return table(old.pctab[at:]) }}
	data := packer{from: old.data, align: tableAlign, take: func(at uint32) ([]byte, error) {
		next, _ := slices.BinarySearch(bounds, at+1)
		return old.data[at:bounds[next]], nil
	}}
	slim := tables{functions: slices.Clone(old.functions[:functions*functabEntry+4])} // the last entry has no record
	for n, record := range records {
		ntables := order.Uint32(record[functionNpcdata:])
		kept := without(numbers(order, record[functionSize:][:4*ntables]), 0, pcdataInlined, pcdataArgLive)
		others := without(numbers(order, record[functionSize+4*ntables:]), noFuncdata, funcdataInlined, funcdataArgs, funcdataArgsLive)
		kept = kept[min(len(kept), 1):] // that of unsafe places is another
		record = slices.Clone(record[:functionSize])
		put := func(field int, value uint32) { order.PutUint32(record[field:], value) }
		for _, field := range []int{functionPcfile, functionPcln, functionUnit, functionStartLine} {
			put(field, 0)
		}
		put(functionName, names.move(order.Uint32(record[functionName:]), 0))
		put(functionPcsp, pctab.move(order.Uint32(record[functionPcsp:]), 0))
		put(functionNpcdata, uint32(1+len(kept)))
		record[functionNfuncdata] = byte(len(others))
		record = order.AppendUint32(record, 1) // where alwaysUnsafe stands
		for _, at := range kept {
			record = order.AppendUint32(record, pctab.move(at, 0))
		}
		for _, at := range others {
			record = order.AppendUint32(record, data.move(at, noFuncdata))
		}
		order.PutUint32(slim.functions[n*functabEntry+functabRecordWord:], uint32(len(slim.functions)))
		slim.functions = append(slim.functions, record...)
	}
	slim.names, slim.pctab, slim.data = names.packed, pctab.packed, data.packed
	return slim, errors.Join(names.err, pctab.err, data.err)
}

// records returns the record of each function, with the offsets that follow it.
func (old tables) records(order byteOrder, functions uint64) (records [][]byte, err error) {
	all := old.functions
	if functions*functabEntry+4 > uint64(len(all)) {
		return nil, errors.New("there are fewer functions than the header says")
	}
	for n := range functions {
		at := uint64(order.Uint32(all[n*functabEntry+functabRecordWord:]))
		if at+functionSize > uint64(len(all)) {
			return nil, errors.New("a function is outside of the table")
		}
		end := at + functionSize + 4*(uint64(order.Uint32(all[at+functionNpcdata:]))+uint64(all[at+functionNfuncdata]))
		if end > uint64(len(all)) {
			return nil, errors.New("a function has more tables than there is room for")
		}
		records = append(records, all[at:end])
	}
	return records, nil
}

// packer takes what is still needed of a table into another, each once.
type packer struct {
	from   []byte                          // the old table
	take   func(at uint32) ([]byte, error) // returns what begins at an offset of it
	align  uint32                          // what is taken stands as before in a multiple of it; 0 for anywhere
	packed []byte
	moved  map[uint32]uint32 // where it stands, by where it stood
	err    error             // the last
}

// move returns where that stands which stood at an offset. None is the offset that says that there is none.
func (p *packer) move(at, none uint32) uint32 {
	if at == none {
		return none
	}
	if to, done := p.moved[at]; done {
		return to
	}
	if at >= uint32(len(p.from)) {
		p.err = errors.New("an offset leads out of its table")
		return none
	}
	what, err := p.take(at)
	if err != nil {
		p.err = err
		return none
	}
	for p.align > 0 && uint32(len(p.packed))%p.align != at%p.align {
		p.packed = append(p.packed, 0)
	}
	if p.moved == nil {
		p.moved = map[uint32]uint32{}
	}
	p.moved[at] = uint32(len(p.packed))
	p.packed = append(p.packed, what...)
	return p.moved[at]
}

// shortName returns the name that names begin with. The runtime asks for those of its own packages, so
// that no other path may change.
func shortName(names []byte, modules []string) ([]byte, error) {
	end := bytes.IndexByte(names, 0)
	if end < 0 {
		return nil, errors.New("a name does not end")
	}
	name := names[:end+1]
	path, _, _ := bytes.Cut(name, []byte("[")) // type arguments have paths of their own
	short := name[bytes.LastIndexByte(path, '/')+1:]
	for _, module := range modules {
		// An index out of range in what is named as the runtime is fatal.
		if bytes.HasPrefix(name, []byte(module+"/")) && !bytes.HasPrefix(short, []byte("runtime.")) {
			return short, nil
		}
	}
	return name, nil
}

// table returns the table that a part of pctab begins with: pairs of varints, the difference of the
// value and that of the address, and a 0 in the place of a later value.
func table(pctab []byte) ([]byte, error) {
	at := 0
	for first := true; at < len(pctab); first = false {
		if pctab[at] == 0 && !first {
			return pctab[:at+1], nil
		}
		for range 2 {
			_, n := binary.Uvarint(pctab[at:])
			if n <= 0 {
				return nil, errors.New("a table has a number that is none")
			}
			at += n
		}
	}
	return nil, errors.New("a table does not end")
}

// numbers returns what an array of 32-bit words holds.
func numbers(order byteOrder, words []byte) (numbers []uint32) {
	for ; len(words) > 0; words = words[4:] {
		numbers = append(numbers, order.Uint32(words))
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
