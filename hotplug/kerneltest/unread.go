package kerneltest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Unread returns how many bytes the sockets that listen to this uevent group alone have not
// read yet, in the calling thread's network namespace, and whether there is such a socket.
func Unread(group uint) (bytes int, listens bool) {
	text, _ := os.ReadFile("/proc/thread-self/net/netlink")
	mask := fmt.Sprintf("%08x", 1<<(group-1))
	for line := range strings.Lines(string(text)) {
		const uevents = "15"
		if f := strings.Fields(line); len(f) > 4 && f[1] == uevents && f[3] == mask {
			n, _ := strconv.Atoi(f[4])
			bytes, listens = bytes+n, true
		}
	}
	return bytes, listens
}

// HasListener reports whether a socket listens to a group, as Unread finds it.
func HasListener(group uint) bool {
	_, listens := Unread(group)
	return listens
}

// HasRead reports whether those that listen to a group have read all.
func HasRead(group uint) bool {
	bytes, listens := Unread(group)
	return listens && bytes == 0
}
