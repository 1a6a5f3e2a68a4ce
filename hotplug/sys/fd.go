package sys

import "golang.org/x/sys/unix"

// None stands for a descriptor that is not open.
const None = -1

// CloseAll closes descriptors and sets them to None, which they may be already.
func CloseAll(fds ...*int) {
	for _, fd := range fds {
		if *fd != None {
			Close(*fd)
			*fd = None
		}
	}
}

// ReadBlocking reads from a descriptor into buf, by a call that may wait and that goes on when a signal
// interrupts it. It returns how many bytes it read: 0 at the end.
func ReadBlocking(fd int, buf []byte) (n int, err error) {
	err = unix.EINTR
	for err == unix.EINTR {
		n, err = unix.Read(fd, buf)
	}
	return max(n, 0), err
}

// RetryEINTR calls a system call that may wait again, as long as a signal interrupts it: Go's
// runtime sends itself signals.
func RetryEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
