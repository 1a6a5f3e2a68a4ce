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
	fd     int                // open until close
	size   uint32             // of the file in bytes, when it was opened
	root   uint32             // the reference to the root
	blocks []*[blockSize]byte // by their number in the file; nil for those that were not read yet
	budget int                // nodes that this search may still visit
}

const (
	indexMagic   = 0xB007F457 // INDEX_MAGIC in kmod's libkmod-index
	indexVersion = 0x0002     // the upper half; the lower one counts compatible changes

	hasPrefix   = 0x80000000
	hasValues   = 0x40000000
	hasChildren = 0x20000000
	offsetMask  = 0x0FFFFFFF

	blockSize = 4096
	// maxIndex is how large a file may be: twenty times the largest of a distribution.
	maxIndex = 32 << 20
	// maxVisits is how many nodes a search may visit. In a hostile file references
	// form circles; in a good one the most, those of "dmi*" and the like, are some thousand.
	maxVisits = 1 << 16
	// maxPattern is how long a key may be that a search looks at: the longest have 300 bytes.
	maxPattern = 1024
)

// openIndex opens an index. It returns nil for a file that is none.
func openIndex(path string) *index {
	fd, err := sys.OpenRegular(path)
	if err != nil {
		return nil
	}
	var st unix.Stat_t
	// The header has 12 bytes. The limit also bounds the table of blocks, to 8192 pointers.
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
// behind the file's end, or cannot be read, reads as NULs.
func (x *index) block(at uint32) []byte {
	if at >= x.size {
		return nil
	}
	b := x.blocks[at/blockSize]
	if b == nil {
		b = new([blockSize]byte)
		// A failed read leaves NULs: a search then ends without a result, as in a file that is cut
		// short.
		_ = sys.RetryEINTR(func() error { _, err := unix.Pread(x.fd, b[:], int64(at/blockSize)*blockSize); return err })
		x.blocks[at/blockSize] = b
	}
	return b[at%blockSize:]
}

// byte returns the byte at a place, or 0 behind the file's end.
func (x *index) byte(at uint32) byte {
	if b := x.block(at); len(b) > 0 {
		return b[0]
	}
	return 0
}

// number returns the 32-bit number at a place, whose bytes behind the file's end are 0.
func (x *index) number(at uint32) (n uint32) {
	if b := x.block(at); len(b) >= 4 {
		return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	}
	// The number crosses the end of a block, or of the file.
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

// node reads the node that a reference leads to. It does not check that what the node refers to lies in the
// file: block does. The prefix may be a part of a block, and is not to be written to.
func (x *index) node(ref uint32) (n node) {
	at := ref & offsetMask
	if ref&hasPrefix != 0 {
		n.prefix, at = x.text(at)
	}
	if ref&hasChildren != 0 {
		n.first, n.last = x.byte(at), x.byte(at+1)
		n.children = at + 2
		at = n.children + 4*(uint32(n.last)-uint32(n.first)+1)
		// No depmod writes this: the table of children would have a negative length.
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

// search is one look into an index.
type search struct {
	name string                  // what the keys are to fit, from the place on where the search went aside
	hits []hit                   // by priority
	all  func(key, value string) // called for each key instead, where it is set
}

// hit is a value that a search found. Those of a lower priority go before others.
type hit struct {
	value    string
	priority uint32
}

// lookup goes down along name, and at each node aside into the keys whose next character
// makes them patterns. It returns the values of all keys that fit, by their priority.
func (x *index) lookup(name string) (values []string) {
	x.budget = maxVisits
	s := search{name: name}
	for ref := x.root; ref != 0; {
		x.budget--
		n := x.node(ref)
		for len(n.prefix) > 0 && s.name != "" && n.prefix[0] == s.name[0] && !isWild(n.prefix[0]) {
			n.prefix, s.name = n.prefix[1:], s.name[1:]
		}
		// The name ends within the prefix, or differs from it: only a pattern can still fit.
		if len(n.prefix) > 0 {
			if isWild(n.prefix[0]) {
				x.walk(&n, nil, &s)
			}
			break
		}
		// Keys are ASCII: depmod refuses others (INDEX_CHILDMAX in kmod's sources).
		for c := range byte(128) {
			if isWild(c) {
				x.below(&n, c, nil, &s)
			}
		}
		if s.name == "" {
			x.values(&n, nil, &s)
			break
		}
		if x.budget < 0 || isWild(s.name[0]) { // which was looked at above
			break
		}
		ref = x.child(&n, s.name[0])
		s.name = s.name[1:]
	}
	for i := range s.hits {
		values = append(values, s.hits[i].value)
	}
	return values
}

// isWild reports whether a character begins a pattern within a key.
func isWild(c byte) bool { return c == '*' || c == '?' || c == '[' }

// walk looks at all keys in n and below it. Key is what leads to n, from the place on where the search went
// aside. The recursion ends by maxPattern, since each step adds a byte to key.
func (x *index) walk(n *node, key []byte, s *search) {
	x.budget--
	if x.budget < 0 || len(key)+len(n.prefix) > maxPattern {
		return
	}
	key = append(key, n.prefix...)
	x.values(n, key, s)
	if n.children != 0 {
		// All children append to the same array behind key: each is done with it before the next begins.
		for c := int(n.first); c <= int(n.last); c++ {
			x.below(n, byte(c), key, s)
		}
	}
}

// below looks at all keys below the child of c.
func (x *index) below(n *node, c byte, key []byte, s *search) {
	if ref := x.child(n, c); ref != 0 {
		child := x.node(ref)
		x.walk(&child, append(key, c), s)
	}
}

// values takes the values of a node whose key fits. Key and s.name are both without what the search had in
// common with the keys before it went aside.
func (x *index) values(n *node, key []byte, s *search) {
	if n.values == 0 || s.all == nil && !match(string(key), s.name) {
		return
	}
	at := n.values + 4
	for count := x.number(n.values); count > 0 && at < x.size && x.budget > 0; count-- {
		x.budget--
		value, next := x.text(at + 4)
		if s.all != nil {
			s.all(string(key), string(value))
		} else {
			s.add(string(value), x.number(at))
		}
		at = next
	}
}

// add keeps hits in order: they are few, and the sort of package slices takes 8 kB.
func (s *search) add(value string, priority uint32) {
	s.hits = append(s.hits, hit{value, priority})
	for i := len(s.hits) - 1; i > 0 && s.hits[i].priority < s.hits[i-1].priority; i-- {
		s.hits[i], s.hits[i-1] = s.hits[i-1], s.hits[i]
	}
}

// all calls f for each key and value of the index.
func (x *index) all(f func(key, value string)) {
	// More than a good index has nodes, and still an end for one with circles.
	x.budget = maxIndex
	n := x.node(x.root)
	x.walk(&n, nil, &search{all: f})
}
