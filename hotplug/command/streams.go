package command

import (
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// openedFiles are the descriptors that were opened for one command.
type openedFiles struct {
	input, output, errors int // the command's; sys.None where it gets ours
	kept                  int // where its standard error is read from, or sys.None
}

// standardFiles returns what a command gets as its first three descriptors: nothing to
// read, and our own standard output and error, as far as these are open.
func standardFiles(keepErrors bool) (files []uintptr, o openedFiles, err error) {
	o = openedFiles{sys.None, sys.None, sys.None, sys.None}
	defer func() {
		if err != nil {
			sys.CloseAll(&o.input, &o.output, &o.errors, &o.kept)
		}
	}()
	if o.input, err = nullInput(); err != nil {
		return nil, o, err
	}
	files = []uintptr{uintptr(o.input), 1, 2}
	if keepErrors {
		o.errors, o.kept = errorPipe()
	}
	if isDirectory(1) || o.errors == sys.None && isDirectory(2) {
		if o.output, err = nullOutput(); err != nil {
			return nil, o, err
		}
	}
	if isDirectory(1) {
		files[1] = uintptr(o.output)
	}
	switch {
	case o.errors != sys.None:
		files[2] = uintptr(o.errors)
	case isDirectory(2):
		files[2] = uintptr(o.output)
	}
	return files, o, nil
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
	unix.FcntlInt(uintptr(command), unix.F_SETPIPE_SZ, errorPipeSize)
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
func (t *errorTail) unblock() { unix.SetNonblock(t.command, true) }

// lastLine returns the last line that the command has written, which has ended.
func (t *errorTail) lastLine() string {
	if t == nil {
		return ""
	}
	t.unblock()
	sys.CloseAll(&t.command)
	t.conn.Control(func(fd uintptr) {
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

// isDirectory reports whether a descriptor was closed when the process began:
// package handoff has opened the root directory on those.
func isDirectory(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// nullOutput opens /dev/null, or where there is none yet a pipe that is drained.
func nullOutput() (int, error) {
	fd, err := unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		return fd, nil
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return 0, err
	}
	go func() {
		defer unix.Close(p[0])
		var buf [512]byte
		for n := 1; n > 0; {
			sys.RetryEINTR(func() (err error) { n, err = unix.Read(p[0], buf[:]); return err })
		}
	}()
	return p[1], nil
}

// nullInput opens /dev/null, or where there is none yet a pipe at its end.
func nullInput() (int, error) {
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		return fd, nil
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return 0, err
	}
	unix.Close(p[1])
	return p[0], nil
}

// ErrorsAreLost reports whether what commands write to our standard error is seen by nobody:
// it is closed, or /dev/null.
func ErrorsAreLost() bool {
	var st unix.Stat_t
	return isDirectory(2) || unix.Fstat(2, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && uint64(st.Rdev) == unix.Mkdev(1, 3)
}
