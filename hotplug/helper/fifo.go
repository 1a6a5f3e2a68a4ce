package helper

import (
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/handoff"
	"devspool/hotplug/log"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// pipeSize is what the FIFO shall hold, in bytes: some thousand events. A helper that finds it full
// waits.
const pipeSize = 1 << 20

// fifoName is the FIFO's name in the private directory.
var fifoName = path.Base(handoff.Path)

// openFIFO makes the FIFO, in place of one that a killed leader left, and begins to serve. This
// process is a writer of the FIFO too, so that reads do not find its end when helpers close it.
func (l *leader) openFIFO() error {
	sys.Unlinkat(l.private, fifoName) // else mkfifo fails
	if err := unix.Mkfifoat(l.private, fifoName, 0o600); err != nil {
		return os.NewSyscallError("mkfifo", err)
	}
	fd, err := unix.Openat(l.private, fifoName, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		sys.Unlinkat(l.private, fifoName)
		return os.NewSyscallError("open", err)
	}
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize) // a smaller FIFO works too
	l.fifo, l.phase = fd, serving
	return nil
}

// read waits up to limit for events, reads all that are queued, and reports whether there were any.
func (l *leader) read(limit time.Duration) (any bool) {
	if l.phase == withdrawn { // after openFIFO failed in withdraw: events that are under way still end
		time.Sleep(limit)
		l.elapsed += limit
		return false
	}
	start := time.Now()
	timeout := unix.NsecToTimespec(limit.Nanoseconds())
	_, _ = unix.Ppoll([]unix.PollFd{{Fd: int32(l.fifo), Events: unix.POLLIN}}, &timeout, nil) // the read tells
	// Only waits count, for while this leader works it sees no event that comes.
	l.elapsed += time.Since(start)
	for {
		n, err := sys.ReadBlocking(l.fifo, l.buffer)
		if err != nil || n == 0 {
			break
		}
		l.unsubmitted.Store(true)
		l.text = append(l.text, l.buffer[:n]...)
		l.parse()
		any = true
	}
	if any {
		l.lastEvent = l.elapsed
	}
	return any
}

// parse takes the whole records out of the text that was read. Records never mingle, since each is one
// write of handoff.MaxRecord bytes at most (PIPE_BUF in pipe(7)); a read may end in the midst of one.
func (l *leader) parse() {
	for {
		block, size := record(l.text)
		if size == 0 {
			return
		}
		if e, err := uevent.FromEnviron(strings.Split(block, "\x00")); err != nil {
			l.Log.Print(log.Err, "dropped an event that a helper handed over: "+err.Error())
		} else {
			l.add(e, l.elapsed)
		}
		l.text = l.text[:copy(l.text, l.text[size:])]
	}
}

// record returns the environment in the first record of text (see handoff.Magic), and the record's
// size in bytes: 0 where the record is not whole yet. Text that does not begin with a record is
// skipped.
func record(text []byte) (block string, size int) {
	if len(text) < handoff.HeaderSize {
		return "", 0
	}
	length, ok := handoff.Length([handoff.HeaderSize]byte(text))
	if !ok {
		return "", len(text) // another program wrote it; an event of "" is an error, which parse logs
	}
	if size = handoff.HeaderSize + length; size > len(text) {
		return "", 0
	}
	return string(text[handoff.HeaderSize:size]), size
}

// withdraw removes the FIFO and reports whether this leader may leave. It removes the name first and
// reads once more, so no event is lost between the two; see package handoff. Where an event came it
// makes the FIFO anew and serves on.
func (l *leader) withdraw() bool {
	if l.phase == withdrawn {
		return true
	}
	sys.Unlinkat(l.private, fifoName) // it may have gone, on a /dev that was mounted over
	came := l.read(0)
	sys.CloseAll(&l.fifo)
	l.phase = withdrawn
	if !came {
		return true
	}
	if err := l.openFIFO(); err != nil {
		l.Log.Print(log.Warning, "cannot take events of other helpers any more: "+err.Error())
	}
	return false
}
