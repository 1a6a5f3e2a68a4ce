package sink

import (
	"os"
	"strconv"
	"time"

	"devspool/hotplug/log"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// pipeQueue is how many events may wait for the reader of a Pipe.
const pipeQueue = 4096

// Pipe writes each event at its end to a descriptor: the kernel's message and one more NUL.
// A reader that is too slow loses events, which the log and a gap report.
type Pipe struct {
	log     *log.Logger
	name    string // of the descriptor, for the log
	file    *os.File
	queue   chan []byte        // messages that are not written yet
	flush   chan chan struct{} // closed by serve when the queue is written; see Flush
	dropped int                // events dropped since the queue was full; 0 while it takes events
}

// NewPipe returns a Pipe that writes to fd, which nothing else may use from now on. It starts
// a goroutine that never ends.
func NewPipe(fd int, logger *log.Logger) *Pipe {
	p := newPipe(fd, logger)
	go p.serve()
	return p
}

// newPipe is NewPipe without the goroutine, so that nothing takes from the queue.
func newPipe(fd int, logger *log.Logger) *Pipe {
	name := "descriptor " + strconv.Itoa(fd)
	return &Pipe{
		log: logger, name: name, file: os.NewFile(uintptr(fd), name),
		queue: make(chan []byte, pipeQueue), flush: make(chan chan struct{}),
	}
}

// Sink returns a Sink that queues each event, late ones too, and each gap as an event with
// UEVENT_GAP=1. It does not block.
func (p *Pipe) Sink() scheduler.Sink { return sinkOf(p.send) }

// send queues an event, unless the queue is full. Once it was full, it has to be half empty
// before it takes events again, so that a slow reader gets one gap and not many.
func (p *Pipe) send(e *uevent.Event) {
	if waiting := len(p.queue); waiting == pipeQueue || p.dropped > 0 && waiting > pipeQueue/2 {
		if p.dropped == 0 {
			p.log.Print(log.Warning, "the reader of "+p.name+" is too slow: it loses events from SEQNUM "+strconv.FormatUint(e.Seqnum, 10))
		}
		p.dropped++
		return
	}
	if p.dropped > 0 {
		p.log.Print(log.Warning, "the reader of "+p.name+" has lost "+strconv.Itoa(p.dropped)+" events, up to SEQNUM "+strconv.FormatUint(e.Seqnum, 10))
		// Half of the queue is free here, so there is room for the gap and for the event.
		p.put(uevent.Gap("REASON=" + strconv.Itoa(p.dropped) + " events were lost, since the reader is too slow"))
		p.dropped = 0
	}
	p.put(e)
}

// put queues an event. The queue must have room for it.
func (p *Pipe) put(e *uevent.Event) {
	p.queue <- append(e.AppendMessage(make([]byte, 0, 512)), 0)
}

// Flush returns when all that is queued has been written, or after limit: serve may hang in a write
// to a reader that does not read.
func (p *Pipe) Flush(limit time.Duration) {
	over, done := sys.After(limit), make(chan struct{})
	select {
	case p.flush <- done:
	case <-over:
		return
	}
	select {
	case <-done:
	case <-over:
	}
}

// serve writes what is queued. After a failure it writes nothing more, and the log says so.
func (p *Pipe) serve() {
	broken := false
	write := func(msg []byte) {
		if broken {
			return
		}
		if _, err := p.file.Write(msg); err != nil {
			broken = true
			p.log.Print(log.Warning, "no further event is written to "+p.name+": "+err.Error())
		}
	}
	for {
		select {
		case msg := <-p.queue:
			write(msg)
		case done := <-p.flush:
			for len(p.queue) > 0 {
				write(<-p.queue)
			}
			close(done)
		}
	}
}
