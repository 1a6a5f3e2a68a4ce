package sys

import "golang.org/x/sys/unix"

func RetryEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

func CloseAll(fds ...*int) {
	for _, fd := range fds {
		if *fd != None {
			Close(*fd)
			*fd = None
		}
	}
}

// None stands for a descriptor that is not open.
const None = -1
