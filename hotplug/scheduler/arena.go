package scheduler

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

// arena keeps the text of events that wait, outside of Go's heap: the runtime keeps span
// metadata of a heap that was once large, while these pages are unmapped when they are
// empty.
type arena struct {
	current *chunk // where the next text goes, or nil; it is never empty
}

// chunk is a piece of memory for the text of several events.
type chunk struct {
	text []byte
	used int  // of its bytes
	live int  // texts that are to be taken out yet
	heap bool // the system gave no memory of its own
}

// chunkSize is small, since one text that has to wait for long keeps all of its chunk.
const chunkSize = 16 << 10

// ref is where a text lies.
type ref struct {
	chunk    *chunk
	from, to uint32
}

// put keeps a text until it is taken out.
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

// take returns the text at a ref, which is free then.
func (a *arena) take(at ref) uevent.Packed {
	c := at.chunk
	text := uevent.Packed(c.text[at.from:at.to])
	if c.live--; c.live == 0 {
		if c == a.current {
			a.current = nil
		}
		c.free()
	}
	return text
}

func newChunk(size int) *chunk {
	memory, err := unix.MmapPtr(-1, 0, nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return &chunk{text: make([]byte, size), heap: true}
	}
	return &chunk{text: unsafe.Slice((*byte)(memory), size)}
}

func (c *chunk) free() {
	if !c.heap {
		unix.MunmapPtr(unsafe.Pointer(&c.text[0]), uintptr(len(c.text)))
	}
	c.text = nil
}
