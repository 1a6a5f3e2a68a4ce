package scheduler

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/uevent"
)

// TestShelf puts texts of all sizes on the arena and takes them out in an order of no
// rule. Each is as it was, and at the end no chunk is left.
func TestShelf(t *testing.T) {
	for _, c := range []struct {
		name   string
		length func(r *rand.Rand) int
	}{
		{"short", func(r *rand.Rand) int { return 1 + r.IntN(300) }},
		{"as long as a chunk", func(r *rand.Rand) int { return chunkSize - 1 + r.IntN(3) }},
		{"longer", func(r *rand.Rand) int { return 3 * chunkSize }},
		{"mixed", func(r *rand.Rand) int { return 1 + r.IntN(40)*r.IntN(chunkSize/16) }},
	} {
		r := rand.New(rand.NewPCG(1, uint64(len(c.name))))
		var s arena
		type entry struct {
			slot ref
			text uevent.Packed
		}
		var there []entry
		chunks := map[*chunk]bool{}
		for range 3000 {
			if len(there) > 0 && r.IntN(5) < 2 || len(there) > 200 {
				i := r.IntN(len(there))
				e := there[i]
				there[i] = there[len(there)-1]
				there = there[:len(there)-1]
				if got := s.take(e.slot); got != e.text {
					t.Fatalf("%s: %d bytes came back as %d others", c.name, len(e.text), len(got))
				}
				continue
			}
			n := c.length(r)
			text := uevent.Packed(strings.Repeat(string(rune('a'+r.IntN(26))), n-1) + "\x00")
			e := entry{s.put(text), text}
			if e.slot.chunk.heap {
				t.Fatalf("%s: no memory of its own", c.name)
			}
			chunks[e.slot.chunk] = true
			there = append(there, e)
		}
		for _, e := range there {
			if got := s.take(e.slot); got != e.text {
				t.Fatalf("%s: at the end %d bytes came back as %d others", c.name, len(e.text), len(got))
			}
		}
		if s.current != nil {
			t.Errorf("%s: a chunk is left on an empty arena: %+v", c.name, *s.current)
		}
		if len(chunks) < 2 {
			t.Errorf("%s: %d chunks", c.name, len(chunks))
		}
		for b := range chunks {
			if b.live != 0 || b.text != nil {
				t.Errorf("%s: a chunk was not given back: %d texts open", c.name, b.live)
			}
		}
	}
}

// TestShelfGivesBack shows that the system has the memory of a full arena back when
// all is taken out.
func TestShelfGivesBack(t *testing.T) {
	const many, slack = 1000, 16 << 20
	text := uevent.Packed(strings.Repeat("x", chunkSize-1) + "\x00")
	before := writable(t)
	var s arena
	var slots []ref
	for range many {
		slots = append(slots, s.put(text))
	}
	if grown := writable(t) - before; grown < many*chunkSize {
		t.Errorf("the arena takes %d bytes outside of the heap", grown)
	}
	for _, at := range slots {
		if s.take(at) != text {
			t.Fatal("another text")
		}
	}
	if grown := writable(t) - before; grown > slack {
		t.Errorf("%d bytes more than before", grown)
	}
}

// writable returns how many bytes of the process may be written to.
func writable(t *testing.T) (bytes int64) {
	t.Helper()
	for line := range strings.Lines(hotplugtest.Contents(t, "/proc/self/maps")) {
		fields := strings.Fields(line)
		from, to, _ := strings.Cut(fields[0], "-")
		first, err1 := strconv.ParseInt(from, 16, 64)
		last, err2 := strconv.ParseInt(to, 16, 64)
		if err1 == nil && err2 == nil && strings.HasPrefix(fields[1], "rw") {
			bytes += last - first
		}
	}
	return bytes
}

// TestShelfOutlivesOne shows that a chunk with one text left is kept, the others are
// not, and that a text taken out is nobody else's.
func TestShelfOutlivesOne(t *testing.T) {
	var s arena
	text := func(i int) uevent.Packed {
		return uevent.Packed(strings.Repeat(strconv.Itoa(i%10), 1000) + "\x00")
	}
	const many = 300 // on five chunks
	var slots []ref
	for i := range many {
		slots = append(slots, s.put(text(i)))
	}
	const kept = 70
	for i, at := range slots {
		if i != kept {
			if got := s.take(at); got != text(i) {
				t.Fatalf("text %d is another", i)
			}
		}
	}
	if last := slots[kept].chunk; last.text == nil || last.live != 1 {
		t.Fatalf("the chunk of the last text: %d open", last.live)
	}
	for i := range many {
		if b := slots[i].chunk; b != slots[kept].chunk && b.text != nil {
			t.Fatalf("the chunk of text %d is still there", i)
		}
	}
	next := s.put(text(1)) // on another chunk
	if got := s.take(slots[kept]); got != text(kept) {
		t.Error("the last text is another")
	}
	if got := s.take(next); got != text(1) || s.current != nil {
		t.Error("the next text is another, or its chunk is left")
	}
}
