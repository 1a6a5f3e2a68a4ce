package helper

import (
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/scheduler"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// seqFileName is mdev.seq below /dev, by which boards put their helpers in order: it
// holds the sequence number whose turn it is. BusyBox's helpers take turns by it
// too.
const seqFileName = "/mdev.seq"

// turnWait is how long a helper waits for its turn. One that is killed, or an
// event that no helper sees, makes each follower wait so long once.
const turnWait = 2 * time.Second

// waitSeq waits until the file at path holds seqnum. Where there is no such file there is
// nothing to wait for. What it returns is to be advanced at the event's end.
func waitSeq(path string, seqnum uint64) seqTurn {
	if seqnum == 0 {
		return seqTurn{}
	}
	t := seqTurn{path: path, next: strconv.FormatUint(seqnum+1, 10)}
	for end := time.Now().Add(turnWait); ; {
		text, err := sys.ReadAttribute(path)
		if err != nil {
			return seqTurn{}
		}
		turn, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
		left := time.Until(end)
		switch {
		case err != nil: // empty: the first helper begins the count
			t.write(strconv.FormatUint(seqnum, 10))
			return t
		case turn == seqnum || left <= 0:
			return t
		case turn > seqnum:
			return seqTurn{}
		}
		time.Sleep(min(left, turnPause(seqnum-turn)))
	}
}

// seqTurn is the turn of a process that does one event.
type seqTurn struct {
	path string
	next string // what to write at the end; "" for nothing
}

// turnPause is how long a helper sleeps until it looks again, with so many before it. Of
// hundreds that wait, only the next few look often.
func turnPause(before uint64) time.Duration {
	return time.Duration(min(before, 50)) * 2 * time.Millisecond
}

// advance lets the next event have its turn.
func (t seqTurn) advance() {
	if t.next != "" {
		t.write(t.next)
	}
}

// write puts number into the file. It is never empty meanwhile, which would tell another
// helper that the count is to begin.
func (t seqTurn) write(number string) {
	fd, err := unix.Open(t.path, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if n, err := unix.Write(fd, []byte(number)); err == nil {
		unix.Ftruncate(fd, int64(n))
	}
}

// seqFile is the file as the leader keeps it open.
type seqFile struct {
	fd    int
	holds uint64 // 0 for no number
	size  int
}

// openSeqFile opens the file of a device directory, if there is one.
func openSeqFile(dev string) (f seqFile, ok bool) {
	fd, err := unix.Open(dev+seqFileName, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return f, false
	}
	var text [64]byte
	n, err := unix.Pread(fd, text[:], 0)
	if err != nil {
		unix.Close(fd) // no file
		return f, false
	}
	f = seqFile{fd: fd, size: n}
	f.holds, _ = strconv.ParseUint(strings.TrimSpace(string(text[:n])), 10, 64)
	return f, true
}

func (f *seqFile) close() { unix.Close(f.fd) }

// set lets the event with the number have its turn, unless a later one had it.
func (f *seqFile) set(number uint64) {
	if number <= f.holds {
		return
	}
	var room [20]byte
	text := strconv.AppendUint(room[:0], number, 10)
	if _, err := unix.Pwrite(f.fd, text, 0); err != nil {
		return
	}
	if f.size > len(text) {
		unix.Ftruncate(f.fd, int64(len(text)))
	}
	f.holds, f.size = number, len(text)
}

// submitInTurn submits events each of which waits for the end of the one before it,
// commands too, as long as a helper would. Those that have waited so long go without.
func (l *leader) submitInTurn(f *seqFile, events []*uevent.Event) {
	for _, e := range events {
		if f.holds == 0 {
			f.set(e.Seqnum)
		}
		b := l.Scheduler.Run(scheduler.Events(e))
		if e.Seqnum > l.noWaitUntil && !b.EndsWithin(turnWait) {
			l.read(0)
			l.noWaitUntil = max(events[len(events)-1].Seqnum, l.last())
		}
		if e.Seqnum != 0 {
			f.set(e.Seqnum + 1)
		}
	}
}

// last returns the greatest number of those that wait.
func (b *reorderBuffer) last() uint64 {
	if len(b.waiting) == 0 {
		return 0
	}
	return b.waiting[len(b.waiting)-1].event.Seqnum
}
