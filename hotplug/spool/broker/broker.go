package broker

import (
	"errors"
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// The defaults of Options.
const (
	defaultWindow  = 4096
	defaultBacklog = 16384
	defaultPerUser = 256
)

// Options says what Open opens. The zero value of a number stands for its default.
type Options struct {
	// Private is a directory that only this user may enter. The broker keeps below it
	// what no client may see.
	Private string

	// Events is the directory where clients find their queues, Libudev the one of
	// libudev-compat; "" for none.
	Events, Libudev string

	// Mount puts the spool on a tmpfs of its own, where mounting is possible. Else its
	// directories lie on the file system of Private, where Events and Libudev must lie
	// too.
	Mount bool

	// Join takes the spool as it is: it mounts nothing and makes no root. It is for a
	// process that has one event to publish.
	Join bool

	// Resident keeps the spool in order between events: it removes a dead owner's queue
	// at once, and delivers kept events as the client reads. Without it both are done at
	// each event, as suits a process that handles one event and ends.
	Resident bool

	// Zero wakes libudev-zero up to 0.5.2: each link is opened for writing and closed,
	// and the header ends in '='.
	Zero bool

	Window  int // limit of unread files in a queue (4096; less on a small file system)
	Backlog int // limit of events kept for slow queues (16384; less on a small file system)
	PerUser int // limit of entries in a root of one user other than root (256)

	// Source, where set, is the path of a queue that gets nothing of what is published,
	// because the events come from it.
	Source string

	// Log, where set, is called with short lines about what was refused or lost.
	Log func(text string)

	old old
}

// old makes a Broker do without what older kernels lack, for tests.
type old struct {
	openat2, tmpfile, emptyPath, fanotify, pidfd, dirSize, acl bool
}

// Broker publishes events to the queues of a spool. Its methods may be called by several
// goroutines; several processes may have the same spool open. It owns every part, and
// none of the parts knows it. The methods that are not exported are those that several parts
// take part in: one event, one round of the upkeep, the start and the end.
type Broker struct {
	options Options
	id      uint64 // identifies this Broker to other publishers, in the counter

	mu         sync.Mutex // guards all below; taken before the lock file
	closed     bool       // Close was called, or Open failed
	base                  // the parts that all others use
	windows    windows
	links      links
	backlog    backlog
	lifecycle  lifecycle
	registry   registry
	deliveries delivery
}

// base holds the parts that all others use: they write and remove files, and decide
// nothing about queues.
type base struct {
	space   space
	counter counter
	records records
	trash   trash
	files   eventFiles
	upkeep  upkeep
	notice  func(text string) // prints a line about what was refused or lost, once
}

// ErrUnusable is returned where a spool is impossible: the private directory may be
// entered by others, or the roots lie on another file system.
var ErrUnusable = errors.New("the directories of the spool belong to another user or lie on another file system")

// Open opens a spool, and makes those parts of it that are missing.
func Open(o Options) (*Broker, error) {
	if o.Window == 0 {
		o.Window = defaultWindow
	}
	if o.Backlog == 0 {
		o.Backlog = defaultBacklog
	}
	if o.PerUser == 0 {
		o.PerUser = defaultPerUser
	}
	b := &Broker{options: o, id: newID()}
	b.wire()
	if err := b.open(); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// wire gives each part what it needs of the others.
func (b *Broker) wire() {
	o := &b.options
	notice := printOnce(o.Log)
	b.notice = notice
	b.space.options, b.space.notice = o, notice
	b.records.notice, b.files.notice, b.upkeep.notice = notice, notice, notice
	b.trash.space, b.trash.notice, b.trash.pending = &b.space, notice, true
	b.windows.space, b.windows.limit = &b.space, o.Window

	base := &b.base
	b.links.base, b.links.windows = base, &b.windows
	b.backlog.base, b.backlog.limit = base, o.Backlog
	b.lifecycle.base = base
	r := &b.registry
	r.base, r.lifecycle, r.windows = base, &b.lifecycle, &b.windows
	r.queues, r.stale = map[uint64]*queue{}, true
	r.quota.perUser, r.quota.notice = o.PerUser, notice
	r.quota.entries, r.quota.denied = map[uint32]int{}, map[uint32]int64{}
	d := &b.deliveries
	d.zero = o.Zero
	d.base, d.registry, d.backlog, d.windows, d.links = base, r, &b.backlog, &b.windows, &b.links

	// 0 is a descriptor too: without this, closing a part that was not opened would close
	// stdin.
	for _, fd := range []*int{&b.space.dir, &b.space.lock, &b.records.dir, &b.trash.dir, &b.files.making, &b.backlog.dir,
		&r.inotify, &b.upkeep.inotify} {
		*fd = sys.None
	}
	old := &o.old
	b.space.noOpenat2, b.files.noTmpfile, b.files.viaProc = old.openat2, old.tmpfile, old.emptyPath
	b.upkeep.noPidfd, r.quota.noACL = old.pidfd, old.acl
}

// open opens all parts. Where it fails, Close closes those that are open.
func (b *Broker) open() (err error) {
	// Where only one root opens, the registry still gets it, so that Close finds it.
	roots, err := b.space.open()
	b.registry.roots, b.registry.quota.roots = roots, roots
	if err != nil {
		return err
	}
	if err := b.openPrivate(); err != nil {
		return err
	}
	if b.deliveries.source, err = b.findSource(); err != nil {
		return err
	}
	// A kept event takes an inode, and a block or more. The windows take half of the inodes,
	// and a publisher needs some to write events at all.
	for _, size := range b.space.limits() {
		if size > 0 {
			b.backlog.limit = min(b.backlog.limit, max(1, size/4))
		}
	}
	// Not before openPrivate: an empty directory does not show what an entry counts.
	b.space.dirSizes = !b.options.old.dirSize && sizesCountEntries(b.space.dir)
	if b.options.Resident {
		return b.startUpkeep()
	}
	return nil
}

// openPrivate opens the directories below the private one, the lock and the counter.
func (b *Broker) openPrivate() (err error) {
	for _, part := range []struct {
		name string
		fd   *int
	}{{heldDir, &b.backlog.dir}, {recordsDir, &b.records.dir}, {makingDir, &b.files.making}, {trashDir, &b.trash.dir}} {
		if *part.fd, err = sys.OwnDirectory(b.space.dir, part.name); err != nil {
			return err
		}
	}
	// The lock is on a file that no client can open: a client that held it would stop all
	// events.
	if b.space.lock, err = sys.OwnFile(b.space.dir, "lock", unix.O_RDONLY); err != nil {
		return err
	}
	if err := b.space.acquire(); err != nil {
		return err
	}
	if err = b.counter.open(b.space.dir); err == nil && b.counter.load(wordLast) == 0 {
		b.counter.store(wordLast, b.highestNumber())
	}
	b.space.release()
	return err
}

// findSource returns the inode of Options.Source, or 0 where that is not set.
func (b *Broker) findSource() (ino uint64, err error) {
	if b.options.Source == "" {
		return 0, nil
	}
	var st unix.Stat_t
	err = unix.Lstat(b.options.Source, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		err = unix.ENOTDIR
	}
	// An inode number says which queue it is only within the spool's file system.
	if err == nil && uint64(st.Dev) != b.space.dev {
		err = unix.EXDEV
	}
	if err != nil {
		return 0, sys.PathError("open", b.options.Source, err)
	}
	return st.Ino, nil
}

// startUpkeep makes the Broker resident. The watches come before the first Upkeep, which reads
// the roots: a queue that is made between the two is found twice, and never missed.
func (b *Broker) startUpkeep() error {
	r := &b.registry
	if err := r.watchRoots(); err != nil {
		return err
	}
	sources := []int{r.inotify}
	for _, root := range r.roots {
		if !b.options.old.fanotify {
			root.fanotify = watchCreators(root.fd)
		}
		if root.fanotify != sys.None {
			sources = append(sources, root.fanotify)
		}
	}
	if err := b.upkeep.open(sources); err != nil {
		return err
	}
	r.quota.writeDenied() // an empty list: a Broker that was killed may have left another one
	if err := b.Upkeep(); err != nil {
		return err
	}
	b.upkeep.done = make(chan struct{})
	go b.run()
	return nil
}

// Close closes the spool. Queues stay, and whatever opens the spool next serves them.
func (b *Broker) Close() {
	if b.upkeep.poller != nil {
		b.upkeep.poller.Close()
	}
	if b.upkeep.done != nil {
		<-b.upkeep.done // before the lock, which it may wait for
	}
	b.mu.Lock()
	b.closed = true
	b.registry.close()
	sys.CloseAll(&b.upkeep.inotify, &b.space.lock, &b.backlog.dir, &b.records.dir, &b.files.making, &b.trash.dir, &b.space.dir)
	b.counter.close()
	b.mu.Unlock()
}

// HasBacklog reports whether events are kept for slow clients. A process that would end
// otherwise should stay, as only a publisher can deliver them.
func (b *Broker) HasBacklog() bool {
	b.mu.Lock()
	lagging := b.registry.lagging
	b.mu.Unlock()
	return lagging > 0
}

// Counts returns how many queues get events, how many of these lag, so that events are
// kept for them, and how many entries were removed from the roots since Open because
// they were no queues or too many.
func (b *Broker) Counts() (queues, lagging, refused int) {
	b.mu.Lock()
	for _, q := range b.registry.queues {
		if q.isLive() {
			queues++
		}
		if q.state == lags {
			lagging++
		}
	}
	refused = b.registry.quota.refused
	b.mu.Unlock()
	return queues, lagging, refused
}

// Publish puts an event into every queue whose filter matches it, with more variables
// than its own. Where there is no queue it takes one system call of a resident Broker.
func (b *Broker) Publish(e *uevent.Event, more []string) error {
	return b.publish(1, func(int) (*uevent.Event, []string) { return e, more }, spool.Packet{})
}

// PublishAll publishes n events under one lock; event returns the i-th. It publishes all
// of them whatever fails, and returns the last error.
func (b *Broker) PublishAll(n int, event func(i int) (e *uevent.Event, more []string)) error {
	return b.publish(n, event, spool.Packet{})
}

// Put publishes a packet as it is, for callers that have no Event.
func (b *Broker) Put(p spool.Packet) error { return b.publish(1, nil, p) }

// Gap tells every queue that events were lost before they reached the Broker: how many,
// or 0 where that is unknown.
func (b *Broker) Gap(lost int, why string) {
	if err := b.Put(gapPacket(uint64(max(0, lost)), why)); err != nil {
		b.mu.Lock()
		b.notice("cannot report lost events: " + err.Error())
		b.mu.Unlock()
	}
}

// publish publishes n events, or where event is nil the packet p, unless there is no
// queue.
func (b *Broker) publish(n int, event func(i int) (*uevent.Event, []string), p spool.Packet) (failed error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.registry.idle() {
		return nil
	}
	b.registry.quota.removals = 0 // a client waits for this event
	if err := b.begin(); err != nil {
		return err
	}
	defer b.space.release()
	// No goroutine does the upkeep in this process, so each publisher does it.
	if !b.options.Resident {
		b.serviceAll()
	}
	for i := range n {
		var e *uevent.Event
		var more []string
		if event != nil {
			e, more = event(i)
		}
		if err := b.deliveries.put(e, more, p); err != nil {
			failed = err
		}
	}
	if b.upkeep.retry {
		b.upkeep.kick()
	}
	return failed
}

// begin takes the lock on the spool, takes over what other publishers changed since
// this one had it, and repairs what a killed one left. Without an error the lock is held,
// and the caller releases it.
func (b *Broker) begin() error {
	if b.closed {
		return unix.EBADF
	}
	if err := b.space.acquire(); err != nil {
		return err
	}
	// Another publisher may have moved cursors and changed the backlog. inotify watches the
	// roots only, so nothing reports that.
	if b.counter.load(wordWriter) != b.id {
		b.registry.stale = true
	}
	r := &b.registry
	r.readChanges()
	b.lifecycle.creatorBudget = creatorsPerRound
	// While the poller is open, rounds follow, and each takes a part of what is to be removed.
	if b.upkeep.poller == nil {
		r.quota.removals = math.MaxInt // nothing removes the rest later
	}
	if r.stale {
		r.reload()
		b.backlog.load()
	} else {
		r.update()
	}
	// A publisher clears this before it gives up the lock, and this one has the lock: so that
	// publisher was killed.
	if b.counter.load(wordBusy) != 0 {
		b.deliveries.recover()
	}
	b.counter.store(wordWriter, b.id)
	return nil
}

// Upkeep does once what a resident Broker does between events: it removes the queues of
// dead owners, updates head and tail, and delivers kept events.
func (b *Broker) Upkeep() error {
	b.mu.Lock()
	b.registry.quota.removals = removalsPerRound
	err := b.begin()
	if err == nil {
		b.serviceAll()
		b.space.release()
	}
	b.mu.Unlock()
	return err
}

// serviceAll looks at every queue. A publisher that does not stay calls it at each event, a
// resident one at its start and its end only: its rounds look at what has changed.
func (b *Broker) serviceAll() {
	b.lifecycle.readCreators(b.registry.roots)
	for _, q := range b.registry.queues {
		b.checkOwner(q)
	}
	// live may still list a queue that was just removed: it has ended, and service does nothing to it.
	for _, q := range b.registry.live {
		b.deliveries.service(q)
	}
	b.finishRound()
}

// checkOwner removes q if its owner is dead.
func (b *Broker) checkOwner(q *queue) {
	if b.lifecycle.ownerIsDead(q) {
		b.registry.remove(q)
	}
}

// finishRound does what is left at the end of a round.
func (b *Broker) finishRound() {
	if !b.registry.listed {
		b.registry.relist()
	}
	b.deliveries.release()
	b.trash.empty()
}

// run is the upkeep goroutine. Wait fails once Close has closed the poller, which ends it.
func (b *Broker) run() {
	var fired []uint64
	var err error
	for err == nil && b.round(fired) {
		fired, err = b.upkeep.poller.Wait(fired[:0])
	}
	close(b.upkeep.done)
}

// round is a round of the upkeep goroutine: it looks at the queues whose inodes are in
// fired, at those whose clients removed something, and at those that are due. It
// returns false after Close.
func (b *Broker) round(fired []uint64) (more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.upkeep.retry, b.registry.quota.removals = false, removalsPerRound
	if b.begin() != nil {
		return false
	}
	b.registry.quota.unthrottle()
	b.registry.removeExcess()
	b.lifecycle.readCreators(b.registry.roots)
	// The descriptors that belong to no queue have the number 0. They are read in every round,
	// as they may have more than one round takes.
	for _, ino := range fired {
		if q := b.registry.queues[ino]; q != nil {
			b.checkOwner(q)
		}
	}
	for _, q := range b.upkeep.changed(b.space.buffer[:], b.registry.lagging > 0) {
		b.deliveries.service(q)
	}
	b.checkDue()
	b.finishRound()
	b.upkeep.poller.SetDeadline(b.nextRound()) // under the mutex, else a kick could get lost
	b.space.release()
	return true
}

// checkDue checks the owners that have no pidfd and are due for a check.
func (b *Broker) checkDue() {
	t := now()
	for _, q := range b.registry.queues {
		if q.owner.nextCheck != 0 && q.owner.nextCheck <= t {
			b.checkOwner(q)
		}
	}
}

// nextRound returns when the next round is due, or the zero time if only an event of the
// kernel's makes one necessary.
func (b *Broker) nextRound() time.Time {
	const never = time.Duration(math.MaxInt64)
	wait, t := never, now()
	for _, q := range b.registry.queues {
		if q.owner.nextCheck != 0 {
			wait = min(wait, time.Duration(q.owner.nextCheck-t))
		}
	}
	for _, until := range b.registry.quota.denied {
		wait = min(wait, time.Duration(until-t))
	}
	for _, r := range b.registry.roots {
		if r.excess || r.scanning {
			wait = 0
		}
	}
	if b.trash.pending || b.lifecycle.creatorBudget <= 0 {
		wait = 0
	}
	if b.upkeep.retry {
		wait = min(wait, pollOwner)
	}
	if wait == never {
		return time.Time{}
	}
	// Even where there is more to do now, publishers get the mutex and the lock in between.
	return time.Now().Add(max(wait, time.Millisecond))
}

// Ended records that the kernel's event seqnum is done, whether there is a queue or not.
// It takes no system call, and the number outlives this process.
func (b *Broker) Ended(seqnum uint64) {
	b.mu.Lock()
	if !b.closed && seqnum > b.counter.load(wordSeqnum) {
		b.counter.store(wordSeqnum, seqnum)
	}
	b.mu.Unlock()
}

// LastEnded returns the highest number that was recorded by Ended, in this process or
// in one that had the spool before; 0 for none.
func (b *Broker) LastEnded() (seqnum uint64) {
	b.mu.Lock()
	if !b.closed {
		seqnum = b.counter.load(wordSeqnum)
	}
	b.mu.Unlock()
	return seqnum
}

// maxNotices bounds the memory that users can take by causing different lines.
const maxNotices = 1000

// printOnce returns a function that prints each text once.
func printOnce(print func(text string)) func(text string) {
	printed := map[string]bool{}
	return func(text string) {
		if print == nil || printed[text] || len(printed) > maxNotices {
			return
		}
		printed[text] = true
		print("spool: " + text)
	}
}

// now returns the time since the boot in nanoseconds. No clock adjustment changes it, and all
// processes share it, so a record may hold it.
func now() int64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return time.Now().UnixNano()
	}
	return t.Nano()
}
