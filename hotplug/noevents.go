//go:build nospool

package hotplug

// A program without the spool, for boards where nobody listens: it is smaller.

// HasSpool tells that clients can have events in queues of their own.
const HasSpool = false

type spoolSink struct{}

func (*spoolSink) open(*runner)  {}
func (*spoolSink) close(*runner) {}
