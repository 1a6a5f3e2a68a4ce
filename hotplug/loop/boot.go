//go:build !noboot

package loop

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/coldplug"
	"devspool/hotplug/control"
	"devspool/hotplug/log"
	"devspool/hotplug/netlink"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sys"
)

// How long commands may still run before the loop goes on in another root, how long no event
// comes to an end where what is left hangs, and how long events may be under way before the
// loop hands over.
const (
	switchWait   = 10 * time.Second
	hangWait     = time.Second
	handOverWait = 30 * time.Second
)

// Another device manager shows itself by this file of udev's; the loop of an early boot ends
// then, and where none has shown itself after stayLimit.
const (
	udevControl = "/run/udev/control"
	stayLimit   = 5 * time.Minute
)

// boot is what the loop of an early boot is asked.
type boot struct {
	left    atomic.Bool   // this process went on in another root: the next loop may have all
	stopped chan struct{} // closed when Serve reads no more; nil before bootSide, as handed is
	handed  chan struct{} // closed when another process has the socket
}

// bootSide implements control.Boot.
func (l *Loop) bootSide() control.Boot {
	if l.boot.stopped == nil {
		l.boot.stopped, l.boot.handed = make(chan struct{}), make(chan struct{})
	}
	return l
}

// HandOver implements control.Boot. A loop whose root was not left stays, and a second request is
// refused, both with control.ErrRunning.
func (l *Loop) HandOver() (socket int, done func(), err error) {
	if !l.left.Load() && !l.isLeftBehind() || l.leaving.Swap(true) {
		return sys.None, nil, control.ErrRunning
	}
	l.closeWatch()
	l.sock.Wake()
	// Serve closes this once submit has seen that the loop is leaving.
	<-l.boot.stopped
	// Nothing is read any more, so what is under way is all that this process will do.
	said := false
	for began := sys.Now(); !l.Scheduler.IsIdle() && began.Age() < handOverWait; time.Sleep(sys.PollInterval) {
		if !said && began.Age() >= hangWait {
			said = true
			l.sayUnfinished("the system's loop waits, " + handOverWait.String())
		}
	}
	if !l.Scheduler.IsIdle() {
		l.Log.Print(log.Warning, "handing over, though not all events are done")
	}
	// The loop that takes over makes its own control socket, maybe in the same directory.
	l.closeControl()
	return l.sock.Fd(), func() { close(l.boot.handed) }, nil
}

// sayUnfinished says what waits and how long, and for which events.
func (l *Loop) sayUnfinished(text string) {
	text += " at most, for the early boot's events"
	for _, line := range control.Status(l.Scheduler, l.Config) {
		if control.IsUnfinished(line) {
			text += "; " + line
		}
	}
	l.Log.Print(log.Warning, text)
}

// waitHandedOver returns when another process has the socket.
func (l *Loop) waitHandedOver() error {
	close(l.boot.stopped)
	<-l.boot.handed
	return nil
}

// isLeftBehind reports whether /dev is not the one that is served any more: that was moved
// to another root, while this process stayed.
func (l *Loop) isLeftBehind() bool {
	return sys.FileIDOf(l.Dev.Path()) != l.Dev.ID()
}

// takeOver gets the socket of a loop that is left from an early boot, with the events that wait in
// it, and reports whether it did. The socket that New opened is not needed then.
func (l *Loop) takeOver() bool {
	socket, err := control.TakeOver(l.Dev)
	if err != nil {
		if !errors.Is(err, control.ErrRunning) {
			l.Log.Print(log.Warning, "the loop that runs does not hand over: "+err.Error())
		}
		return false
	}
	adopted, err := netlink.Adopt(socket, l.Log)
	if err != nil {
		return false
	}
	l.sock.Close()
	l.sock, l.inherited = adopted, true
	l.auditor.Pending = l.Pending
	return true
}

// SwitchRoot implements control.Boot. Events that come meanwhile are done in the new root.
func (l *Loop) SwitchRoot(path string) error {
	root, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return sys.PathError("open", path, err)
	}
	defer unix.Close(root)
	l.closeWatch() // the config that was read holds on
	l.Scheduler.Pause()
	defer l.Scheduler.Resume()
	if !l.drain() && l.Scheduler.CommandsRunning() > 0 {
		l.Log.Print(log.Warning, "commands of the early boot still run, in its root")
	}
	err = l.Scheduler.Exclusive(func(v scheduler.View) error {
		err := moveTo(root, path)
		v.Moved()
		return err
	})
	if err == nil {
		l.left.Store(true)
		go l.endUnneeded()
	}
	return err
}

