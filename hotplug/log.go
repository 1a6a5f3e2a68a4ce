package hotplug

import (
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// Level says how much a line of the log matters. The numbers are syslog's.
type Level int

// The levels that are in use.
const (
	Err     Level = 3
	Warning Level = 4
	Info    Level = 6
)

func (l Level) String() string {
	switch l {
	case Err:
		return "error"
	case Warning:
		return "warning"
	}
	return "info"
}

// Log writes lines: level, what, which device, why. It is safe for use by
// several goroutines at once.
type Log struct {
	Verbose bool // write Info too; to be set before the log is used

	mu     sync.Mutex
	fd     int
	format func(level Level, line string) string
}

// Become makes the log write where another does, from now on.
func (l *Log) Become(other *Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fd, l.format = other.fd, other.format
}

// Stderr returns a log on descriptor 2.
func Stderr() *Log {
	return &Log{fd: 2, format: func(level Level, line string) string {
		return "devspool: " + level.String() + ": " + line + "\n"
	}}
}

// facility is syslog's number for daemons, which the kernel's log knows too.
const facility = 3 << 3

// kmsgLine is how much of a line /dev/kmsg takes at least; it refuses what is
// over some 1,000 bytes in all.
const kmsgLine = 900

// Kmsg returns a log in the kernel's ring buffer, or where that cannot be had on stderr.
func Kmsg() *Log {
	fd, err := unix.Open("/dev/kmsg", unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return Stderr()
	}
	return &Log{fd: fd, format: func(level Level, line string) string {
		return "<" + strconv.Itoa(facility+int(level)) + ">devspool: " + level.String() + ": " +
			line[:min(len(line), kmsgLine)] + "\n"
	}}
}

// Syslog returns a log at the syslog daemon, or where none listens in the
// kernel's ring buffer, which it will read.
func Syslog() *Log {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Kmsg()
	}
	if unix.Connect(fd, &unix.SockaddrUnix{Name: "/dev/log"}) != nil {
		unix.Close(fd)
		return Kmsg()
	}
	tag := ">devspool[" + strconv.Itoa(unix.Getpid()) + "]: "
	return &Log{fd: fd, format: func(level Level, line string) string {
		return "<" + strconv.Itoa(facility+int(level)) + tag + level.String() + ": " + line
	}}
}

// File returns a log that appends to the file at path, each line with the
// event's sequence number, or nil where there is no such file: the board makes
// it to ask for the log.
func File(path string, seqnum uint64) *Log {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	number := strconv.FormatUint(seqnum, 10)
	return &Log{fd: fd, Verbose: true, format: func(level Level, line string) string {
		return number + " devspool: " + level.String() + ": " + line + "\n"
	}}
}

// Print writes one line. Control bytes in it are escaped, since names come from devices.
func (l *Log) Print(level Level, line string) {
	if level >= Info && !l.Verbose {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	unix.Write(l.fd, []byte(l.format(level, nodes.Printable(line))))
}

// Event writes one line about e: what happened, and why.
func (l *Log) Event(level Level, what string, e *uevent.Event, why string) {
	if level >= Info && !l.Verbose {
		return
	}
	line := what + ": " + e.Action + " " + e.Devpath
	if why != "" {
		line += ": " + why
	}
	l.Print(level, line)
}
