package daemon

import (
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/sys"
)

// Notifier tells a service manager about this process, by the protocol of sd_notify(3). A nil
// Notifier tells nobody.
type Notifier struct {
	_        sys.NotComparable
	address  string        // a path, or @ and the name of an abstract socket
	interval time.Duration // of signs of life, half of WATCHDOG_USEC; 0 where none are wanted
	isReady  atomic.Bool   // Ready was called
}

// TakeNotifier returns the Notifier that the environment asks for, or nil, and the environment
// without that, for commands, which are not to speak for this process.
func TakeNotifier(environ []string) (*Notifier, []string) {
	n := &Notifier{address: sys.Getenv(environ, "NOTIFY_SOCKET")}
	if pid := sys.Getenv(environ, "WATCHDOG_PID"); pid == "" || pid == strconv.Itoa(unix.Getpid()) {
		// 52 bits: more microseconds would overflow when they become nanoseconds.
		us, _ := strconv.ParseUint(sys.Getenv(environ, "WATCHDOG_USEC"), 10, 52)
		n.interval = time.Duration(us) * time.Microsecond / 2
	}
	// A path, or the name of an abstract socket. Other forms that systemd knows, such as
	// vsock:, are for virtual machines.
	if n.address == "" || n.address[0] != '/' && n.address[0] != '@' {
		n = nil
	}
	return n, sys.Unsetenv(environ, "NOTIFY_SOCKET")
}

// Tell sends a state, such as "STATUS=text", or several, a line each. It waits up to a second for a
// manager that has too much to read. Where nobody listens the state is lost.
func (n *Notifier) Tell(state string) {
	for tries := 0; n != nil && log.SendDatagram(n.address, []byte(state)) == unix.EAGAIN && tries < 20; tries++ {
		time.Sleep(50 * time.Millisecond)
	}
}

// Ready tells that the process is ready, also again after Reloading, and how it stands.
func (n *Notifier) Ready(status string) {
	if n != nil {
		n.isReady.Store(true)
		n.Tell("READY=1\nSTATUS=" + status)
	}
}

// Reloading tells that the process reads its config anew. Ready is to follow. Before the first Ready
// it tells nothing, since that would say that the process is ready.
func (n *Notifier) Reloading() (told bool) {
	if n == nil || !n.isReady.Load() {
		return false
	}
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	n.Tell("RELOADING=1\nMONOTONIC_USEC=" + strconv.FormatInt(now.Nano()/1000, 10))
	return true
}

// Watch gives signs of life at half of the time after which the manager wants one, each time that
// isAlive says so. It is not called where none are wanted.
func (n *Notifier) Watch(isAlive func() bool) {
	if n == nil || n.interval == 0 {
		return
	}
	go func() {
		for {
			time.Sleep(n.interval)
			if isAlive() {
				n.Tell("WATCHDOG=1")
			}
		}
	}()
}
