package kernel

import (
	"encoding/binary"
	"slices"
	"strings"
)

// trie is an index of kmod (libkmod-index.h describes the file): a tree whose edges
// are characters of the keys, in which a node's common characters are its prefix.
type trie struct {
	prefix   string
	children map[byte]*trie
	values   []value
}

type value struct {
	text     string
	priority uint32
}

// insert adds a value to a key of ASCII characters. What is not ASCII no kernel has.
func (t *trie) insert(key, text string, priority int) {
	if strings.ContainsFunc(key, func(r rune) bool { return r >= 128 || r == 0 }) {
		return
	}
	n := t
	for {
		same := 0
		for same < len(key) && same < len(n.prefix) && key[same] == n.prefix[same] {
			same++
		}
		if same < len(n.prefix) {
			n.split(same)
		} else if n.isNew() {
			n.prefix, same = key, len(key)
		}
		if key = key[same:]; key == "" {
			n.values = append(n.values, value{text, uint32(priority)})
			return
		}
		next := n.children[key[0]]
		if next == nil {
			next = &trie{}
			if n.children == nil {
				n.children = map[byte]*trie{}
			}
			n.children[key[0]] = next
		}
		n, key = next, key[1:]
	}
}

// isNew reports whether nothing was put into a node yet.
func (t *trie) isNew() bool { return t.prefix == "" && t.children == nil && t.values == nil }

// split makes a node with the first n characters of the prefix above what t was.
func (t *trie) split(n int) {
	lower := &trie{prefix: t.prefix[n+1:], children: t.children, values: t.values}
	*t = trie{prefix: t.prefix[:n], children: map[byte]*trie{t.prefix[n]: lower}}
}

// What a node's offset says of the node, in its upper bits.
const (
	hasPrefix   = 0x80000000
	hasValues   = 0x40000000
	hasChildren = 0x20000000
)

// String returns the file: magic, version, the root's offset, nodes.
func (t *trie) String() string {
	file := binary.BigEndian.AppendUint32(nil, 0xB007F457)
	file = binary.BigEndian.AppendUint32(file, 0x00020001)
	file = binary.BigEndian.AppendUint32(file, 0)
	root := t.write(&file)
	binary.BigEndian.PutUint32(file[8:], root)
	return string(file)
}

// write appends the children and then the node, and returns its offset.
func (t *trie) write(file *[]byte) (offset uint32) {
	var chars []byte
	for c := range t.children {
		chars = append(chars, c)
	}
	slices.Sort(chars)
	var offsets []uint32
	if len(chars) > 0 {
		// The file has a place for every character between the first and the last; 0 is for
		// none.
		offsets = make([]uint32, chars[len(chars)-1]-chars[0]+1)
		for _, c := range chars {
			offsets[c-chars[0]] = t.children[c].write(file)
		}
	}
	offset = uint32(len(*file))
	if t.prefix != "" {
		*file = append(append(*file, t.prefix...), 0)
		offset |= hasPrefix
	}
	if len(chars) > 0 {
		*file = append(*file, chars[0], chars[len(chars)-1])
		for _, o := range offsets {
			*file = binary.BigEndian.AppendUint32(*file, o)
		}
		offset |= hasChildren
	}
	if len(t.values) > 0 {
		slices.SortStableFunc(t.values, func(a, b value) int { return int(a.priority) - int(b.priority) })
		*file = binary.BigEndian.AppendUint32(*file, uint32(len(t.values)))
		for _, v := range t.values {
			*file = binary.BigEndian.AppendUint32(*file, v.priority)
			*file = append(append(*file, v.text...), 0)
		}
		offset |= hasValues
	}
	return offset
}
