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
	p := s.top
	if p == nil || len(p.text)-p.used < len(text) {
		p = newPlank(max(plankSize, len(text)))
		s.top = p
	}
	from := p.used
	p.used += copy(p.text[from:], text)
	p.open++
	return slot{p, uint32(from), uint32(p.used)}
}

// take returns the text that lies in a slot, which is free then.
func (s *shelf) take(at slot) uevent.Packed {
	p := at.plank
	text := uevent.Packed(p.text[at.from:at.to])
	if p.open--; p.open == 0 {
		if p == s.top {
			s.top = nil
		}
		p.free()
	}
	return text
}

func newPlank(size int) *plank {
	memory, err := unix.MmapPtr(-1, 0, nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return &plank{text: make([]byte, size), heap: true}
	}
	return &plank{text: unsafe.Slice((*byte)(memory), size)}
}

func (p *plank) free() {
	if !p.heap {
		unix.MunmapPtr(unsafe.Pointer(&p.text[0]), uintptr(len(p.text)))
	}
	p.text = nil
}
