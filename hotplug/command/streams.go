package command

import (
	"strconv"
	"strings"
	"sync"
	"syscall"

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

// errorPipeSize is how much can be written to a command's standard error at once, in bytes,
// before we read it. What a command leaves behind would be told to try again.
const errorPipeSize = 1 << 20

// errorPipe returns both ends of a pipe for a command's standard error, or sys.None.
//
// The command's end is opened anew, for reading too, so that what the command leaves
// behind is never told that the reader has gone.
func errorPipe() (command, ours int) {
	var p [2]int
	if unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return sys.None, sys.None
	}
	unix.Close(p[1])
	command, err := unix.Open("/proc/self/fd/"+strconv.Itoa(p[0]), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(p[0])
		return sys.None, sys.None
	}
	_, _ = unix.FcntlInt(uintptr(command), unix.F_SETPIPE_SZ, errorPipeSize)
	return command, p[0]
}

// errorTail reads a command's standard error, and keeps the end of it until the command
// ends. What is left behind then may write on: it is read until nobody has the pipe open.
type errorTail struct {
	command int // the command's end of the pipe

	mu    sync.Mutex
	conn  syscall.RawConn // our end
	tail  []byte
	ended bool // nothing more is kept
}

// maxTail is how much of a command's standard error is looked at, in bytes.
const maxTail = 1024

// newErrorTail reads the pipe from now on. The descriptors are its own.
func newErrorTail(command, ours int) *errorTail {
	file, conn, err := sys.Polled(ours, "stderr")
	if err != nil {
		sys.CloseAll(&command)
		return nil
	}
	t := &errorTail{command: command, conn: conn}
	go func() {
		conn.Read(func(fd uintptr) bool {
			for {
				if n, err := t.read(fd); n <= 0 {
					return err != unix.EAGAIN
				}
			}
		})
		file.Close()
	}()
	return t
}

// read reads once.
func (t *errorTail) read(fd uintptr) (n int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var buf [4096]byte
	if n, err = unix.Read(int(fd), buf[:]); n > 0 && !t.ended {
		t.tail = append(t.tail, buf[:n]...)
		t.tail = append(t.tail[:0], t.tail[max(0, len(t.tail)-maxTail):]...)
	}
	return n, err
}

// unblock has no write to the pipe wait for us any more: we may end before the writer.
func (t *errorTail) unblock() { _ = unix.SetNonblock(t.command, true) }

// lastLine returns the last line that the command has written, which has ended.
func (t *errorTail) lastLine() string {
	if t == nil {
		return ""
	}
	t.unblock()
	sys.CloseAll(&t.command)
	_ = t.conn.Control(func(fd uintptr) {
		const fullPipe = 32 // reads; what was left behind may write without end
		for range fullPipe {
			if n, _ := t.read(fd); n <= 0 {
				break
			}
		}
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	text := strings.TrimRight(string(t.tail), "\n\r\t ")
	t.tail = nil
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
