//go:build !noboot

package loop

import (
	"errors"
	"testing"

	"devspool/hotplug/control"
	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/hotplugtest/board"
	"devspool/hotplug/scheduler"
)

// TestHandOver shows that a loop which is left from an early boot gives its socket to the next
// one, after all of its events, and that the next one runs no command again; and that any
// other loop keeps its place.
func TestHandOver(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sd.* 0:0 660 *echo $MDEV >>TMP/said\n")
	old := newLoop(b)
	ended := make(chan error, 1)
	go func() { ended <- old.Serve() }()
	if _, err := New(Options{Scheduler: b.Scheduler, Config: b.Config, Dev: b.Other(), Sys: b.Sys.FS, Log: b.Log.Logger}); !errors.Is(err, control.ErrRunning) {
		t.Fatalf("another loop: %v", err)
	}
	b.Scheduler.Run(scheduler.Events(b.Disks(3)...))
	old.left.Store(true)
	fd := old.sock.Fd()
	next, err := New(loopOptions(b))
	hotplugtest.Must(t, err)
	hotplugtest.Within(t, "the end of the loop before", func() { hotplugtest.Must(t, <-ended) })
	if !next.inherited || !old.IsHandedOver() || next.sock.Fd() == fd {
		t.Errorf("inherited %v, handed over %v", next.inherited, old.IsHandedOver())
	}
	stop := runLoop(b, next)
	next.Scan().Wait()
	hotplugtest.Eventually(t, "the end of the events", b.Scheduler.IsIdle)
	if got := b.Said("said"); len(got) != 3 {
		t.Errorf("the commands say %q", got)
	}
	stop()
}

// hangingLoader stands for a module whose initialization hangs until it is released.
type hangingLoader chan struct{}

func (l hangingLoader) Handles(string) bool    { return true }
func (l hangingLoader) Load(_, _ string) error { <-l; return nil }

// TestHandOverHanging shows what is said while the next loop waits for an event that hangs.
func TestHandOverHanging(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	hanging := make(hangingLoader)
	b := board.New(t, `$MODALIAS=.* 0:0 660 @modprobe "$MODALIAS"`+"\n", func(o *scheduler.Options) { o.Modules = hanging })
	b.Sinks = append(b.Sinks, scheduler.Sink{Status: func() string { return "modules that failed: none; still loading: x" }})
	old := newLoop(b)
	ended := make(chan error, 1)
	go func() { ended <- old.Serve() }()
	const devpath = "/devices/pci0/usb1"
	b.Sys.Add(devpath, "usb", "", "MODALIAS=usb:x")
	b.Scheduler.Run(scheduler.Events(b.Sys.NewEvent("add", devpath)))
	old.left.Store(true)
	go func() {
		hotplugtest.Eventually(t, "the message", func() bool {
			return b.Log.Has("the system's loop waits, 30s at most, for the early boot's events; modules that failed: none; still loading: x")
		})
		close(hanging)
	}()
	next, err := New(loopOptions(b))
	hotplugtest.Must(t, err)
	hotplugtest.Within(t, "the end of the loop before", func() { hotplugtest.Must(t, <-ended) })
	runLoop(b, next)()
}
