package scheduler

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

// arena keeps the text of packed tasks, in memory outside of Go's heap: the runtime never
// frees the metadata of a heap that was once large, while these pages are unmapped when
// they are empty.
type arena struct {
	current *chunk // the one that the next text goes to, or nil; it holds at least one text
}

// chunk is memory for the text of several tasks.
type chunk struct {
	text []byte
	used int  // bytes of text that were given out
	live int  // texts that have not been taken yet
	heap bool // mmap failed, so this is memory of Go's heap
}

// chunkSize is the size of a chunk in bytes, but for one with a longer text. It is small,
// since one text that stays for long keeps its whole chunk.
const chunkSize = 16 << 10

// ref is the place of a text: bytes from to to of a chunk.
type ref struct {
	chunk    *chunk
	from, to uint32
}

// put copies a text into the arena, until take.
func (a *arena) put(text uevent.Packed) ref {
	c := a.current
	if c == nil || len(c.text)-c.used < len(text) {
		c = newChunk(max(chunkSize, len(text)))
		a.current = c
	}
	from := c.used
	c.used += copy(c.text[from:], text)
	c.live++
	return ref{c, uint32(from), uint32(c.used)}
}

// take returns a copy of the text at a ref, and frees its place. It is called once for each
// ref.
func (a *arena) take(at ref) uevent.Packed {
	c := at.chunk
	text := uevent.Packed(c.text[at.from:at.to])
	if c.live--; c.live == 0 {
		// The next text must not go to memory that is about to be unmapped.
		if c == a.current {
			a.current = nil
		}
		c.free()
	}
	return text
}

// newChunk returns an empty chunk of size bytes.
func newChunk(size int) *chunk {
	memory, err := unix.MmapPtr(-1, 0, nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return &chunk{text: make([]byte, size), heap: true}
	}
	return &chunk{text: unsafe.Slice((*byte)(memory), size)}
}

// free unmaps a chunk without live texts.
func (c *chunk) free() {
	if !c.heap {
		_ = unix.MunmapPtr(unsafe.Pointer(&c.text[0]), uintptr(len(c.text))) // cannot fail for what mmap returned
	}
	c.text = nil
}
