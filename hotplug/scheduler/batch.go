package scheduler

import (
	"time"

	"devspool/hotplug/sys"
)

// Batch is a set of events whose end somebody waits for.
type Batch struct {
	open   int // events under way, and one for as long as more may come
	failed bool
	End    chan struct{}
}

// NewBatch returns a Batch whose end never comes by itself: events may be added to it for
// ever.
func NewBatch() *Batch { return &Batch{open: 1, End: make(chan struct{})} }

// Wait returns when all of the events are done, commands included, and reports whether
// everything could be done.
func (b *Batch) Wait() (ok bool) {
	<-b.End
	return !b.failed
}

// EndsWithin reports whether the batch comes to its end within the limit.
func (b *Batch) EndsWithin(limit time.Duration) bool {
	select {
	case <-b.End: // without a timer where it is over
		return true
	default:
	}
	select {
	case <-b.End:
		return true
	case <-sys.After(limit):
		return false
	}
}

// partDone counts one part of the batch as done.
func (b *Batch) partDone() {
	if b.open--; b.open == 0 {
		close(b.End)
	}
}
