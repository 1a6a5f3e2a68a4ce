package broker

import (
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/procfs"
	"devspool/hotplug/sys"
)

// upkeep is the goroutine that keeps a resident spool in order between events, and what
// it waits for: changes in the roots, the ends of owners, and what clients remove. It
// takes no thread of its own. Without Options.Resident it is not open, and its methods
// do nothing.
type upkeep struct {
	poller  *sys.Poller      // nil while not open
	inotify int              // reports what clients remove from their queues
	watched map[int32]*queue // by the watch of inotify
	done    chan struct{}    // closed when the goroutine has ended; nil where it never ran
	retry   bool             // something could not be done in this round; the next comes within pollOwner
	noPidfd bool             // use no pidfds, for tests
	notice  func(text string)
}

// open makes the set of descriptors to wait for; sources are some of them. All of them report
// edges (EPOLLET): the pidfd of a dead process stays readable, and would start round after
// round while its queue stays for another reason.
func (u *upkeep) open(sources []int) (err error) {
	if u.inotify, err = sys.NewInotify(); err != nil {
		return err
	}
	u.watched = map[int32]*queue{}
	poller, err := sys.NewPoller("spool")
	if err != nil {
		return err
	}
	u.poller = poller
	for _, fd := range append(sources, u.inotify) {
		if err := poller.Add(fd, unix.EPOLLIN|unix.EPOLLET, 0); err != nil {
			return err
		}
	}
	return nil
}

// kick starts a round at once, where the upkeep is open. An event of the kernel's that a
// publisher has read does not start one.
func (u *upkeep) kick() {
	if u.poller != nil {
		u.poller.SetDeadline(time.Now())
	}
}

// changed returns the queues from which something was removed. To these it adds the queues that
// lag, and all that are watched where the kernel dropped events.
func (u *upkeep) changed(buf []byte, someLag bool) []*queue {
	var all []*queue
	seen := map[*queue]bool{}
	lost, more := sys.ReadInotify(u.inotify, buf, func(e *unix.InotifyEvent, _ []byte) {
		if q := u.watched[e.Wd]; q != nil && !seen[q] {
			seen[q] = true
			all = append(all, q)
		}
	})
	u.retry = u.retry || more
	if !lost && !someLag {
		return all
	}
	for _, q := range u.watched {
		if !seen[q] && (lost || q.state == lags) {
			all = append(all, q)
		}
	}
	return all
}

// follow starts a round when an owner of q ends, where the kernel has pidfds (5.3), and
// starts one now, since the owner may have ended already.
func (u *upkeep) follow(q *queue) {
	if u.poller == nil {
		return
	}
	for _, p := range []*processRef{&q.owner.creator, &q.owner.byName} {
		if p.Pid == 0 {
			continue
		}
		if p.fd == sys.None && !u.noPidfd {
			p.fd = openProcess(p.Process)
		}
		if p.fd == sys.None {
			continue
		}
		if err := u.poller.Add(p.fd, unix.EPOLLIN|unix.EPOLLET, q.ino); err != nil && err != unix.EEXIST {
			sys.CloseAll(&p.fd) // its end would go unseen, so it is polled instead
		}
	}
	q.owner.nextCheck = 1 // at the next round
	u.kick()
}

// openProcess returns a pidfd of p, or none where p is dead or the kernel has no pidfds.
func openProcess(p procfs.Process) int {
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if err != nil {
		return sys.None
	}
	if !p.Alive() { // asked after the open, so the pidfd is of the same process
		unix.Close(fd)
		return sys.None
	}
	return fd
}

// watch starts a round each time that something is removed from q.
func (u *upkeep) watch(q *queue) {
	if u.poller == nil || q.watch != sys.None {
		return
	}
	watch, err := sys.WatchDirectory(u.inotify, q.fd, q.root.path+"/"+q.name, unix.IN_DELETE|unix.IN_MOVED_FROM)
	if err != nil {
		u.notice("cannot watch a queue: " + err.Error())
		return
	}
	q.watch = watch
	u.watched[watch] = q
}

// unwatch ends that, unless head and tail need it. The kernel ends the watch of a directory that
// was removed by itself; then the call fails, and only the entry is left to remove.
func (u *upkeep) unwatch(q *queue) {
	if q.watch == sys.None || q.isLive() && q.hasLinks {
		return
	}
	unix.InotifyRmWatch(u.inotify, uint32(q.watch))
	delete(u.watched, q.watch)
	q.watch = sys.None
}
