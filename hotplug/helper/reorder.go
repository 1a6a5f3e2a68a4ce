package helper

import (
	"strconv"
	"strings"
	"time"

	"devspool/hotplug/uevent"
)

// gapWait is how long an event waits for those with smaller numbers. Numbers are
// missing for good where the kernel used them for what no helper is started for,
// such as the events of another network namespace.
const gapWait = 50 * time.Millisecond

// reorderBuffer puts events, which helpers bring in any order, into that of their numbers.
type reorderBuffer struct {
	next    uint64    // the number whose turn it is; 0 where nothing is known of those before
	waiting []arrival // by number
	seen    intervals // all that came
	inTurn  bool      // others may do events in their turn, by mdev.seq
}

// arrival is an event that waits for its turn.
type arrival struct {
	event *uevent.Event
	since time.Duration
}

// add takes an event that came at the time now, unless one with its number came
// before.
func (s *reorderBuffer) add(e *uevent.Event, now time.Duration) {
	if e.Seqnum != 0 && !s.seen.add(e.Seqnum) {
		return
	}
	s.waiting = append(s.waiting, arrival{})
	i := len(s.waiting) - 1
	for ; i > 0 && s.waiting[i-1].event.Seqnum > e.Seqnum; i-- {
		s.waiting[i] = s.waiting[i-1]
	}
	s.waiting[i] = arrival{e, now}
}

// patience is how long an event waits for those before it.
func (s *reorderBuffer) patience() time.Duration {
	if s.inTurn {
		return turnWait
	}
	return gapWait
}

// comesEarly reports whether numbers are missing before n. The kernel's first is 1.
func comesEarly(n, next uint64) bool { return n > max(next, 1) }

// pop takes out up to limit events whose turn it is at the time now. Waited is the
// number of the first of them that came to its turn by waiting, or 0.
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

// expired returns how many events there are up to the last that has waited enough.
func (s *reorderBuffer) expired(now time.Duration) (n int) {
	for i, a := range s.waiting {
		if now-a.since >= s.patience() {
			n = i + 1
		}
	}
	return n
}

// wouldSkip reports whether pop would pass over a missing number at the time now.
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

// restartTimers begins the wait for a missing number anew.
func (s *reorderBuffer) restartTimers(now time.Duration) {
	for i := range s.waiting {
		s.waiting[i].since = now
	}
}

// wait returns how long from the time now no event is due, unless another comes.
// It is negative where none waits.
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

// maxIntervals bounds the set: of the smallest numbers, those of long ago, it knows
// nothing then.
const maxIntervals = 256

// add reports whether n was not in the set yet.
func (s *intervals) add(n uint64) bool {
	all := *s
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

// String returns a line for each interval: its first number and its last.
func (s intervals) String() string {
	var b []byte
	for _, x := range s {
		b = append(strconv.AppendUint(b, x.first, 10), ' ')
		b = append(strconv.AppendUint(b, x.last, 10), '\n')
	}
	return string(b)
}

// parseIntervals reads what String wrote. Ok is false for anything else.
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
