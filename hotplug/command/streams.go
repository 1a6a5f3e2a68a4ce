package command

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// streams are the descriptors that were opened for one command. Start closes input and output when
// the command has them; an errorTail owns the other two.
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
	// Without a pipe the command writes to our own standard error, and only Outcome.Errors stays empty.
	if keepErrors {
		s.errors, s.kept = errorPipe()
	}
	// Writes to a directory's descriptor fail, which a command could take for a failure of its own.
	if isDirectory(1) || s.errors == sys.None && isDirectory(2) {
		if s.output, err = nullOutput(); err != nil {
			sys.CloseAll(&s.input, &s.errors, &s.kept)
		}
	}
	return s, err
}

// files returns the first three descriptors of the command. What openStreams has not opened is our own.
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
	// Nonblocking is for our end: the command's is opened anew without it, since most programs do not
	// expect EAGAIN.
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

// errorTail reads a command's standard error, and keeps the end of it, until the command ends.
// What is left behind then may write on: a drain takes the pipe over.
type errorTail struct {
	command int // the command's end of the pipe, which lastLines closes: till then the pipe has a writer

	mu    sync.Mutex // guards tail, atEnd and ended
	file  *os.File   // our end
	conn  syscall.RawConn
	tail  []byte // what was written last, maxTail bytes at most
	atEnd bool   // nobody has the pipe open any more
	ended bool   // nothing more is read
}

const (
	maxTail      = 1024 // how much of a command's standard error is looked at, in bytes
	maxTailLines = 3    // how many of its lines are kept, blank ones not counted
)

// newErrorTail reads the pipe from now on. The descriptors are its own, also where it returns nil: then the
// poller refused the pipe, and both are closed.
func newErrorTail(command, ours int) *errorTail {
	file, conn, err := sys.Polled(ours, "stderr")
	if err != nil {
		sys.CloseAll(&command)
		return nil
	}
	t := &errorTail{command: command, file: file, conn: conn}
	go func() {
		// It ends with the pipe, or with an error once lastLines has closed the file.
		_ = conn.Read(func(fd uintptr) bool {
			for {
				if n, err := t.read(fd); n <= 0 {
					return err != unix.EAGAIN
				}
			}
		})
	}()
	return t
}

// read reads once. It returns 0 at the end of the pipe, and always once lastLines has set ended. The reading
// goroutine and lastLines both call it.
func (t *errorTail) read(fd uintptr) (n int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return 0, nil
	}
	var buf [4096]byte
	if n, err = unix.Read(int(fd), buf[:]); n > 0 {
		t.tail = append(t.tail, buf[:n]...)
		// Only the end is kept, so that a command which writes without end takes no memory.
		t.tail = append(t.tail[:0], t.tail[max(0, len(t.tail)-maxTail):]...)
	}
	t.atEnd = t.atEnd || n == 0 && err == nil
	return n, err
}

// unblock has no write to the pipe wait for us any more: we may end before the writer.
func (t *errorTail) unblock() { _ = unix.SetNonblock(t.command, true) }

// lastLines returns the last lines that the command has written, which has ended, with bars
// between them. It must be called once.
func (t *errorTail) lastLines() string {
	if t == nil {
		return ""
	}
	t.unblock()
	sys.CloseAll(&t.command)
	// What the command wrote last may still lie in the pipe, and the goroutine may not have run since.
	_ = t.conn.Control(func(fd uintptr) {
		const fullPipe = errorPipeSize / 4096 // reads; what was left behind may write without end
		for range fullPipe {
			if n, _ := t.read(fd); n <= 0 {
				break
			}
		}
		// From here on the goroutine reads no more, so what is still written is the drain's.
		t.mu.Lock()
		t.ended = true
		left := !t.atEnd
		t.mu.Unlock()
		if left {
			leftBehind.add(int(fd))
		}
	})
	rest := string(t.tail)
	t.file.Close() // it waits for the goroutine, which takes the mutex
	var lines string
	for n := 0; n < maxTailLines && rest != ""; {
		at := strings.LastIndexByte(rest, '\n')
		line := strings.Trim(rest[at+1:], "\r\t ")
		rest = rest[:max(0, at)]
		switch {
		case line == "":
			continue
		case lines != "":
			line += " | "
		}
		lines = line + lines
		n++
	}
	return lines
}

// drain reads the pipes that commands have left to what they have started, and keeps nothing, so
// that a write to one neither waits nor fails. It takes one goroutine, and that only as long as
// there is such a pipe.
type drain struct {
	mu     sync.Mutex  // guards the fields below
	poller *sys.Poller // nil while there is no pipe
	pipes  int         // how many the poller watches
}

// leftBehind is the process's only drain.
var leftBehind drain

// add takes over a pipe, whose descriptor the caller keeps. Without the means the pipe fills
// up; then writes to it are told to try again.
func (d *drain) add(fd int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	// A descriptor of its own, since the caller closes the file.
	if fd, _ = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); fd < 0 {
		return
	}
	if d.poller == nil {
		p, err := sys.NewPoller("stderr")
		if err != nil {
			unix.Close(fd)
			return
		}
		d.poller = p
		go d.serve(p)
	}
	if d.poller.Add(fd, unix.EPOLLIN, uint64(fd)) != nil {
		unix.Close(fd)
		return
	}
	d.pipes++
}

// serve reads from the pipes in p until the last of them is at its end, and read has closed p.
func (d *drain) serve(p *sys.Poller) {
	var tags []uint64
	for {
		var err error
		if tags, err = p.Wait(tags[:0]); err != nil {
			// The pipes of p go unread from here on; those that come next get another poller.
			d.mu.Lock()
			d.pipes = 0
			d.endLocked()
			d.mu.Unlock()
			return
		}
		if d.read(p, tags) == 0 {
			return
		}
	}
}

// read reads once from each of these pipes, and returns how many are left.
func (d *drain) read(p *sys.Poller, pipes []uint64) (left int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, fd := range pipes {
		var buf [4096]byte
		if n, err := unix.Read(int(fd), buf[:]); n == 0 && err == nil {
			// Our other descriptor of it may still be open, so that closing this one is not enough.
			_ = unix.EpollCtl(p.Fd(), unix.EPOLL_CTL_DEL, int(fd), nil)
			unix.Close(int(fd))
			d.pipes--
		}
	}
	if d.pipes == 0 {
		d.endLocked()
	}
	return d.pipes
}

// endLocked closes the poller; the next add begins with another one.
func (d *drain) endLocked() {
	d.poller.Close()
	d.poller = nil
}

// isDirectory reports whether a descriptor was closed when the process began: package
// handoff opens the root directory on those.
func isDirectory(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// nullOutput opens /dev/null for writing, or where that does not exist yet a pipe that is
// drained: writing to one without a reader would end the command by SIGPIPE.
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
