package command

import (
	"strconv"
	"strings"

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

// errorPipe returns both ends of a pipe for a command's standard error, or sys.None.
//
// The command's end is opened anew, for reading too, so that what it leaves behind is
// never told that the reader has gone, and without blocking, since the pipe is read at
// the command's end only.
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

// keptErrors is how much of a command's standard error is looked at, in bytes.
const keptErrors = 1024

// lastLine returns the last line that waits in a pipe.
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
