package scheduler

import (
	"time"

	"devspool/hotplug/sys"
)

// Batch is a set of events whose end can be waited for. Scheduler.mu guards its fields until
// end is closed.
type Batch struct {
	unfinished int           // events under way, and one while more may be added
	failed     bool          // a part of an event failed
	end        chan struct{} // closed when all events are done
}

// newBatch returns a Batch without events. RunIn counts itself as unfinished while it adds some.
func newBatch() *Batch { return &Batch{end: make(chan struct{})} }

// NewBatch returns a Batch that never ends: RunIn can always add events to it.
func NewBatch() *Batch {
	b := newBatch()
	// No call takes this one away.
	b.unfinished++
	return b
}

// Wait returns when all events of the batch are done, commands included, and reports
// whether everything succeeded.
func (b *Batch) Wait() (ok bool) {
	<-b.end
	return !b.failed
}

// EndsWithin reports whether all events of the batch are done within limit.
func (b *Batch) EndsWithin(limit time.Duration) bool {
	select {
	case <-b.end: // no timer is needed
		return true
	default:
	}
	select {
	case <-b.end:
		return true
	case <-sys.After(limit):
		return false
	}
}

// partDone counts one event of the batch as done, or that no more will be added.
func (b *Batch) partDone() {
	if b.unfinished--; b.unfinished == 0 {
		close(b.end)
	}
}
