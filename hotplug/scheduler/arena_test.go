package scheduler

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/uevent"
)

// TestArena puts texts of all sizes into the arena and takes them out in random order. Each
// is unchanged, and at the end no chunk is left.
func TestArena(t *testing.T) {
	t.Parallel()
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
		var a arena
		type entry struct {
			at   ref
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
				if got := a.take(e.at); got != e.text {
					t.Fatalf("%s: %d bytes came back as %d others", c.name, len(e.text), len(got))
				}
				continue
			}
			n := c.length(r)
			text := uevent.Packed(strings.Repeat(string(rune('a'+r.IntN(26))), n-1) + "\x00")
			e := entry{a.put(text), text}
			if e.at.chunk.heap {
				t.Fatalf("%s: the chunk lies in the heap", c.name)
			}
			chunks[e.at.chunk] = true
			there = append(there, e)
		}
		for _, e := range there {
			if got := a.take(e.at); got != e.text {
				t.Fatalf("%s: at the end %d bytes came back as %d others", c.name, len(e.text), len(got))
			}
		}
		if a.current != nil {
			t.Errorf("%s: a chunk is left in an empty arena: %+v", c.name, *a.current)
		}
		if len(chunks) < 2 {
			t.Errorf("%s: %d chunks", c.name, len(chunks))
		}
		for chunk := range chunks {
			if chunk.live != 0 || chunk.text != nil {
				t.Errorf("%s: a chunk was not freed: %d texts are live", c.name, chunk.live)
			}
		}
	}
}

// TestArenaFreesMemory shows that the memory of a full arena is unmapped when all texts are
// taken out. It measures the whole process, so it does not run in parallel; Go's heap may grow
// meanwhile, by 64 MiB at once.
func TestArenaFreesMemory(t *testing.T) {
	const many = 12000
	const slack = many * chunkSize / 2
	text := uevent.Packed(strings.Repeat("x", chunkSize-1) + "\x00")
	before := writable(t)
	var a arena
	var refs []ref
	for range many {
		refs = append(refs, a.put(text))
	}
	if grown := writable(t) - before; grown < many*chunkSize {
		t.Errorf("the arena takes %d bytes outside of the heap", grown)
	}
	for _, at := range refs {
		if a.take(at) != text {
			t.Fatal("another text")
		}
	}
	if grown := writable(t) - before; grown > slack {
		t.Errorf("%d bytes more than before", grown)
	}
}

// writable returns how many bytes of memory the process has mapped for writing.
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

// TestArenaKeepsChunk shows that of several chunks only the one that holds a text is kept,
// and that a text which is put meanwhile lies elsewhere.
func TestArenaKeepsChunk(t *testing.T) {
	t.Parallel()
	var a arena
	text := func(i int) uevent.Packed {
		return uevent.Packed(strings.Repeat(strconv.Itoa(i%10), 1000) + "\x00")
	}
	const many = 300 // on five chunks
	var refs []ref
	for i := range many {
		refs = append(refs, a.put(text(i)))
	}
	const kept = 70
	for i, at := range refs {
		if i != kept {
			if got := a.take(at); got != text(i) {
				t.Fatalf("text %d is another", i)
			}
		}
	}
	if last := refs[kept].chunk; last.text == nil || last.live != 1 {
		t.Fatalf("the chunk of the last text: %d texts are live", last.live)
	}
	for i := range many {
		if b := refs[i].chunk; b != refs[kept].chunk && b.text != nil {
			t.Fatalf("the chunk of text %d is still there", i)
		}
	}
	next := a.put(text(1)) // on another chunk
	if got := a.take(refs[kept]); got != text(kept) {
		t.Error("the last text is another")
	}
	if got := a.take(next); got != text(1) || a.current != nil {
		t.Error("the next text is another, or its chunk is left")
	}
}
