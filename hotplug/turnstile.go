package hotplug

import (
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// turnFile is mdev.seq below /dev, by which boards put their helpers in order: it
// holds the sequence number whose turn it is. Helpers of BusyBox may take turns by it
// too.
const turnFile = "/mdev.seq"

// turnWait is how long a helper waits for its turn. One that is killed, or an
// event that no helper sees, makes each follower wait so long once.
const turnWait = 2 * time.Second

// turnstile is the file for a process that does one event.
type turnstile struct {
	path string
	next string // what to write at the end; "" for nothing
}

// awaitTurn waits until the file at path holds seqnum. Where there is no such
// file there is nothing to wait for.
func awaitTurn(path string, seqnum uint64) turnstile {
	if seqnum == 0 {
		return turnstile{}
	}
	t := turnstile{path: path, next: strconv.FormatUint(seqnum+1, 10)}
	for end := time.Now().Add(turnWait); ; {
		text, err := sys.ReadAttribute(path)
		if err != nil {
			return turnstile{}
		}
		turn, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
		left := time.Until(end)
		switch {
		case err != nil: // empty: whoever comes first begins the count
			t.write(strconv.FormatUint(seqnum, 10))
			return t
		case turn == seqnum || left <= 0:
			return t
		case turn > seqnum:
			return turnstile{}
		}
		time.Sleep(min(left, turnPause(seqnum-turn)))
	}
}

// turnPause is how long a helper sleeps until it looks again, with so many before it.
// Of hundreds that wait, only the next few look often.
func turnPause(before uint64) time.Duration {
	return time.Duration(min(before, 50)) * 2 * time.Millisecond
}

// pass lets the next event have its turn.
func (t turnstile) pass() {
	if t.next != "" {
		t.write(t.next)
	}
}

// write puts number into the file. It is never empty meanwhile, which would tell
// another helper that the count is to begin.
func (t turnstile) write(number string) {
	fd, err := unix.Open(t.path, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if n, err := unix.Write(fd, []byte(number)); err == nil {
		unix.Ftruncate(fd, int64(n))
	}
}

// turns is the file for the server, which keeps the number in it.
type turns struct {
	fd    int
	holds uint64 // 0 for no number
	size  int
}

// openTurns opens the file of a device directory, if there is one.
func openTurns(dev string) (t turns, ok bool) {
	fd, err := unix.Open(dev+turnFile, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return t, false
	}
	var text [64]byte
	n, err := unix.Pread(fd, text[:], 0)
	if err != nil {
		unix.Close(fd) // no file
		return t, false
	}
	t = turns{fd: fd, size: n}
	t.holds, _ = strconv.ParseUint(strings.TrimSpace(string(text[:n])), 10, 64)
	return t, true
}

func (t *turns) close() { unix.Close(t.fd) }

// set lets the event with the number have its turn, unless a later one had it.
func (t *turns) set(number uint64) {
	if number <= t.holds {
		return
	}
	var room [20]byte
	text := strconv.AppendUint(room[:0], number, 10)
	if _, err := unix.Pwrite(t.fd, text, 0); err != nil {
		return
	}
	if t.size > len(text) {
		unix.Ftruncate(t.fd, int64(len(text)))
	}
	t.holds, t.size = number, len(text)
}

// inTurn does events each of which waits for the end of the one before it, commands
// too, as long as a helper would. Those that have waited so long go without.
func (s *server) inTurn(t *turns, events []*uevent.Event) {
	for i, e := range events {
		if t.holds == 0 {
			t.set(e.Seqnum)
		}
		b := s.road.Run(events[i : i+1])
		if e.Seqnum > s.hurried && !endsWithin(b, turnWait) {
			s.read(0)
			s.hurried = max(events[len(events)-1].Seqnum, s.last())
		}
		if e.Seqnum != 0 {
			t.set(e.Seqnum + 1)
		}
	}
}

// last returns the greatest number of those that wait.
func (s *sequence) last() uint64 {
	if len(s.waiting) == 0 {
		return 0
	}
	return s.waiting[len(s.waiting)-1].event.Seqnum
}

// endsWithin reports whether a batch comes to its end within the limit.
func endsWithin(b *Batch, limit time.Duration) bool {
	select {
	case <-b.end:
		return true
	default:
	}
	select {
	case <-b.end:
		return true
	case <-sys.After(limit):
		return false
	}
}
