package hotplug

import (
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// exitWait is how long commands may still run when the loop is told to end.
const exitWait = 10 * time.Second

// quiet is how long no event comes until memory is given back to the system.
const quiet = time.Second

// Loop follows the kernel's events.
type Loop struct {
	road  *Road
	sock  *socket
	ended atomic.Bool

	mu      sync.Mutex
	control *control // nil where /dev has no room for it
}

// NewLoop opens what a loop needs: first of all the socket, so that no event
// that comes from now on is missed. ErrRunning tells that there is a loop already.
func NewLoop(r *Road) (*Loop, error) {
	sock, err := listen(r.Log)
	if err != nil {
		return nil, err
	}
	l := &Loop{road: r, sock: sock}
	r.Renewed = l.renew
	if err := l.claim(); err != nil {
		sock.close()
		return nil, err
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-told
		l.end()
	}()
	return l, nil
}

// claim opens the control socket, by which other processes know that there is a
// loop. Where /dev has no room for it the loop does without.
func (l *Loop) claim() error {
	r := l.road
	if r.Dev == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lock()
	defer r.unlock()
	if r.lockless {
		return nil
	}
	control, err := openControl(r)
	if errors.Is(err, ErrRunning) {
		return err
	}
	if err != nil {
		r.Log.Print(Warning, "no control socket: "+err.Error())
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.control = control
	return nil
}

// unclaim closes the control socket.
func (l *Loop) unclaim() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.control != nil {
		l.control.close()
		l.control = nil
	}
}

// renew makes all anew on another /dev.
func (l *Loop) renew() {
	l.road.Log.Print(Warning, "another file system is mounted on "+l.road.Dev.Path()+": scanning /sys anew")
	l.unclaim()
	if err := l.claim(); err != nil {
		l.road.Log.Print(Warning, err.Error())
	}
	Coldplug(l.road)
}

// Serve follows events until it is told to end by SIGTERM or SIGINT. It lets
// commands that run come to their end, for a while.
func (l *Loop) Serve() error {
	rest := time.AfterFunc(quiet, debug.FreeOSMemory)
	for {
		events, lost, err := l.sock.read()
		if l.ended.Load() {
			break
		}
		if err != nil {
			return err
		}
		if len(events) > 0 {
			l.road.Run(events)
		}
		if lost {
			l.road.Log.Print(Warning, "the kernel dropped events: scanning /sys anew")
			Coldplug(l.road)
		}
		rest.Reset(quiet)
	}
	l.road.Stop(exitWait)
	l.unclaim()
	return nil
}

// end makes Serve return.
func (l *Loop) end() {
	l.ended.Store(true)
	l.sock.wake()
}
