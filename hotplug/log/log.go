// Package log writes the program's messages: to standard error, the kernel's log,
// syslog or a file, each message a line, with what could forge a line escaped. It
// never blocks for long: a syslog that is full loses the message.
package log

import (
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

// Level says how much a line of the log matters. The numbers are syslog's.
type Level int

// The levels that are in use.
const (
	Err     Level = 3
	Warning Level = 4
	Notice  Level = 5
	Info    Level = 6
)

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

// ParseLevel reads a level: its name, or syslog's number, 0 to 7.
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

// SyslogLevel returns the level in use that is nearest to syslog's n. Ok is false
// for what is no number of syslog's.
func SyslogLevel(n int) (l Level, ok bool) {
	if n < 0 || n > 7 {
		return 0, false
	}
	return min(max(Level(n), Err), Info), true
}

// Logger writes lines: level, what, which device, why. It is safe for use by
// several goroutines at once.
type Logger struct {
	level atomic.Int32 // the least that is written, less Notice

	mu     sync.Mutex
	write  func(level Level, line string)
	seqnum uint64 // the event's that the lines are about; see File
}

// SetLevel makes the log write lines of that level and of those that matter more.
// A new one is at Notice.
func (l *Logger) SetLevel(level Level) { l.level.Store(int32(level - Notice)) }

// Writes reports whether lines of that level are written.
func (l *Logger) Writes(level Level) bool { return level-Notice <= Level(l.level.Load()) }

// Become makes the log write where another does, from now on.
func (l *Logger) Become(other *Logger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write = other.write
}

// Stderr returns a log on descriptor 2.
func Stderr() *Logger {
	return &Logger{write: func(level Level, line string) {
		unix.Write(2, []byte("devspool: "+level.String()+": "+line+"\n"))
	}}
}

// facility is syslog's number for daemons, which the kernel's log knows too.
const facility = 3 << 3

// kmsgLine is how much of a line /dev/kmsg takes at least; it refuses what is
// over some 1,000 bytes in all.
const kmsgLine = 900

// Kmsg returns a log in the kernel's ring buffer, or where that cannot be had on stderr.
func Kmsg() *Logger {
	fd, err := unix.Open("/dev/kmsg", unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return Stderr()
	}
	return &Logger{write: func(level Level, line string) {
		unix.Write(fd, []byte("<"+strconv.Itoa(facility+int(level))+">devspool: "+level.String()+": "+
			line[:min(len(line), kmsgLine)]+"\n"))
	}}
}

// Syslog returns a log at the syslog daemon, whenever one listens, or else in the
// kernel's ring buffer, which it will read.
func Syslog() *Logger { return SyslogAt("/dev/log", Kmsg) }

// SyslogAt never waits: a daemon that does not read loses lines, and is told how many.
// The socket is looked for anew for each line, so that a daemon may come late, or end
// and start again. What nobody listens to is for another log.
func SyslogAt(address string, open func() *Logger) *Logger {
	var other *Logger
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
		case unix.EAGAIN, unix.ENOBUFS:
			lost++
		default:
			if other == nil {
				other = open()
			}
			other.write(level, line)
		}
	}}
}

// File returns a log that appends to the file at path, each line with the
// event's sequence number, or nil where there is no such file: the board makes
// it to ask for the log.
func File(path string, seqnum uint64) *Logger {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	l := &Logger{seqnum: seqnum}
	l.write = func(level Level, line string) {
		unix.Write(fd, []byte(strconv.FormatUint(l.seqnum, 10)+" devspool: "+level.String()+": "+line+"\n"))
	}
	l.SetLevel(Info)
	return l
}

// Print writes one line. Control bytes in it are escaped, since names come from devices.
func (l *Logger) Print(level Level, line string) { l.print(level, line, 0) }

// print writes a line about the event with a number, or 0 for that of the last.
func (l *Logger) print(level Level, line string, seqnum uint64) {
	if !l.Writes(level) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if seqnum != 0 {
		l.seqnum = seqnum
	}
	l.write(level, uevent.Printable(line))
}

// Event writes one line about e: what happened, and why.
func (l *Logger) Event(level Level, what string, e *uevent.Event, why string) {
	if !l.Writes(level) {
		return
	}
	line := what + ": " + e.Action + " " + e.Devpath
	if why != "" {
		line += ": " + why
	}
	l.print(level, line, e.Seqnum)
}
