package command

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// streams are the descriptors that were opened for one command.
type streams struct {
	input  int // its standard input
	output int // its standard output and error where ours are closed, else sys.None
	errors int // its standard error where that is kept, else sys.None
	kept   int // the other end of errors, which we read
}

// openStreams opens what a command needs besides our own standard output and error: an
// empty input, a place for what it writes where ours are closed, and with keepErrors a pipe
// for its standard error.
func openStreams(keepErrors bool) (s streams, err error) {
	s = streams{sys.None, sys.None, sys.None, sys.None}
	if s.input, err = nullInput(); err != nil {
		return s, err
	}
	if keepErrors {
		s.errors, s.kept = errorPipe()
	}
	if isDirectory(1) || s.errors == sys.None && isDirectory(2) {
		if s.output, err = nullOutput(); err != nil {
			sys.CloseAll(&s.input, &s.errors, &s.kept)
		}
	}
	return s, err
}

// files returns the first three descriptors of the command.
func (s *streams) files() []uintptr {
	files := []uintptr{uintptr(s.input), 1, 2}
	if isDirectory(1) {
		files[1] = uintptr(s.output)
	}
	if s.errors != sys.None {
		files[2] = uintptr(s.errors)
	} else if isDirectory(2) {
		files[2] = uintptr(s.output)
	}
	return files
}

// errorPipe returns both ends of a pipe for the standard error of a command, or sys.None for
// both.
//
// The end of the command is opened anew, for reading too: so processes that it leaves behind
// get no SIGPIPE after we have closed ours. It does not block when the pipe is full, since
// the pipe is read only when the command has ended.
func errorPipe() (command, ours int) {
	var p [2]int
	if unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return sys.None, sys.None
	}
	unix.Close(p[1])
	command, err := unix.Open("/proc/self/fd/"+strconv.Itoa(p[0]), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(p[0])
		return sys.None, sys.None
	}
	return command, p[0]
}

// keptErrors is how many bytes at the end of a command's standard error are searched for its
// last line.
const keptErrors = 1024

// lastLine returns the last line that a pipe holds, or "" for sys.None.
func lastLine(fd int) string {
	if fd == sys.None {
		return ""
	}
	var buf [4096]byte
	var tail []byte
	for {
		n, err := unix.Read(fd, buf[:])
		if n <= 0 || err != nil {
			break
		}
		tail = append(tail, buf[:n]...)
		tail = tail[max(0, len(tail)-keptErrors):]
	}
	text := strings.TrimRight(string(tail), "\n\r\t ")
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// isDirectory reports whether a descriptor was closed when the process began: package
// handoff opens the root directory on those.
func isDirectory(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// nullOutput opens /dev/null for writing, or where that does not exist yet a pipe that is
// drained.
func nullOutput() (int, error) {
	fd, err := unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		return fd, nil
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return sys.None, err
	}
	go func() {
		defer unix.Close(p[0])
		var buf [512]byte
		for n := 1; n > 0; {
			_ = sys.RetryEINTR(func() (err error) { n, err = unix.Read(p[0], buf[:]); return err })
		}
	}()
	return p[1], nil
}

// nullInput opens /dev/null for reading, or where that does not exist yet a pipe at its end.
func nullInput() (int, error) {
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		return fd, nil
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return sys.None, err
	}
	unix.Close(p[1])
	return p[0], nil
}

// ErrorsAreLost reports whether what commands write to our standard error is lost: that is
// closed, or /dev/null.
func ErrorsAreLost() bool {
	const null = 1<<8 | 3 // the device number 1:3
	var st unix.Stat_t
	return isDirectory(2) || unix.Fstat(2, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && uint64(st.Rdev) == null
}
