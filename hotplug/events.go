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

// HasSpool tells that clients can have events in queues of their own.
const HasSpool = true

// spoolSink is what keeps the spool open.
type spoolSink struct {
	publisher *sink.Spool // or nil
}

// open adds the sink by which events go to every queue, as the options say. What stays for
// events to come keeps the spool open.
func (s *spoolSink) open(r *runner) {
	switch {
	case r.Events == NoEvents:
		r.Events = ""
	case r.Events == "" && r.Dev == "/dev":
		r.Events = spool.DefaultEvents
	}
	libudev := r.Dev + strings.TrimPrefix(spool.DefaultLibudev, "/dev")
	if r.Libudev == "" && (r.Compat || r.way != RunLoop && r.Events != "" && !absent(libudev)) {
		r.Libudev = libudev // the kernel gives its helper no options, so that goes by what is there
	}
	resident := r.way == RunLoop || r.Kernel
	if r.DryRun || r.Events == "" && r.Libudev == "" || !resident && absent(r.Events) && absent(r.Libudev) {
		return // nobody has a queue; the loop or the kernel's first helper makes the roots
	}
	s.publisher = sink.NewSpool(broker.Options{
		Private: r.Dev + "/" + nodes.Private, Events: r.Events, Libudev: r.Libudev,
		// Another directory than /dev is for a look; nothing is to be unmounted after it.
		Mount: r.Dev == "/dev", Join: !resident, Resident: resident, Zero: r.Zero,
	}, r.log)
	r.sinks = append(r.sinks, s.publisher.Sink())
}

// close lets go of the spool. Of a process that was told to end, or is a loop, what is
// mounted goes too.
func (s *spoolSink) close(r *runner) {
	if s.publisher == nil {
		return
	}
	if r.stopped || r.way == RunLoop {
		s.publisher.Leave()
	}
	s.publisher.Close()
}

func absent(path string) bool { return path == "" || unix.Access(path, unix.F_OK) != nil }
