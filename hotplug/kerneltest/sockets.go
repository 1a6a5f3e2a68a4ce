package kerneltest

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// UeventSocket is what the kernel tells of a socket that listens for uevents.
type UeventSocket struct {
	Port    uint32 // its address, most often the number of its process
	Groups  uint32 // those that it listens to, a bit each; 0 in no UeventSocket but the zero one
	Waiting int    // bytes in the receive buffer
	Drops   int    // messages that found no room in it
	Inode   string
}

// UeventSockets returns the sockets that listen in the network namespace of a process, by its
// number or as "thread-self".
func UeventSockets(process string) ([]UeventSocket, error) {
	text, err := os.ReadFile("/proc/" + process + "/net/netlink")
	return parseSockets(string(text)), err
}

// parseSockets reads the lines of /proc/net/netlink (netlink_native_seq_show in
// net/netlink/af_netlink.c).
func parseSockets(text string) (sockets []UeventSocket) {
	const (
		protocol = 1
		port     = 2
		groups   = 3
		rmem     = 4
		drops    = 8
		inode    = 9
	)
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) <= inode || f[protocol] != strconv.Itoa(unix.NETLINK_KOBJECT_UEVENT) {
			continue
		}
		mask, err := strconv.ParseUint(f[groups], 16, 32)
		if err != nil || mask == 0 {
			continue
		}
		s := UeventSocket{Groups: uint32(mask), Inode: f[inode]}
		if n, err := strconv.ParseUint(f[port], 10, 32); err == nil {
			s.Port = uint32(n)
		}
		s.Waiting, _ = strconv.Atoi(f[rmem])
		s.Drops, _ = strconv.Atoi(f[drops])
		sockets = append(sockets, s)
	}
	return sockets
}

// HasListener reports whether a socket listens to this group alone, in the calling thread's
// network namespace.
func HasListener(group uint) bool { return len(listeners(group)) > 0 }

// HasRead reports whether a socket listens to this group alone, and each that does has read all.
func HasRead(group uint) bool {
	all := listeners(group)
	for _, s := range all {
		if s.Waiting > 0 {
			return false
		}
	}
	return len(all) > 0
}

func listeners(group uint) (all []UeventSocket) {
	sockets, _ := UeventSockets("thread-self")
	for _, s := range sockets {
		if s.Groups == 1<<(group-1) {
			all = append(all, s)
		}
	}
	return all
}
