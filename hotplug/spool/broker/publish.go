package broker

import (
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// delivery puts events into queues: new ones into all that want them, and those of the
// backlog into queues that lag and have room again.
type delivery struct {
	source uint64 // the inode of Options.Source, or 0
	zero   bool   // Options.Zero

	backlog  *backlog
	registry *registry
	windows  *windows
	links    *links
	*base

	// Kept from event to event, to spare the garbage collector. Their contents are of one put only.
	text         []byte
	ready, later []*queue
}

// gapPacket returns the event that reports losses.
func gapPacket(lost uint64, why string) spool.Packet {
	var more []string
	if lost > 0 {
		more = append(more, "LOST="+strconv.FormatUint(lost, 10))
	}
	if why != "" {
		more = append(more, "REASON="+why)
	}
	return spool.PacketOf(uevent.Gap(more...), nil)
}

// put gives an event to the queues that want it: e with more variables, or where e is
// nil p. The lock is held until the last queue has the event, so that no queue has a
// later one before.
func (d *delivery) put(e *uevent.Event, more []string, p spool.Packet) error {
	targets, wanted := d.choose(e, more, p)
	if !wanted {
		return nil
	}
	text := d.text[:0]
	if e != nil {
		text = spool.Append(text, e, more)
	} else {
		text = p.Append(text)
	}
	d.text = d.markHeader(text)
	return d.deliver(targets, d.text)
}

// choose returns the queues that get an event at once. wanted also tells of those that
// lag.
func (d *delivery) choose(e *uevent.Event, more []string, p spool.Packet) (targets []*queue, wanted bool) {
	if !d.registry.listed {
		d.registry.relist()
	}
	targets = d.ready[:0]
	for _, q := range d.registry.live {
		if q.ino == d.source {
			continue
		}
		if q.filter != nil {
			if p.Action == "" { // made once, and only for a filter
				p = spool.PacketOf(e, more)
			}
			if !wants(q, p) {
				continue
			}
		}
		wanted = true
		if q.state == current {
			targets = append(targets, q)
		}
	}
	d.ready = targets
	return targets, wanted
}

// wants reports whether p passes the filter of q. Gaps pass every filter.
func wants(q *queue, p spool.Packet) bool {
	_, isGap := p.Get(spool.GapKey)
	return isGap || q.filter.Match(p)
}

// markHeader ends the first line of text in '=', where libudev-zero is served.
func (d *delivery) markHeader(text []byte) []byte {
	if !d.zero {
		return text
	}
	for i, c := range text {
		if c == '\n' {
			text = append(text, 0)
			copy(text[i+1:], text[i:])
			text[i] = '='
			return text
		}
	}
	return text
}

// deliver gives the event its number and links it into the targets. A target that cannot
// take it lags from then on.
func (d *delivery) deliver(targets []*queue, text []byte) error {
	// Busy is set before the number is taken. A kill between the two makes a gap too many; the
	// other way round a number would be missing that nothing reports.
	n := d.counter.load(wordLast) + 1
	d.counter.setBusy(true)
	d.counter.store(wordLast, n)

	later := d.later[:0]
	ready := targets[:0]
	for _, q := range targets {
		if d.windows.hasRoom(q, len(text)) {
			ready = append(ready, q)
		} else {
			// It gets n out of the backlog, to which n is added below.
			d.markLagging(q, n)
			later = append(later, q)
		}
	}
	f, err := d.files.create(text, spool.EventName(n))
	if err != nil {
		for _, q := range ready {
			d.markLagging(q, n) // its event is not in the backlog, so it gets a gap
		}
		d.upkeep.retry = true
		d.counter.setBusy(false)
		return err
	}
	if d.registry.lagging > 0 {
		d.backlog.add(f, n, d.source)
	}
	for _, q := range ready {
		if !d.give(q, f, n) {
			later = append(later, q)
		}
	}
	for _, q := range later {
		d.feed(q) // its client may have read since
	}
	// Kept for the next event, for its memory alone.
	d.later = later[:0]
	d.release()
	d.files.close(f)
	d.counter.setBusy(false)
	return nil
}

// give links event n into q. It returns false where the event must be given later.
func (d *delivery) give(q *queue, f *eventFile, n uint64) bool {
	own := f
	if q.root.libudev {
		fitted, err := d.files.fit(f)
		if err != nil {
			d.notice("an event is not given to libudev-compat: " + err.Error())
			return true
		}
		own = fitted
	}
	err := d.files.link(own, q.fd, f.name)
	if err == unix.ENOENT && !own.named { // it has no link any more, or q is gone
		if err = d.files.recreate(own); err == nil {
			err = d.files.link(own, q.fd, f.name)
		}
	}
	switch {
	case err == nil:
		d.given(q, n, len(own.text))
		return true
	case err == unix.EEXIST:
		return true // the client made a file of that name, and reads that
	// Its client removed the queue meanwhile, which is no failure.
	case q.isGone():
		d.registry.forget(q)
		return true
	default:
		d.notice("cannot put an event into a queue now: " + err.Error())
		d.markLagging(q, n)
		if !f.kept {
			d.backlog.add(f, n, d.source)
		}
		return false
	}
}

// given does what follows when event n, of size bytes, has been put into q.
func (d *delivery) given(q *queue, n uint64, size int) {
	q.fill(size)
	if d.zero { // libudev-zero waits for a writer to close the file
		fd, err := unix.Openat(q.fd, spool.EventName(n), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		}
	}
	if q.hasLinks {
		d.links.add(q, n)
	}
}

// recover repairs what a publisher left that was killed while it put an event into
// queues. Nothing tells which queues have it, since clients may have read it already; so
// all of them get a gap.
func (d *delivery) recover() {
	for _, name := range sys.List(d.files.making) {
		unix.Unlinkat(d.files.making, name, 0)
	}
	for _, q := range d.registry.live {
		if q.hasLinks {
			d.links.rebuild(q)
		}
	}
	d.counter.setBusy(false)
	if err := d.put(nil, nil, gapPacket(1, "a publisher was killed")); err != nil {
		d.notice("cannot report lost events: " + err.Error())
	}
}

// service looks after a queue whose client has removed something. While it feeds the queue the
// counter is busy, so that a kill between cursor and link is reported by a gap.
func (d *delivery) service(q *queue) {
	if q.isLive() && q.hasLinks {
		d.links.update(q)
	}
	if q.state == lags {
		d.counter.setBusy(true)
		d.feed(q)
		d.counter.setBusy(false)
	}
}

// markLagging makes q lag: event n is the next that it gets. A queue that lags already keeps its
// cursor, which stands at an earlier event.
func (d *delivery) markLagging(q *queue, n uint64) {
	if q.cursor != 0 {
		return
	}
	q.state = lags
	d.registry.lagging++
	d.setCursor(q, n)
	d.upkeep.watch(q)
}

// markCurrent makes q get each event at once again.
func (d *delivery) markCurrent(q *queue) {
	q.state = current
	d.registry.lagging--
	d.setCursor(q, 0)
	d.upkeep.unwatch(q)
}

// setCursor records the cursor at once: after a crash no event may come twice.
func (d *delivery) setCursor(q *queue, n uint64) {
	q.cursor = n
	d.records.write(q)
}

// release drops what no queue waits for any more.
func (d *delivery) release() {
	if len(d.backlog.events) == 0 {
		return
	}
	first := d.counter.load(wordLast) + 1
	for _, q := range d.registry.live {
		if q.state == lags {
			first = min(first, q.cursor)
		}
	}
	d.backlog.dropBelow(first)
}

// feed gives q what is kept for it, as far as it has room. The size of the next event is not known
// yet, so a queue of libudev-compat may get one that takes it past its bytes.
func (d *delivery) feed(q *queue) {
	for q.state == lags {
		if q.cursor > d.counter.load(wordLast) {
			d.markCurrent(q)
			return
		}
		if !d.windows.hasRoom(q, 0) || !d.feedOne(q) {
			return
		}
	}
}

// feedOne gives q the event at its cursor, or a gap where that is lost, and reports
// whether there may be more to give. The cursor moves first: if this process is killed
// an event may be missing, which recover reports, but none comes twice.
func (d *delivery) feedOne(q *queue) (more bool) {
	i, found := slices.BinarySearch(d.backlog.events, q.cursor)
	if !found {
		return d.feedGap(q, i)
	}
	n := q.cursor
	// The event came out of this queue, and must not return there.
	if d.backlog.sources[n] == q.ino {
		d.setCursor(q, n+1)
		return true
	}
	text, wanted, err := d.readFor(q, n)
	// The file is gone, and the number with it: the next call finds it missing, and gives a
	// gap.
	if err == unix.ENOENT {
		d.backlog.events = slices.Delete(d.backlog.events, i, i+1)
		return true
	}
	if err != nil {
		d.upkeep.retry = true
		return false
	}
	d.setCursor(q, n+1)
	if !wanted {
		return true
	}
	if err = d.linkKept(q, n, text); err != nil && err != unix.EEXIST {
		if q.isGone() {
			d.registry.forget(q)
			return false
		}
		d.setCursor(q, n)
		d.upkeep.retry = true // the file system may be full
		return false
	}
	d.given(q, n, len(text))
	return true
}

// readFor returns the text of event n of the backlog, where that is needed, and whether
// q wants the event.
func (d *delivery) readFor(q *queue, n uint64) (text []byte, wanted bool, err error) {
	if q.filter == nil && !q.root.libudev {
		return nil, true, nil
	}
	all, err := d.backlog.read(n)
	if err != nil {
		return nil, false, err
	}
	text = []byte(all)
	if q.filter == nil {
		return text, true, nil
	}
	// What cannot be parsed passes: better an event too many than one that is lost unseen.
	p, err := spool.Parse(text)
	if err != nil {
		return nil, true, nil
	}
	return text, wants(q, p), nil
}

// linkKept links event n of the backlog into q. For libudev-compat it writes one that is
// too long anew.
func (d *delivery) linkKept(q *queue, n uint64, text []byte) error {
	if q.root.libudev {
		fitted, cut, err := FitLibudev(text)
		if err != nil {
			d.notice("an event is not given to libudev-compat: " + err.Error())
			return nil
		}
		if len(cut) > 0 {
			return d.putInto(q, spool.EventName(n), fitted)
		}
	}
	return d.backlog.link(n, q.fd)
}

// putInto writes an event for one queue only. EEXIST says that the client made a file of that name.
func (d *delivery) putInto(q *queue, name string, text []byte) error {
	f, err := d.files.create(text, name)
	if err != nil {
		return err
	}
	err = d.files.link(f, q.fd, name)
	d.files.close(f)
	return err
}

// feedGap tells q of the events that are lost: those from its cursor up to the i-th of
// the backlog. The gap takes the number of the last of them.
func (d *delivery) feedGap(q *queue, i int) (more bool) {
	next := d.counter.load(wordLast) + 1
	if i < len(d.backlog.events) {
		next = d.backlog.events[i]
	}
	from := q.cursor
	text := d.markHeader(gapPacket(next-from, "the queue was full for too long").Append(nil))
	d.setCursor(q, next)
	if err := d.putInto(q, spool.EventName(next-1), text); err != nil && err != unix.EEXIST {
		d.setCursor(q, from)
		d.upkeep.retry = true
		return false
	}
	d.given(q, next-1, len(text))
	return true
}
