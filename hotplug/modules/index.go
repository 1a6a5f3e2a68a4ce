package modules

import (
	"bytes"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// An index is a file that depmod(8) writes beside its text form, such as
// modules.alias.bin: a trie, in which nodes refer to others by their place in the file.
// All numbers are big-endian. A file has a magic number, a version and the reference to
// the root. Of a reference the upper bits say which parts the node has, in this order:
//
//	prefix    characters, and a NUL
//	children  the first and the last character that has one, and a reference for each
//	          character from the first to the last, 0 where there is no child
//	values    their number, and of each a priority and a string that a NUL ends
//
// Of the file only the blocks that a search comes by are read: of 1.3 MB that is a
// tenth for all devices of a machine. The file is not mapped into memory, since one that
// is cut short meanwhile would then end the process.
type index struct {
	fd     int
	size   uint32
	root   uint32
	blocks []*[blockSize]byte
	budget int // nodes that this search may still visit
}

const (
	indexMagic   = 0xB007F457
	indexVersion = 0x0002 // the upper half; the lower one counts compatible changes

	hasPrefix   = 0x80000000
	hasValues   = 0x40000000
	hasChildren = 0x20000000
	offsetMask  = 0x0FFFFFFF

	blockSize = 4096
	// maxIndex is how large a file may be: twenty times the largest of a distribution.
	maxIndex = 32 << 20
	// maxVisits is how many nodes a search may visit. In a hostile file references
	// form circles; in a good one the most, those below "dmi*", are some thousand.
	maxVisits = 1 << 18
)

// openIndex opens an index. It returns nil for a file that is none.
func openIndex(path string) *index {
	fd, err := sys.OpenRegular(path)
	if err != nil {
		return nil
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Size < 12 || st.Size > maxIndex {
		unix.Close(fd)
		return nil
	}
	x := &index{fd: fd, size: uint32(st.Size), blocks: make([]*[blockSize]byte, st.Size/blockSize+1)}
	x.root = x.number(8)
	if x.number(0) != indexMagic || x.number(4)>>16 != indexVersion {
		unix.Close(fd)
		return nil
	}
	return x
}

func (x *index) close() { unix.Close(x.fd) }

// block returns what stands in the file from at to the end of its block. What lies
// behind the file's end reads as NULs.
func (x *index) block(at uint32) []byte {
	if at >= x.size {
		return nil
	}
	b := x.blocks[at/blockSize]
	if b == nil {
		b = new([blockSize]byte)
		sys.RetryEINTR(func() error { _, err := unix.Pread(x.fd, b[:], int64(at/blockSize)*blockSize); return err })
		x.blocks[at/blockSize] = b
	}
	return b[at%blockSize:]
}

func (x *index) byte(at uint32) byte {
	if b := x.block(at); len(b) > 0 {
		return b[0]
	}
	return 0
}

func (x *index) number(at uint32) (n uint32) {
	if b := x.block(at); len(b) >= 4 {
		return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	}
	for i := range uint32(4) {
		n = n<<8 | uint32(x.byte(at+i))
	}
	return n
}

// text returns the string at a place, and what stands behind its NUL. Only a string that
// lies in two blocks is copied.
func (x *index) text(at uint32) (text []byte, next uint32) {
	for len(text) <= maxLine {
		b := x.block(at)
		if len(b) == 0 {
			return text, at
		}
		end := bytes.IndexByte(b, 0)
		if end >= 0 && len(text) == 0 {
			return b[:end:end], at + uint32(end) + 1
		}
		if end >= 0 {
			return append(text, b[:end]...), at + uint32(end) + 1
		}
		text = append(text, b...)
		at += uint32(len(b))
	}
	return text, at
}

// maxLine is how long a line of modules.dep may be: the longest have 2 kB.
const maxLine = 64 << 10

// node is one of the trie. Children and values are places in the file, or 0.
type node struct {
	prefix           []byte
	first, last      byte
	children, values uint32
}

func (x *index) node(ref uint32) (n node) {
	at := ref & offsetMask
	if ref&hasPrefix != 0 {
		n.prefix, at = x.text(at)
	}
	if ref&hasChildren != 0 {
		n.first, n.last = x.byte(at), x.byte(at+1)
		n.children = at + 2
		at = n.children + 4*(uint32(n.last)-uint32(n.first)+1)
		if n.last < n.first {
			return node{}
		}
	}
	if ref&hasValues != 0 {
		n.values = at
	}
	return n
}

// child returns the reference to the child of c, or 0.
func (x *index) child(n *node, c byte) uint32 {
	if n.children == 0 || c < n.first || c > n.last {
		return 0
	}
	return x.number(n.children + 4*(uint32(c)-uint32(n.first)))
}

// hit is a value that a search found. Those of a lower priority go before others.
type hit struct {
	value    string
	priority uint32
}

// lookup returns the values of all keys that fit name: those that are patterns are
// matched with it.
func (x *index) lookup(name string) (values []string) {
	var hits []hit
	x.search(name, &hits)
	for i := range hits { // by priority; they are few, and the sort of slices takes 8 kB
		for j := i; j > 0 && hits[j].priority < hits[j-1].priority; j-- {
			hits[j], hits[j-1] = hits[j-1], hits[j]
		}
	}
	for _, h := range hits {
		values = append(values, h.value)
	}
	return values
}

// search goes down along name, and at each node aside into the keys whose next
// character makes them patterns.
func (x *index) search(name string, hits *[]hit) {
	x.budget = maxVisits
	for ref := x.root; ref != 0 && x.budget > 0; x.budget-- {
		n := x.node(ref)
		for i, c := range n.prefix {
			if isWild(c) {
				n.prefix = n.prefix[i:]
				x.walk(&n, nil, func(pattern []byte, h hit) { addMatch(pattern, name, h, hits) })
				return
			}
			if name == "" || name[0] != c {
				return
			}
			name = name[1:]
		}
		for _, c := range [...]byte{'*', '?', '['} {
			if ref := x.child(&n, c); ref != 0 {
				wild := x.node(ref)
				x.walk(&wild, []byte{c}, func(pattern []byte, h hit) { addMatch(pattern, name, h, hits) })
			}
		}
		if name == "" {
			x.each(&n, func(h hit) { *hits = append(*hits, h) })
			return
		}
		if isWild(name[0]) {
			return // it was looked at above
		}
		ref = x.child(&n, name[0])
		name = name[1:]
	}
}

func addMatch(pattern []byte, name string, h hit, hits *[]hit) {
	if match(string(pattern), name) {
		*hits = append(*hits, h)
	}
}

func isWild(c byte) bool { return c == '*' || c == '?' || c == '[' }

// walk calls f for each value in n and below it. Key is what leads to n.
func (x *index) walk(n *node, key []byte, f func(key []byte, h hit)) {
	x.budget--
	if x.budget < 0 || len(key)+len(n.prefix) > maxName {
		return
	}
	key = append(key, n.prefix...)
	x.each(n, func(h hit) { f(key, h) })
	if n.children == 0 {
		return
	}
	for c := int(n.first); c <= int(n.last); c++ {
		if ref := x.child(n, byte(c)); ref != 0 {
			below := x.node(ref)
			x.walk(&below, append(key, byte(c)), f)
		}
	}
}

// each calls f for each value of a node.
func (x *index) each(n *node, f func(hit)) {
	if n.values == 0 {
		return
	}
	at := n.values + 4
	for count := x.number(n.values); count > 0 && at < x.size && x.budget > 0; count-- {
		x.budget--
		value, next := x.text(at + 4)
		f(hit{string(value), x.number(at)})
		at = next
	}
}

// all calls f for each key and value of the index.
func (x *index) all(f func(key, value string)) {
	x.budget = maxIndex
	n := x.node(x.root)
	x.walk(&n, nil, func(key []byte, h hit) { f(string(key), h.value) })
}
