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

// seqFileName is the file below /dev by which boards put their helpers in order: it holds the SEQNUM
// of the event that may be done now. BusyBox's mdev obeys it too (docs/mdev.txt there).
const seqFileName = "/mdev.seq"

// turnWait is how long a helper waits for its turn. After a helper that was killed, or an event for
// which the kernel starts no helper, each later helper waits so long once.
const turnWait = 2 * time.Second

// waitSeq waits until the file at path holds seqnum, turnWait at most. It does not wait where there is
// no such file, or seqnum is 0. The caller advances the turn when its event is done.
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
		case err != nil: // empty: the first helper writes its own number
			t.write(strconv.FormatUint(seqnum, 10))
			return t
		case turn == seqnum || left <= 0:
			return t
		// Helpers behind this one have given up waiting for it. It does its event at once, and
		// the file stays theirs.
		case turn > seqnum:
			return seqTurn{}
		}
		time.Sleep(min(left, turnPause(seqnum-turn)))
	}
}

// seqTurn is the turn of a helper that does one event. The zero seqTurn changes no file.
type seqTurn struct {
	path string
	next string // the number to write when the event is done, or ""
}

// turnPause is how long a helper sleeps before it reads the file again, with before events in front of
// its own. Of hundreds of helpers that wait, only the next few read it often.
func turnPause(before uint64) time.Duration {
	return time.Duration(min(before, 50)) * 2 * time.Millisecond
}

// advance gives the turn to the next event.
func (t seqTurn) advance() {
	if t.next != "" {
		t.write(t.next)
	}
}

// write replaces the number in the file. The file is never empty meanwhile, since a helper that finds
// it empty writes its own number. What cannot be written makes the others wait for turnWait.
func (t seqTurn) write(number string) {
	fd, err := unix.Open(t.path, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if n, err := unix.Write(fd, []byte(number)); err == nil {
		_ = unix.Ftruncate(fd, int64(n))
	}
}

// seqFile is the file as a leader has it open.
type seqFile struct {
	fd     int    // open for reading and writing, for one round of submitWaiting
	number uint64 // that the file holds; 0 for none
	size   int    // of its text in bytes, to truncate only where a shorter number takes the place
}

// openSeqFile opens the file in the directory dev. ok is false where there is none.
func openSeqFile(dev string) (f seqFile, ok bool) {
	fd, err := unix.Open(dev+seqFileName, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return f, false
	}
	var text [64]byte
	n, err := unix.Pread(fd, text[:], 0)
	if err != nil {
		unix.Close(fd) // a FIFO, say
		return f, false
	}
	f = seqFile{fd: fd, size: n}
	f.number, _ = strconv.ParseUint(strings.TrimSpace(string(text[:n])), 10, 64)
	return f, true
}

// close leaves the number as it is: by it the next helper knows its turn.
func (f *seqFile) close() { unix.Close(f.fd) }

// set gives the turn to the event with a number, unless a later one has it. Where it cannot be written,
// other helpers wait for turnWait.
func (f *seqFile) set(number uint64) {
	if number <= f.number {
		return
	}
	var room [20]byte
	text := strconv.AppendUint(room[:0], number, 10)
	if _, err := unix.Pwrite(f.fd, text, 0); err != nil {
		return
	}
	if f.size > len(text) {
		_ = unix.Ftruncate(f.fd, int64(len(text)))
	}
	f.number, f.size = number, len(text)
}

// submitInTurn submits events, each when the one before it is done, commands included, or after
// turnWait, as a helper would. After one that takes so long, the events that have come by then do not
// wait any more.
func (l *leader) submitInTurn(f *seqFile, events []*uevent.Event) {
	for _, e := range events {
		if f.number == 0 { // empty, or no number: the first event begins, as in waitSeq
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

// last returns the greatest SEQNUM of the events that wait, or 0.
func (b *reorderBuffer) last() uint64 {
	if len(b.waiting) == 0 {
		return 0
	}
	return b.waiting[len(b.waiting)-1].event.Seqnum
}
