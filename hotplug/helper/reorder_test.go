package helper

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/uevent"
)

// TestReorder adds events to a buffer as a script says, and checks when each is popped. A script is a
// list of words: a number is the SEQNUM of an event that comes, +N lets N milliseconds pass; after each
// word comes a pop.
func TestReorder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, script, want string
		next               uint64
	}{
		{name: "in order", next: 5, script: "5 6 7", want: "0:5 0:6 0:7"},
		{name: "the wrong way round", next: 5, script: "7 6 5", want: "0:5 0:6 0:7"},
		{name: "late by little", next: 5, script: "6 +20 5", want: "20:5 20:6"},
		{name: "missing", next: 5, script: "6 +49 7 +1 +50", want: "50:6 50:7"},
		{name: "missing, and late", next: 5, script: "6 +50 5", want: "50:6 50:5"},
		{name: "the first is not known", script: "8 +20 7 +29 +1", want: "50:7 50:8"},
		{name: "the first is not known, and none is before", script: "8 +49 +1 9", want: "50:8 50:9"},
		{name: "twice", next: 5, script: "5 5 6 5", want: "0:5 0:6"},
		{name: "twice while it waits", next: 5, script: "6 6 +50", want: "50:6"},
		{name: "many missing, one wait", next: 5, script: "6 8 10 +50", want: "50:6 50:8 50:10"},
		{name: "each waits by itself", next: 5, script: "6 +10 8 +40 +9 +1", want: "50:6 60:8"},
		{name: "without a number", next: 5, script: "0 0 6 0 +50", want: "0:0 0:0 0:0 50:6"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := reorderBuffer{next: c.next}
			var got []string
			now := time.Duration(0)
			for word := range strings.FieldsSeq(c.script) {
				n, err := strconv.Atoi(strings.TrimPrefix(word, "+"))
				hotplugtest.Must(t, err)
				if word[0] == '+' {
					if wait := s.wait(now); wait >= 0 && wait < time.Duration(n)*time.Millisecond && len(s.waiting) == 0 {
						t.Errorf("it would wake after %v for nothing", wait)
					}
					now += time.Duration(n) * time.Millisecond
				} else {
					s.add(hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/x", "SEQNUM="+word), now)
				}
				events, _ := s.pop(now, 100)
				for _, e := range events {
					got = append(got, fmt.Sprintf("%d:%d", now.Milliseconds(), e.Seqnum))
				}
			}
			if wait := s.wait(now); len(s.waiting) == 0 && wait >= 0 {
				t.Errorf("it waits %v for nothing", wait)
			}
			// Two numbers that come at once in the wrong order are no gap.
			if c.name == "the wrong way round" {
				slices.Sort(got)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%s: %q, want %q", c.script, got, c.want)
			}
		})
	}
}

// TestReorderLimit pops no more events than the limit, and none twice.
func TestReorderLimit(t *testing.T) {
	t.Parallel()
	s := reorderBuffer{next: 1}
	for n := 10; n > 0; n-- {
		s.add(hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/x", "SEQNUM="+strconv.Itoa(n)), 0)
	}
	var got []uint64
	for range 4 {
		events, _ := s.pop(0, 3)
		for _, e := range events {
			got = append(got, e.Seqnum)
		}
		if len(got) < 10 && s.wait(0) != 0 {
			t.Errorf("after %d it waits %v", len(got), s.wait(0))
		}
	}
	if !slices.Equal(got, []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}) {
		t.Errorf("popped were %v", got)
	}
}

// TestIntervals compares the set with a map.
func TestIntervals(t *testing.T) {
	t.Parallel()
	for range 50 {
		var s intervals
		has := map[uint64]bool{}
		for range 200 {
			n := rand.Uint64N(300) + 1
			if s.add(n) == has[n] {
				t.Fatalf("%d is new: %v; the set is %v", n, has[n], s)
			}
			has[n] = true
		}
		total := uint64(0)
		for i, x := range s {
			if x.first > x.last || i > 0 && x.first <= s[i-1].last+1 {
				t.Fatalf("no set: %v", s)
			}
			total += x.last - x.first + 1
		}
		if total != uint64(len(has)) {
			t.Fatalf("%d numbers, want %d", total, len(has))
		}
		again, ok := parseIntervals(s.String())
		if !ok || !slices.Equal(again, s) {
			t.Fatalf("%v became %v", s, again)
		}
	}
	var s intervals
	for n := range uint64(3 * maxIntervals) {
		s.add(2*n + 1)
	}
	if len(s) != maxIntervals || s.last() != 6*maxIntervals-1 || s.add(6*maxIntervals-1) {
		t.Errorf("%d intervals, the last %d", len(s), s.last())
	}
}

// FuzzParseIntervals shows that a text which is parsed is written again as the same set.
func FuzzParseIntervals(f *testing.F) {
	for _, text := range []string{"", "1 1\n", "1 2\n4 9\n", stateServing, "2 1\n", "1 2\n3 4\n", "0 4\n", "1 2", "+1 2\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, ok := parseIntervals(text)
		if !ok {
			return
		}
		again, ok := parseIntervals(s.String())
		if !ok || !slices.Equal(again, s) {
			t.Errorf("%q: %v became %v", text, s, again)
		}
	})
}

// TestRecord takes records out of a text that comes in two parts, cut at every byte.
func TestRecord(t *testing.T) {
	t.Parallel()
	whole := "psvd\x06\x00\x00\x00A=1\x00B\x00psvd\x02\x00\x00\x00C\x00"
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("NOT TESTED: records: the test is for little-endian machines")
	}
	for cut := range len(whole) {
		l := &leader{}
		var blocks []string
		for _, part := range []string{whole[:cut], whole[cut:]} {
			l.text = append(l.text, part...)
			for {
				block, size := record(l.text)
				if size == 0 {
					break
				}
				blocks = append(blocks, block)
				l.text = l.text[size:]
			}
		}
		if !slices.Equal(blocks, []string{"A=1\x00B\x00", "C\x00"}) {
			t.Errorf("cut at %d: %q", cut, blocks)
		}
	}
	for _, text := range []string{"garbage!", "psvd\xff\xff\x00\x00", "psvd\xf9\x0f\x00\x00...."} {
		if block, size := record([]byte(text)); block != "" || size != len(text) {
			t.Errorf("%q: %q, %d", text, block, size)
		}
	}
}

// TestWouldSkip shows that a missing SEQNUM is noticed wherever it is among the events that have waited
// long enough, also behind one that need not wait.
func TestWouldSkip(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		next    uint64
		numbers []uint64
		now     time.Duration
		want    bool
	}{
		{5, nil, gapWait, false},
		{5, []uint64{5, 6, 7}, gapWait, false},
		{5, []uint64{6}, gapWait, true},
		{5, []uint64{6}, gapWait - 1, false},
		{5, []uint64{5, 6, 9}, gapWait, true},
		{5, []uint64{3, 4, 5}, gapWait, false},
		{0, []uint64{5}, gapWait, true},
	} {
		s := reorderBuffer{next: c.next}
		for _, n := range c.numbers {
			s.add(&uevent.Event{Seqnum: n}, 0)
		}
		if got := s.wouldSkip(c.now); got != c.want {
			t.Errorf("next %d, waiting %d: %v", c.next, c.numbers, got)
		}
	}
}