// drain waits for commands, and for the modules and disks of other events as long as these
// come to an end: one that hangs, far from the root, does not hold up the switch to it. The
// result tells whether all is done.
func (l *Loop) drain() bool {
	drained := make(chan bool, 1) // room for one, so that the goroutine ends though nobody waits any more
	go func() { drained <- l.Scheduler.Drain(switchWait) }()
	last, changed, said := uint64(0), sys.Now(), false
	for {
		select {
		case done := <-drained:
			return done
		case <-sys.After(sys.PollInterval):
		}
		if done := l.Scheduler.Stats().Done; done != last {
			last, changed = done, sys.Now()
		}
		if changed.Age() >= hangWait && l.Scheduler.CommandsRunning() == 0 {
			return false
		}
		if !said && changed.Age() >= hangWait {
			said = true
			l.sayUnfinished("switching root waits, " + switchWait.String())
		}
	}
}

// follow has the loop go on in the root to which another program, such as switch_root(8), has
// moved /dev from an initramfs. Without /sys it could do no event: these wait until that is
// there too.
func (l *Loop) follow() {
	if l.left.Load() || !l.isLeftBehind() {
		return
	}
	l.Scheduler.Pause()
	entered := func(v scheduler.View) error {
		err := l.enter()
		v.Moved()
		return err
	}
	if l.Scheduler.Exclusive(entered) != nil {
		l.Scheduler.Resume()
		return
	}
	l.closeWatch() // the config that was read holds on
	l.left.Store(true)
	go func() {
		for began := sys.Now(); !l.Sys.Mounted() && began.Age() < switchWait; {
			time.Sleep(sys.PollInterval)
		}
		l.Scheduler.Resume()
		l.endUnneeded()
	}()
}

// enter makes the file system that /dev was moved to the root of this process.
func (l *Loop) enter() error {
	private, err := l.Dev.OpenPrivate()
	if err != nil {
		return err
	}
	defer unix.Close(private)
	// The first .. is the root of /dev's mount. The second leaves the mount, for the directory
	// that holds it now.
	root, err := unix.Openat(private, "../..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	old, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(old)
	var st unix.Statx_t
	if err := sys.Fstat(root, &st); err != nil {
		return err
	}
	now, next := sys.FileIDOf("/"), sys.FileIDOfStat(&st)
	if !l.isLeftBehind() || now.OnSameFileSystem(next) || next == l.Dev.ID() || !sys.IsInMemory(old) {
		return unix.EBUSY // SwitchRoot was faster; or /dev was unmounted; or there is no initramfs
	}
	return sys.EnterRoot(root)
}

// moved are the file systems that go along, those that are there. The
// switch is done though /run stays behind.
var moved = [...]string{"/dev", "/proc", "/sys", "/run"}

// moveTo makes a root file system the root. A directory that it lacks is made, if it can be.
func moveTo(root int, path string) error {
	for _, dir := range moved {
		// This may fail, on a root that is mounted read-only: then the mount fails too, and its
		// error names the directory.
		_ = unix.Mkdir(path+dir, 0o755)
		err := unix.Mount(dir, path+dir, "", unix.MS_MOVE, "")
		if err != nil && err != unix.EINVAL && dir != "/run" { // EINVAL: none is mounted there
			return sys.PathError("mount", path+dir, err)
		}
	}
	if err := unix.Fchdir(root); err != nil {
		return err
	}
	// As switch_root(8) does: the root of an initramfs cannot be left by pivot_root(2). The
	// mount covers /, and chroot makes it the root of this process too.
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return sys.PathError("mount", path, err)
	}
	return sys.EnterRoot(root)
}

// endUnneeded ends the loop of an early boot where no other loop takes its place. A loop that does
// has set leaving by then, and Serve ends by that.
func (l *Loop) endUnneeded() {
	for began := sys.Now(); began.Age() < stayLimit; time.Sleep(time.Second) {
		if sys.Exists(unix.AT_FDCWD, udevControl) {
			break
		}
	}
	if !l.leaving.Load() {
		l.Log.Print(log.Info, "no loop of the system has asked for the early boot's: it ends")
		l.End()
	}
}

// once returns f for several callers, the first of which calls it.
func once(f func()) func() { return sync.OnceFunc(f) }

// Scan has the devices that are there set up: by a scan of /sys, or, where another loop has
// done so before, by what is left of that.
func (l *Loop) Scan() *scheduler.Batch {
	scan := coldplug.Scan
	if l.inherited {
		scan = coldplug.Inherit
	}
	return scan(l.Scheduler, l.Sys)
}
