package programs

import (
	"bytes"
	"encoding/binary"
	"os"
)

// cached is one library that ld.so.cache(8) leads to.
type cached struct{ soname, path string }

// cacheMagic begins the part of the file that glibc has read since 1999.
const cacheMagic = "glibc-ld.so.cache1.1"

// parseCache reads ld.so.cache (glibc's sysdeps/generic/dl-cache.h). Libraries for
// special processors are left out: the image may run on another one. What is broken
// is left out, too.
func parseCache(data []byte, order binary.ByteOrder) (all []cached) {
	i := bytes.Index(data, []byte(cacheMagic))
	if i < 0 {
		return nil
	}
	data = data[i:]
	const headSize, entrySize = 48, 24
	if len(data) < headSize {
		return nil
	}
	text := func(at uint32) string {
		if int64(at) >= int64(len(data)) {
			return ""
		}
		s, _, _ := bytes.Cut(data[at:], []byte{0})
		return string(s)
	}
	count := order.Uint32(data[20:])
	for n := range count {
		at := headSize + int64(n)*entrySize
		if at+entrySize > int64(len(data)) {
			break
		}
		e := data[at:]
		if hwcap := order.Uint64(e[16:]); hwcap != 0 {
			continue
		}
		c := cached{text(order.Uint32(e[4:])), text(order.Uint32(e[8:]))}
		if c.soname != "" && c.path != "" {
			all = append(all, c)
		}
	}
	return all
}

// cache returns the libraries of the root's cache by their sonames.
func (r Root) cache(order binary.ByteOrder) map[string][]string {
	paths := map[string][]string{}
	_, end, err := r.Walk("etc/ld.so.cache")
	if err != nil {
		return paths
	}
	data, err := os.ReadFile(r.File(end))
	if err != nil {
		return paths
	}
	for _, c := range parseCache(data, order) {
		paths[c.soname] = append(paths[c.soname], c.path)
	}
	return paths
}
