//go:build !nospool

package hotplug

import (
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sink"
	"devspool/hotplug/spool"
	"devspool/hotplug/spool/broker"
	"devspool/nodes"
)

// HasSpool reports whether clients can receive events in queues of their own.
const HasSpool = true

// spoolSink owns the sink to the spool. open is called before the scheduler exists, close after its
// last event.
type spoolSink struct {
	publisher *sink.Spool // nil where no spool is wanted
}

// open adds the sink to the spool, as the options say. A process that stays keeps the spool open and
// makes its directories; another one only publishes where these exist: most helpers find none, and
// pay two system calls.
func (s *spoolSink) open(r *runner) {
	switch {
	case r.Events == NoEvents:
		r.Events = ""
	case r.Events == "" && r.Dev == "/dev":
		r.Events = spool.DefaultEvents
	}
	libudev := r.Dev + strings.TrimPrefix(spool.DefaultLibudev, "/dev")
	if r.Libudev == "" && (r.Compat || r.way != RunLoop && r.Events != "" && !absent(libudev)) {
		r.Libudev = libudev // the kernel gives its helper no options, so the directory decides
	}
	resident := r.way == RunLoop || r.Kernel
	if r.DryRun || r.Events == "" && r.Libudev == "" || !resident && absent(r.Events) && absent(r.Libudev) {
		return // the loop or the first helper makes the directories, so there are no queues yet
	}
	s.publisher = sink.NewSpool(broker.Options{
		Private: r.Dev + "/" + nodes.Private, Events: r.Events, Libudev: r.Libudev,
		// A directory other than /dev is for a trial, after which nothing should have to be unmounted.
		Mount: r.Dev == "/dev", Join: !resident, Resident: resident, Zero: r.Zero,
	}, r.log)
	r.sinks = append(r.sinks, s.publisher.Sink())
}

// close closes the spool. A loop, or a process that was told to end, also unmounts it.
func (s *spoolSink) close(r *runner) {
	if s.publisher == nil {
		return
	}
	if r.stopped || r.way == RunLoop && !r.handedOver {
		s.publisher.Leave()
	}
	s.publisher.Close()
}

// absent reports whether there is no file at path.
func absent(path string) bool { return path == "" || unix.Access(path, unix.F_OK) != nil }
