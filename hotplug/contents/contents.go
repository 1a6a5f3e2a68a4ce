// Package contents notices that a disk was written to, and has the kernel send a change event
// then, so that the disk is read again: mkfs, e2label, dd, cryptsetup. It does what udevd does
// for OPTIONS+="watch". It also has the kernel look for other media (PollMedia).
//
// It never opens a disk, never reads one and has no partition table read: the kernel's own
// events tell of partitions.
package contents

import (
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
)

// maxWatches is how many disks and partitions are watched at most. The kernel's own limit
// (fs.inotify.max_user_watches) may be lower.
const maxWatches = 4096

// The first close after writing counts at once: devspool settle after a mkfs waits
// for its event. Further ones within a pause count once, when that is over.
// Each pause is twice as long as the one before, until nothing is written for so long: a command
// of a rule for change events that writes to the disk itself causes few of them.
const (
	shortestPause = 250 * time.Millisecond
	longestPause  = 16 * time.Second
)

// Watcher watches the nodes of disks. Its methods may be called by several goroutines.
type Watcher struct {
	sys  sysfs.FS
	log  *log.Logger
	file *os.File // inotify's
	fd   int      // the same

	mu    sync.Mutex       // guards the fields below
	disks map[string]*disk // by devpath
	full  bool             // a disk could not be watched, and the log says so
}

// disk is one that is watched.
type disk struct {
	_       [0]func() // not comparable, which spares the program a function
	devpath string
	watch   int           // inotify's descriptor of the watch: the same for the same inode
	pause   time.Duration // that runs, or ran last
	ends    sys.Time      // when it is over; 0 before the first write
	waits   bool          // there is a write to tell of then
}

// New returns a Watcher that watches nothing yet.
func New(fs sysfs.FS, logger *log.Logger) (*Watcher, error) {
	fd, err := sys.NewInotify()
	if err != nil {
		return nil, err
	}
	file, _, err := sys.Polled(fd, "inotify")
	if err != nil {
		return nil, err
	}
	w := &Watcher{sys: fs, log: logger, file: file, fd: fd, disks: map[string]*disk{}}
	go w.serve()
	return w, nil
}

// Close ends all watches.
func (w *Watcher) Close() { w.file.Close() }

// Watch watches the node at path, an absolute one, of the disk or partition that e is about.
// One that is watched already stays so. Nothing is watched of optical drives, which are not
// written to in place, nor of disks that no event can be asked for.
func (w *Watcher) Watch(e *uevent.Event, path string) {
	var st unix.Stat_t
	if strings.HasPrefix(e.Sysname(), "sr") || unix.Lstat(path, &st) != nil || sysfs.NodeDev(&st) != e.Dev ||
		unix.Access(string(w.sys)+e.Devpath+"/uevent", unix.W_OK) != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.disks[e.Devpath]
	// The kernel's own answer where fs.inotify.max_user_watches is reached; so both say the same.
	err := error(unix.ENOSPC)
	watch := 0
	if d != nil || len(w.disks) < maxWatches {
		watch, err = unix.InotifyAddWatch(w.fd, path, unix.IN_CLOSE_WRITE|unix.IN_DONT_FOLLOW)
	}
	switch {
	case err != nil && !w.full:
		w.full = true
		w.log.Event(log.Warning, "not watched", e, "what is written to it, and to others, may go unseen: "+err.Error())
	case err != nil:
	case d == nil:
		w.disks[e.Devpath] = &disk{devpath: e.Devpath, watch: watch}
	case d.watch != watch: // the node is another one
		unix.InotifyRmWatch(w.fd, uint32(d.watch))
		d.watch = watch
	}
}

// Drop ends the watch over the disk at devpath, if there is one.
func (w *Watcher) Drop(devpath string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.disks[devpath]; d != nil {
		unix.InotifyRmWatch(w.fd, uint32(d.watch)) // may have ended with the node
		delete(w.disks, devpath)
	}
}

// serve reads what happens until the Watcher is closed.
func (w *Watcher) serve() {
	buf := make([]byte, 4<<10)
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			return
		}
		_, lost := sys.EachInotifyEvent(buf[:n], func(e *unix.InotifyEvent, _ []byte) {
			if e.Mask&unix.IN_CLOSE_WRITE != 0 {
				w.written(int(e.Wd))
			}
		})
		// The queue of inotify was full (fs.inotify.max_queued_events).
		if lost {
			w.written(anyWatch)
		}
	}
}

// anyWatch stands for all disks: it is not known which.
const anyWatch = -1

// written asks for an event of the disk that was written to, or if that was done shortly
// before, does so later. A watch that Drop has ended matches none: its last events may still come.
func (w *Watcher) written(watch int) {
	var now []*disk
	w.mu.Lock()
	for _, d := range w.disks {
		if (watch == d.watch || watch == anyWatch) && !d.waits && w.isDueLocked(d) {
			now = append(now, d)
		}
	}
	w.mu.Unlock()
	// Without the mutex: a write to a uevent file returns when the kernel has sent the event.
	for _, d := range now {
		w.sendChange(d)
	}
}

// isDueLocked reports whether an event of d is to be asked for now, and begins the next pause then. Else
// it is later. The mutex is held.
func (w *Watcher) isDueLocked(d *disk) bool {
	if left := d.ends - sys.Now(); d.ends != 0 && left > 0 {
		d.waits = true
		time.AfterFunc(time.Duration(left), func() {
			w.mu.Lock()
			d.waits = false
			// The disk may have been dropped while the timer ran.
			due := w.disks[d.devpath] == d && w.isDueLocked(d)
			w.mu.Unlock()
			if due {
				w.sendChange(d)
			}
		})
		return false
	}
	if d.ends.Age() > d.pause {
		d.pause = 0 // nothing was written for as long
	}
	d.pause = min(max(2*d.pause, shortestPause), longestPause)
	d.ends = sys.Now() + sys.Time(d.pause)
	return true
}

// sendChange has the kernel send the events. An error means that the disk has left. The mutex is not held.
func (w *Watcher) sendChange(d *disk) {
	_ = w.sys.Write(d.devpath+"/uevent", uevent.Change)
	// The partitions of a disk may hold something else now too, and have no event of their own.
	for _, name := range sys.Subdirs(string(w.sys) + d.devpath) {
		if part := d.devpath + "/" + name; sys.Exists(unix.AT_FDCWD, string(w.sys)+part+"/partition") {
			_ = w.sys.Write(part+"/uevent", uevent.Change)
		}
	}
}

// mediaPolling is where the kernel says how often it looks, in milliseconds, whether removable
// disks have another medium, unless events_poll_msecs of a disk says otherwise. It is 0, for
// never, unless the kernel's command line says otherwise.
const mediaPolling = "/module/block/parameters/events_dfl_poll_msecs"

// PollMedia has the kernel look for other media every two seconds, as udevd does, unless it looks
// already or never can. An optical drive is asked for its state alone: it does not start for that.
func PollMedia(fs sysfs.FS) error {
	if text, err := sys.ReadAttribute(string(fs) + mediaPolling); err != nil || strings.TrimSpace(text) != "0" {
		return nil
	}
	return fs.Write(mediaPolling, "2000")
}
