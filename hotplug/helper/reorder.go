package helper

import (
	"strconv"
	"strings"
	"time"

	"devspool/hotplug/uevent"
)

// gapWait is how long an event waits for events with smaller SEQNUMs. Some never come: the kernel starts
// no helper for the events of other network namespaces, say, and they use numbers too.
const gapWait = 50 * time.Millisecond

// reorderBuffer puts events, which helpers bring in any order, into the order of their SEQNUMs. Times are
// those of the leader's clock.
type reorderBuffer struct {
	next    uint64    // the smallest SEQNUM that has not come or been given up; 0 where that is not known
	waiting []arrival // by SEQNUM
	seen    intervals // the SEQNUMs that came
	inTurn  bool      // there is an mdev.seq, by which other helpers may do events in between
}

// arrival is an event that waits for those before it.
type arrival struct {
	event *uevent.Event
	since time.Duration // when the wait began
}

// add takes an event that came at the time now, unless one with its SEQNUM came before.
func (s *reorderBuffer) add(e *uevent.Event, now time.Duration) {
	if e.Seqnum != 0 && !s.seen.add(e.Seqnum) {
		return
	}
	// From the end, since events come nearly in order.
	s.waiting = append(s.waiting, arrival{})
	i := len(s.waiting) - 1
	for ; i > 0 && s.waiting[i-1].event.Seqnum > e.Seqnum; i-- {
		s.waiting[i] = s.waiting[i-1]
	}
	s.waiting[i] = arrival{e, now}
}

// patience returns how long an event waits for those before it.
func (s *reorderBuffer) patience() time.Duration {
	if s.inTurn {
		return turnWait
	}
	return gapWait
}

// comesEarly reports whether SEQNUMs are missing before n. The kernel's first is 1. An event without a
// SEQNUM, with n 0, never comes early; add puts it before all others.
func comesEarly(n, next uint64) bool { return n > max(next, 1) }

// pop takes out the events that need not wait any more at the time now, up to limit. What has come too
// late, after its SEQNUM was given up, goes at once. waited is the
// SEQNUM of the first of them that comes after a gap, or 0.
func (s *reorderBuffer) pop(now time.Duration, limit int) (events []*uevent.Event, waited uint64) {
	expired := s.expired(now)
	for i, a := range s.waiting[:min(limit, len(s.waiting))] {
		n := a.event.Seqnum
		if comesEarly(n, s.next) {
			if i >= expired {
				break
			}
			if waited == 0 {
				waited = n
			}
		}
		s.next = max(s.next, n+1)
		events = append(events, a.event)
	}
	s.waiting = append(s.waiting[:0], s.waiting[len(events):]...)
	return events, waited
}

// expired returns how many events there are up to the last one that has waited long enough.
// Those before that one go with it, whenever they came: they are older events.
func (s *reorderBuffer) expired(now time.Duration) (n int) {
	for i, a := range s.waiting {
		if now-a.since >= s.patience() {
			n = i + 1
		}
	}
	return n
}

// wouldSkip reports whether pop would give up a missing SEQNUM at the time now.
func (s *reorderBuffer) wouldSkip(now time.Duration) bool {
	next := s.next
	for _, a := range s.waiting[:s.expired(now)] {
		n := a.event.Seqnum
		if comesEarly(n, next) {
			return true
		}
		next = max(next, n+1)
	}
	return false
}

// restartTimers begins the wait for missing SEQNUMs anew.
func (s *reorderBuffer) restartTimers(now time.Duration) {
	for i := range s.waiting {
		s.waiting[i].since = now
	}
}

// wait returns how long from the time now pop will return nothing, unless another event comes. It is
// negative where no event waits.
func (s *reorderBuffer) wait(now time.Duration) time.Duration {
	if len(s.waiting) == 0 {
		return -1
	}
	if !comesEarly(s.waiting[0].event.Seqnum, s.next) {
		return 0
	}
	since := now
	for _, a := range s.waiting {
		since = min(since, a.since)
	}
	return max(0, since+s.patience()-now)
}

// interval is the numbers from first to last.
type interval struct{ first, last uint64 }

// intervals is a set of numbers: intervals in order, none of which touches another.
type intervals []interval

// maxIntervals bounds the set: it forgets the smallest numbers, which came long ago.
const maxIntervals = 256

// add adds n to the set, and reports whether it was not in it yet.
func (s *intervals) add(n uint64) bool {
	all := *s
	// From the end: a number is nearly always among the last, or the next.
	i := len(all)
	for i > 0 && all[i-1].first > n {
		i--
	}
	if i > 0 && all[i-1].last >= n {
		return false
	}
	joinsLeft := i > 0 && all[i-1].last+1 == n
	joinsRight := i < len(all) && n+1 == all[i].first
	switch {
	case joinsLeft && joinsRight:
		all[i-1].last = all[i].last
		all = append(all[:i], all[i+1:]...)
	case joinsLeft:
		all[i-1].last = n
	case joinsRight:
		all[i].first = n
	default:
		all = append(all, interval{})
		copy(all[i+1:], all[i:])
		all[i] = interval{n, n}
		if len(all) > maxIntervals {
			all = append(all[:0], all[1:]...)
		}
	}
	*s = all
	return true
}

// last returns the greatest number, or 0.
func (s intervals) last() uint64 {
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1].last
}

// String returns a line for each interval: its first number, a blank, and its last.
func (s intervals) String() string {
	var b []byte
	for _, x := range s {
		b = append(strconv.AppendUint(b, x.first, 10), ' ')
		b = append(strconv.AppendUint(b, x.last, 10), '\n')
	}
	return string(b)
}

// parseIntervals parses the text of String. ok is false for other text. No text at all is the
// empty set: no leader was there before. Intervals that touch are other text, as String never writes them.
func parseIntervals(text string) (s intervals, ok bool) {
	for line := range strings.Lines(text) {
		first, last, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		a, err1 := strconv.ParseUint(first, 10, 64)
		b, err2 := strconv.ParseUint(last, 10, 64)
		if err1 != nil || err2 != nil || a == 0 || a > b || len(s) > 0 && a <= s.last()+1 || !strings.HasSuffix(line, "\n") {
			return nil, false
		}
		s = append(s, interval{a, b})
	}
	return s, true
}
