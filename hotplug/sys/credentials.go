package sys

import "golang.org/x/sys/unix"

// IsFromRoot reports whether the control messages that came with a message hold root's
// credentials. The socket must have SO_PASSCRED.
func IsFromRoot(oob []byte) bool {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return false
	}
	for i := range messages {
		if ucred, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
			return ucred.Uid == 0
		}
	}
	return false
}
