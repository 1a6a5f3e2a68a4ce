package hotplug

import (
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

// exitWait is how long commands may still run when the loop is told to end.
const exitWait = 10 * time.Second

// Loop follows the kernel's events. One goroutine does all but wait for
// commands, and it waits in one place: poll.
type Loop struct {
	road    *Road
	sock    *socket
	control *control
	events  []*uevent.Event // the batch, used again and again
	used    bool            // memory was used since it was last given back
	signals int             // a pipe: a byte for each signal
	wakes   int             // an eventfd: counts the parts of tasks that have ended
}

// batch is how many events are read before they are worked off together, under
// one lock.
const batch = 64

// NewLoop opens what a loop needs: first of all the socket, so that no event
// that comes from now on is missed. ErrRunning tells that there is a loop already.
func NewLoop(r *Road) (*Loop, error) {
	sock, err := listen(r.Log)
	if err != nil {
		return nil, err
	}
	l := &Loop{road: r, sock: sock, used: true}
	if err := l.claim(); err != nil {
		unix.Close(sock.fd)
		return nil, err
	}
	var wakes, signals [2]int
	for _, p := range []*[2]int{&wakes, &signals} {
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			return nil, err
		}
	}
	l.wakes, l.signals = wakes[0], signals[0]
	r.wake = func() { unix.Write(wakes[1], []byte{0}) }
	watchSignals(signals[1])
	return l, nil
}

// claim opens the control socket. Where /dev has no room for it the loop does
// without.
func (l *Loop) claim() error {
	r := l.road
	if r.Dev == nil {
		return nil
	}
	r.lock()
	defer r.unlock()
	if r.lockless {
		return nil
	}
	if l.control != nil {
		l.control.close()
		l.control = nil
	}
	control, err := openControl(r.Dev)
	if errors.Is(err, ErrRunning) {
		return err
	}
	if err != nil {
		r.Log.Print(Warning, "no control socket: "+err.Error())
		return nil
	}
	l.control = control
	return nil
}

// watchSignals writes a byte to the descriptor fd for each signal to end.
func watchSignals(fd int) {
	came := make(chan os.Signal, 8)
	signal.Notify(came, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		for range came {
			unix.Write(fd, []byte{0})
		}
	}()
}

// Coldplug scans /sys. Events that come meanwhile wait in the socket.
func (l *Loop) Coldplug() { Coldplug(l.road) }

// Serve follows events until it is told to end by SIGTERM or SIGINT. It lets
// commands that run come to their end, for a while.
func (l *Loop) Serve() error {
	for {
		empty := l.work()
		end, err := l.wait(l.timeout(empty))
		if err != nil {
			return err
		}
		if end {
			l.finish()
			return nil
		}
	}
}

// quiet is how long no event comes until memory is given back, in milliseconds.
const quiet = 1000

// timeout returns how long poll may sleep, in milliseconds: for ever, but for
// what is to be done at once or soon.
func (l *Loop) timeout(empty bool) int {
	switch {
	case !empty:
		return 0
	case l.used:
		return quiet
	}
	return -1
}

// work takes in what waits in the socket, and reports whether that was all.
func (l *Loop) work() (empty bool) {
	l.events, empty = l.sock.read(l.events[:0], batch)
	if len(l.events) > 0 {
		l.used = true
		l.road.Run(l.events)
		clear(l.events) // or they would stay in memory
	}
	if empty && l.sock.lost {
		l.sock.lost = false
		l.road.Log.Print(Warning, "the kernel dropped events: scanning /sys anew")
		l.Coldplug()
	}
	if l.road.Renewed() {
		l.road.Log.Print(Warning, "another file system is mounted on "+l.road.Dev.Path()+": scanning /sys anew")
		if err := l.claim(); err != nil {
			l.road.Log.Print(Warning, err.Error())
		}
		l.Coldplug()
	}
	if l.control != nil && empty && l.road.Idle() {
		text := answerDone
		if l.road.Failed() {
			text = answerFailed
		}
		l.control.answer(text)
	}
	return empty
}

// wait sleeps until something is to be done, and does all but what the socket
// has. End is true when a signal says so.
func (l *Loop) wait(timeout int) (end bool, err error) {
	fds := []unix.PollFd{
		{Fd: int32(l.sock.fd), Events: unix.POLLIN},
		{Fd: int32(l.wakes), Events: unix.POLLIN},
		{Fd: int32(l.signals), Events: unix.POLLIN},
	}
	const others = 3
	if l.control != nil {
		fds = append(fds, unix.PollFd{Fd: int32(l.control.fd), Events: unix.POLLIN})
		for _, k := range l.control.conns {
			fds = append(fds, unix.PollFd{Fd: int32(k.fd), Events: unix.POLLIN})
		}
	}
	n, err := unix.Poll(fds, timeout)
	if err == unix.EINTR {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if n == 0 && timeout == quiet {
		l.used = false
		debug.FreeOSMemory()
	}
	if fds[1].Revents != 0 {
		l.collect()
	}
	if l.control != nil {
		l.requests(fds[others:])
	}
	return fds[2].Revents != 0, nil
}

// collect takes in the parts of tasks that have ended.
func (l *Loop) collect() {
	var bytes [64]byte
	n, err := unix.Read(l.wakes, bytes[:])
	if err != nil {
		return
	}
	for range n {
		l.road.end(<-l.road.ended)
	}
}

// requests serves the control socket: its listener is the first of fds, its
// connections are the others.
func (l *Loop) requests(fds []unix.PollFd) {
	conns := append([]*conn(nil), l.control.conns...)
	for i, k := range conns {
		if fds[i+1].Revents == 0 {
			continue
		}
		if l.control.serve(k) {
			l.road.Failed()
			l.Coldplug()
		}
	}
	if fds[0].Revents != 0 {
		l.control.accept()
	}
}

// serve reads the request of k and reports whether it is for a coldplug. There
// is no other yet; whoever asks for one, or hangs up, is dropped.
func (c *control) serve(k *conn) (coldplug bool) {
	if !k.asked && k.request() == requestColdplug {
		return true
	}
	c.drop(k)
	return false
}

// finish lets the commands that run come to their end, or kills them after
// exitWait. What has not begun is left to the next scan.
func (l *Loop) finish() {
	r := l.road
	r.Jobs = 0
	limit := time.After(exitWait)
	for r.flying > 0 {
		select {
		case end := <-r.ended:
			r.end(end)
		case <-limit:
			for run := range r.active {
				run.kill()
			}
			return
		}
	}
	if l.control != nil {
		l.control.close()
	}
}
