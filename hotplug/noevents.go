//go:build nospool

package hotplug

// A build without the spool is smaller, for boards without clients.

// HasSpool reports whether clients can receive events in queues of their own.
const HasSpool = false

// spoolSink has nothing to open.
type spoolSink struct{}

func (*spoolSink) open(*runner)  {}
func (*spoolSink) close(*runner) {}
