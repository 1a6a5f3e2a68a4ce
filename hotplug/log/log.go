// Package log writes the program's messages: to standard error, the kernel's log, syslog or a
// file, a line for each. It escapes control bytes, by which a device's name could forge a line.
// It never waits for a reader: a syslog whose queue is full loses the message. What cannot be
// written is lost too, since there is no place to say so.
package log

import (
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

// Level is how much a message matters. The numbers are those of syslog(3): a smaller one matters
// more.
type Level int

// The levels in use.
const (
	Err     Level = 3
	Warning Level = 4
	Notice  Level = 5
	Info    Level = 6
)

// String returns the level's name.
func (l Level) String() string {
	switch l {
	case Err:
		return "error"
	case Warning:
		return "warning"
	case Notice:
		return "notice"
	}
	return "info"
}

// ParseLevel parses a level: its name, syslog's names err and debug for the nearest one, or a number
// as SyslogLevel takes it.
func ParseLevel(text string) (Level, bool) {
	for l := Err; l <= Info; l++ {
		if text == l.String() {
			return l, true
		}
	}
	switch text {
	case "err":
		return Err, true
	case "debug":
		return Info, true
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, false
	}
	return SyslogLevel(n)
}

// SyslogLevel returns the level in use that is nearest to syslog's level n. ok is false where n is
// not from 0 to 7.
func SyslogLevel(n int) (l Level, ok bool) {
	if n < 0 || n > 7 {
		return 0, false
	}
	return min(max(Level(n), Err), Info), true
}

// Logger writes messages to one place. Several goroutines may use it at once.
type Logger struct {
	level atomic.Int32 // what SetLevel set, minus Notice, so that the zero value is Notice

	mu     sync.Mutex
	write  func(level Level, line string)
	seqnum uint64 // SEQNUM of the last event that a line was about; see File
}

// SetLevel has the log write lines of a level and of those that matter more. A new log is at
// Notice.
func (l *Logger) SetLevel(level Level) { l.level.Store(int32(level - Notice)) }

// writes reports whether lines of a level are written.
func (l *Logger) writes(level Level) bool { return level-Notice <= Level(l.level.Load()) }

// Become has the log write to the place of another log from now on.
func (l *Logger) Become(other *Logger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write = other.write
}

// Stderr returns a log on standard error.
func Stderr() *Logger {
	return &Logger{write: func(level Level, line string) {
		_, _ = unix.Write(2, []byte("devspool: "+level.String()+": "+line+"\n"))
	}}
}

// facility is LOG_DAEMON of syslog(3). The kernel's log takes it too.
const facility = 3 << 3

// kmsgLine is the longest line for /dev/kmsg, in bytes: it refuses records of more than some 1,000
// bytes (devkmsg_write in kernel/printk/printk.c).
const kmsgLine = 900

// Kmsg returns a log in the kernel's ring buffer, or on standard error where /dev/kmsg cannot be
// opened. A line longer than 900 bytes is cut off.
func Kmsg() *Logger {
	fd, err := unix.Open("/dev/kmsg", unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return Stderr()
	}
	return &Logger{write: func(level Level, line string) {
		_, _ = unix.Write(fd, []byte("<"+strconv.Itoa(facility+int(level))+">devspool: "+level.String()+": "+
			line[:min(len(line), kmsgLine)]+"\n"))
	}}
}

// Syslog returns a log at the syslog daemon, or, for lines that come while none listens, in the
// kernel's ring buffer, which syslog daemons read when they start.
func Syslog() *Logger { return syslogAt("/dev/log", Kmsg) }

// syslogAt returns a log at the socket of a syslog daemon. A daemon whose queue is full loses
// lines; the next line that it takes says how many. Each line is sent to the address anew, so a
// daemon may start later, or again. Lines that find no daemon go to the log that open returns,
// which is opened for the first of them.
func syslogAt(address string, open func() *Logger) *Logger {
	var other *Logger // what open returned
	lost := 0
	tag := ">devspool[" + strconv.Itoa(unix.Getpid()) + "]: "
	send := func(level Level, line string) error {
		return SendDatagram(address, []byte("<"+strconv.Itoa(facility+int(level))+tag+level.String()+": "+line))
	}
	return &Logger{write: func(level Level, line string) {
		var err error
		if lost > 0 {
			err = send(Warning, "syslog took no lines for a while: "+strconv.Itoa(lost)+" are lost")
		}
		if err == nil {
			lost = 0
			err = send(level, line)
		}
		switch err {
		case nil:
		case unix.EAGAIN, unix.ENOBUFS: // the queue is full
			lost++
		default:
			if other == nil {
				other = open()
			}
			other.write(level, line)
		}
	}}
}

// File returns a log at level Info that appends to the file at path, or nil where there is none:
// a user who wants this log makes the file. Each line begins with the SEQNUM of the event that it, or
// the last line about an event, is about; the first with seqnum.
func File(path string, seqnum uint64) *Logger {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	l := &Logger{seqnum: seqnum}
	l.write = func(level Level, line string) {
		_, _ = unix.Write(fd, []byte(strconv.FormatUint(l.seqnum, 10)+" devspool: "+level.String()+": "+line+"\n"))
	}
	l.SetLevel(Info)
	return l
}

// Print writes one line. It escapes control bytes, since names come from devices.
func (l *Logger) Print(level Level, line string) { l.print(level, line, 0) }

// print writes a line about the event with the SEQNUM seqnum, or with 0 about the last event.
func (l *Logger) print(level Level, line string, seqnum uint64) {
	if !l.writes(level) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if seqnum != 0 {
		l.seqnum = seqnum
	}
	l.write(level, uevent.Printable(line))
}

// Event writes one line about e: what happened, the action and devpath, and why, unless that is "".
func (l *Logger) Event(level Level, what string, e *uevent.Event, why string) {
	if !l.writes(level) {
		return
	}
	line := what + ": " + e.Action + " " + e.Devpath
	if why != "" {
		line += ": " + why
	}
	l.print(level, line, e.Seqnum)
}
