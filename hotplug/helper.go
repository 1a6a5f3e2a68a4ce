package hotplug

import (
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

// Helper does one event: that of a process which the kernel started through
// /proc/sys/kernel/hotplug, or a script by hand. It returns when all is done,
// the commands too, and reports whether everything could be.
func Helper(r *Road, e *uevent.Event) (ok bool) {
	r.Sys.Complete(e)
	var turn turnstile
	if r.Dev != nil {
		turn = awaitTurn(r.Dev.Path()+"/mdev.seq", e.Seqnum)
	}
	ok = r.Run([]*uevent.Event{e}).Wait()
	turn.pass()
	return ok
}

// turnstile is the file mdev.seq, by which boards put their helpers in order:
// it holds the sequence number whose turn it is.
type turnstile struct {
	path string
	next string // what to write at the end; "" for nothing
}

// turnWait is how long a helper waits for its turn. One that is killed, or an
// event that no helper sees, makes each follower wait so long once.
const turnWait = 2 * time.Second

// awaitTurn waits until the file at path holds seqnum. Where there is no such
// file there is nothing to wait for.
func awaitTurn(path string, seqnum uint64) turnstile {
	if seqnum == 0 {
		return turnstile{}
	}
	t := turnstile{path: path, next: strconv.FormatUint(seqnum+1, 10)}
	for end := time.Now().Add(turnWait); ; time.Sleep(5 * time.Millisecond) {
		text, err := readAttribute(path)
		if err != nil {
			return turnstile{}
		}
		turn, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
		switch {
		case err != nil: // empty: whoever comes first begins the count
			t.write(strconv.FormatUint(seqnum, 10))
			return t
		case turn == seqnum || time.Now().After(end):
			return t
		case turn > seqnum:
			return turnstile{}
		}
	}
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
