package hotplug

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

// shelf keeps the text of events that wait outside of Go's heap. A heap that was
// large once leaves books behind that the runtime never gives back; what lies here
// is the system's again as soon as it is taken out.
type shelf struct {
	top *plank // where the next text goes, or nil; it is never empty
}

// plank is a piece of memory for the text of several events.
type plank struct {
	text []byte
	used int  // of its bytes
	open int  // texts that are to be taken out yet
	heap bool // the system gave no memory of its own
}

// plankSize is small, since one text that has to wait for long keeps all of its plank.
const plankSize = 16 << 10

// slot is where a text lies.
type slot struct {
	plank    *plank
	from, to uint32
}

// put keeps a text until it is taken out.
func (s *shelf) put(text uevent.Packed) slot {
	b := s.top
	if b == nil || len(b.text)-b.used < len(text) {
		b = newPlank(max(plankSize, len(text)))
		s.top = b
	}
	from := b.used
	b.used += copy(b.text[from:], text)
	b.open++
	return slot{b, uint32(from), uint32(b.used)}
}

// take returns the text that lies in a slot, which is free then.
func (s *shelf) take(from slot) uevent.Packed {
	b := from.plank
	text := uevent.Packed(b.text[from.from:from.to])
	if b.open--; b.open == 0 {
		if b == s.top {
			s.top = nil
		}
		b.free()
	}
	return text
}

func newPlank(size int) *plank {
	at, err := unix.MmapPtr(-1, 0, nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return &plank{text: make([]byte, size), heap: true}
	}
	return &plank{text: unsafe.Slice((*byte)(at), size)}
}

func (b *plank) free() {
	if !b.heap {
		unix.MunmapPtr(unsafe.Pointer(&b.text[0]), uintptr(len(b.text)))
	}
	b.text = nil
}
