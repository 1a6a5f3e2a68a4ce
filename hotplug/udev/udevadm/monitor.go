package udevadm

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/cli"
	"devspool/hotplug/netlink"
	"devspool/hotplug/sys"
	"devspool/hotplug/udev"
	"devspool/hotplug/uevent"
)

// The options of monitor. --environment is an older name of --property.
const monitorOptions = "p:property e:environment k:kernel u:udev s:subsystem-match= t:tag-match="

// listener receives messages of one group: of the kernel's, or of the device manager's, until the program
// ends. One goroutine at a time may use it.
type listener struct {
	fd    int
	group uint32 // as a bit
	buf   []byte // for one message; what next returns does not refer to it
}

// listenBuffer is what udevadm asks for, in bytes; it is charged only when it is used. Beyond
// the limit net.core.rmem_max only root gets it.
const listenBuffer = 128 << 20

// listen opens a socket in a group of the kernel's uevent family.
func listen(group uint32) (*listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, err
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, listenBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, listenBuffer)
	}
	// First, so that no message comes without its sender's credentials.
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: group})
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &listener{fd, group, make([]byte, uevent.MaxMessage)}, nil
}

// next waits for the next message, and returns its properties.
func (l *listener) next() ([]string, error) {
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
		var from unix.RawSockaddrNetlink
		n, oobn, flags, err := sys.Receive(l.fd, l.buf, oob, &from, 0)
		switch err {
		case nil:
		case unix.EINTR:
			continue
		case unix.ENOBUFS:
			return nil, errors.New("events were lost: the socket was full")
		default:
			return nil, err
		}
		// What is cut off, or comes from another process, may say anything.
		if flags&unix.MSG_TRUNC != 0 || !l.trusts(&from, oob[:oobn]) {
			continue
		}
		if properties := parse(l.buf[:n]); properties != nil {
			return properties, nil
		}
	}
}

// trusts reports whether a message comes from the kernel, or to udev's group from root. Any
// process can send to a socket directly; then the message has no group.
func (l *listener) trusts(from *unix.RawSockaddrNetlink, oob []byte) bool {
	if from.Groups&l.group == 0 || l.group == netlink.KernelGroup && from.Pid != 0 {
		return false
	}
	return sys.IsFromRoot(oob)
}

// parse returns the properties of a message of either form, or nil.
func parse(msg []byte) []string {
	if properties, err := udev.ParseMessage(msg); err == nil {
		return properties
	}
	e, err := uevent.ParseMessage(msg)
	if err != nil {
		return nil
	}
	return variables(e)
}

// monitor prints events until a socket fails.
func (t *tool) monitor(args []string) error {
	g, err := t.parse(args, monitorOptions)
	if err != nil {
		return err
	}
	// Two goroutines may print at the same time. Each event is one write, so that lines stay whole.
	failed := make(chan error)
	t.print("events as they come:\n")
	for i, group := range [...]uint32{netlink.KernelGroup, udev.Group} {
		// With neither option or both, both are listened to.
		if g.Has('k') != g.Has('u') && !g.Has("ku"[i]) {
			continue
		}
		l, err := listen(group)
		if err != nil {
			return err
		}
		t.print([...]string{"KERNEL - when the kernel sends one\n", "UDEV - when the device manager has handled one\n"}[i])
		label := [...]string{"KERNEL[", "UDEV  ["}[i]
		go func() {
			for {
				properties, err := l.next()
				if err != nil {
					failed <- err
					return
				}
				t.print(shown(g, label, properties))
			}
		}()
	}
	t.print("\n")
	// The program ends then, and with it the other goroutine and the sockets.
	return <-failed
}

// shown returns what is printed of an event, or "" if it is not asked for.
func shown(g *cli.Given, label string, properties []string) string {
	subsystem := sys.Getenv(properties, "SUBSYSTEM")
	// Of several options one has to fit; the two kinds of option both have to.
	asked, tagged := !g.Has('s'), !g.Has('t')
	for _, want := range g.All('s') {
		// SUBSYSTEM, or SUBSYSTEM/DEVTYPE.
		name, devtype, _ := strings.Cut(want, "/")
		asked = asked || name == subsystem && (devtype == "" || devtype == sys.Getenv(properties, "DEVTYPE"))
	}
	for _, tag := range g.All('t') {
		tagged = tagged || strings.Contains(sys.Getenv(properties, "TAGS"), ":"+tag+":")
	}
	if !asked || !tagged {
		return ""
	}
	// It is the time of printing that udevadm shows, too: a message has none of its own.
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	// Six digits with leading zeros.
	micro := strconv.Itoa(int(now.Nsec)/1000 + 1000000)[1:]
	action := sys.Getenv(properties, "ACTION")
	lines := []string{label + strconv.Itoa(int(now.Sec)) + "." + micro + "] " + action + "         "[min(8, len(action)):] +
		uevent.Printable(sys.Getenv(properties, "DEVPATH")+" ("+subsystem+")")}
	if g.Has('p') || g.Has('e') {
		for _, kv := range properties {
			if !strings.HasPrefix(kv, "UDEV_DATABASE_VERSION=") { // for libraries alone
				udev.Add(&lines, uevent.Printable(kv))
			}
		}
		udev.Add(&lines, "")
	}
	return strings.Join(lines, "\n") + "\n"
}
