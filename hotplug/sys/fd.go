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

// RetryEINTR calls a system call that may wait again, as long as a signal interrupts it: Go's
// runtime sends itself signals.
func RetryEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
