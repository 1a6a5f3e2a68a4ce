package scheduler

import (
	"sync"
	"time"

	"devspool/hotplug/log"
	"devspool/hotplug/uevent"
)

// Most disks answer at once, so that one goroutine reads them one after the other, which
// costs the least. When a disk has not answered for patientFor another goroutine reads those
// that wait. At most maxHeldUp are held up so, but for those whose disk has not answered
// for hungAfter. At probeLimit the event of the disk goes on without.
//
// Devices of USB are read in the same way, which for these means attributes in sysfs that the
// kernel has locked. There may be many, all behind one hub, and no disk is to wait for them: they
// do not count among maxHeldUp.
const (
	patientFor = 20 * time.Millisecond
	hungAfter  = time.Second
	probeLimit = 10 * time.Second
	maxHeldUp  = 8
)

// disks are those that are read for their names.
type disks struct {
	mu      sync.Mutex // guards the fields below, and is taken last
	waiting []*diskRead
	read    []*diskRead     // those that the events do not have yet
	readers int             // goroutines that read and are not held up: 0 or 1
	heldUp  int             // disks that hold one up, but not for hungAfter
	hung    map[string]bool // devpaths of disks that have not answered, though their time is over
	moves   int             // how often /dev and /sys were moved: see View.Moved
}

// diskRead is a disk that is read for a task. disks.mu guards the fields from id on.
type diskRead struct {
	task  *task
	event *uevent.Event
	slots int // what it takes of maxHeldUp: 1 for a disk

	moves    int       // disks.moves when the read began
	id       *Identity // what was found
	progress progress
}

// progress is how far a diskRead is. It only goes forward, from each to a later one; a read may end
// in any of the first three, and after isGivenUp the result is only a reason for another event.
type progress uint8

const (
	isAsked progress = iota
	isSlow           // it holds its reader up
	isHung           // for so long that the reader does not count
	isGivenUp
	isRead
)

// readLocked has the disk of t read, which t needs to be identified, and then starts t
// again. It returns false where t has to do without: a further goroutine that reads a disk
// that hangs would hang too.
func (s *Scheduler) readLocked(t *task) bool {
	d := &s.disks
	d.mu.Lock()
	// Each event of a disk that hangs would cost a further goroutine, and a thread in the kernel.
	hangs := d.hung[t.event.Devpath]
	if hangs {
		s.applier.identifyUnread(t)
	} else {
		t.state = reading
		s.applier.watchUnset(t)
		// Until deliverYield or giveUp, so that Drain waits for it.
		s.pool.inFlight.Add(1)
		r := &diskRead{task: t, event: t.event}
		if t.event.Dev.Block {
			r.slots = 1
		}
		d.waiting = append(d.waiting, r)
		s.addReader()
	}
	d.mu.Unlock()
	return !hangs
}

// addReader starts a reader where one is wanted, if only to deliver what one had read before
// it was held up. disks.mu is held.
func (s *Scheduler) addReader() {
	if d := &s.disks; len(d.waiting)+len(d.read) > 0 && d.readers == 0 && d.heldUp < maxHeldUp {
		d.readers++
		go s.readDisks()
	}
}

// readDisks reads one disk after the other.
func (s *Scheduler) readDisks() {
	d := &s.disks
	for {
		d.mu.Lock()
		if len(d.waiting) == 0 {
			d.readers--
			d.mu.Unlock()
			break
		}
		r := d.waiting[0]
		// nil, or the array would keep the task in memory.
		d.waiting[0], d.waiting = nil, d.waiting[1:]
		// Noted when the read begins: a move in the midst of it makes the result doubtful.
		r.moves = d.moves
		d.mu.Unlock()

		// Without any mutex: a read may take as long as the disk does.
		stop := time.AfterFunc(patientFor, func() { s.holdUp(r) }).Stop
		// The Identifier is set once, by New, so it may be called without mu.
		id := s.applier.names.Probe(r.event)
		stop()

		d.mu.Lock()
		was := r.progress
		r.id, r.progress = id, isRead
		switch was {
		case isGivenUp:
			delete(d.hung, r.event.Devpath)
			d.mu.Unlock()
			// A disk that had to spin up, say. What is to be done is done in the order of events.
			if !s.applier.isDryRun() {
				_ = s.applier.sys.Write(r.event.Devpath+"/uevent", uevent.Change) // it may have gone
			}
			return
		case isSlow:
			d.heldUp -= r.slots
		}
		if was != isAsked { // another has this one's place
			s.addReader()
		}
		// From here deliverYield takes it, which needs Scheduler.mu to start the task.
		d.read = append(d.read, r)
		d.mu.Unlock()
		if was != isAsked {
			break
		}
		if s.mu.TryLock() { // else later, with those of other disks
			s.deliverYield()
			s.mu.Unlock()
		}
	}
	s.mu.Lock()
	s.deliverYield()
	s.mu.Unlock()
}

// deliverYield starts the tasks whose disks have been read.
func (s *Scheduler) deliverYield() {
	d := &s.disks
	d.mu.Lock()
	read, moves := d.read, d.moves
	d.read = nil
	d.mu.Unlock()
	// Without disks.mu: a task that starts may take it, in readLocked.
	for _, r := range read {
		if r.moves == moves { // else the task has its disk read again when it starts
			s.applier.setIdentity(r.task, r.id)
		}
		s.restartYield(r.task)
		s.pool.inFlight.Done()
	}
	s.endSliceYield()
}

// holdUp lets others be read beside a disk that has not answered for patientFor, and one more
// where it has not for hungAfter.
func (s *Scheduler) holdUp(r *diskRead) {
	d := &s.disks
	d.mu.Lock()
	switch r.progress {
	case isAsked:
		r.progress = isSlow
		d.readers--
		d.heldUp += r.slots
		time.AfterFunc(hungAfter-patientFor, func() { s.holdUp(r) })
	case isSlow:
		r.progress = isHung
		d.heldUp -= r.slots
		time.AfterFunc(probeLimit-hungAfter, func() { s.giveUp(r) })
	}
	s.addReader()
	d.mu.Unlock()
}

// giveUp has an event go on without what its disk holds, unless that is known by now. The reader
// stays with the disk, and has the kernel send another event when that has answered.
func (s *Scheduler) giveUp(r *diskRead) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &s.disks
	d.mu.Lock()
	// The read ended while this function waited for the mutexes.
	if r.progress == isRead {
		d.mu.Unlock()
		return
	}
	r.progress = isGivenUp
	if d.hung == nil {
		d.hung = map[string]bool{}
	}
	// The reader that still waits for the device takes this away when it answers.
	d.hung[r.event.Devpath] = true
	d.mu.Unlock()
	s.log.Event(log.Warning, "slow", r.event, "the device could not be read in "+probeLimit.String()+
		"; it has no names by its contents until it answers")
	s.applier.identifyUnread(r.task)
	s.restartYield(r.task)
	s.pool.inFlight.Done()
	s.endSliceYield()
}
