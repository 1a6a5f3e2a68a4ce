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

// outputQueue is how many events wait for the reader of an Output.
const outputQueue = 4096

// Pipe writes each event at its end to a descriptor: the kernel's message and a
// further NUL. A reader that is too slow loses events, which the log tells.
type Pipe struct {
	log     *log.Logger
	name    string
	file    *os.File
	queue   chan []byte
	flush   chan chan struct{}
	dropped int // events since the queue was full
}

// NewPipe returns an Output to fd, which it uses alone from then on.
func NewPipe(fd int, logger *log.Logger) *Pipe {
	o := newPipe(fd, logger)
	go o.serve()
	return o
}

func newPipe(fd int, logger *log.Logger) *Pipe {
	name := "descriptor " + strconv.Itoa(fd)
	return &Pipe{
		log: logger, name: name, file: os.NewFile(uintptr(fd), name),
		queue: make(chan []byte, outputQueue), flush: make(chan chan struct{}),
	}
}

// Sink returns what queues each event, late or not, and gaps too, as events with
// UEVENT_GAP=1. It does not block.
func (o *Pipe) Sink() scheduler.Sink { return sinkOf(o.send) }

func (o *Pipe) send(e *uevent.Event) {
	// Once it was full, the queue has to be half empty, so that there is one gap
	// and not many.
	if waiting := len(o.queue); waiting == outputQueue || o.dropped > 0 && waiting > outputQueue/2 {
		if o.dropped == 0 {
			o.log.Print(log.Warning, "the reader of "+o.name+" is too slow: it loses events from SEQNUM "+strconv.FormatUint(e.Seqnum, 10))
		}
		o.dropped++
		return
	}
	if o.dropped > 0 {
		o.log.Print(log.Warning, "the reader of "+o.name+" has lost "+strconv.Itoa(o.dropped)+" events, up to SEQNUM "+strconv.FormatUint(e.Seqnum, 10))
		o.put(uevent.Gap("REASON=" + strconv.Itoa(o.dropped) + " events were lost, since the reader is too slow"))
		o.dropped = 0
	}
	o.put(e)
}

// put queues an event. There is room for it.
func (o *Pipe) put(e *uevent.Event) {
	o.queue <- append(e.AppendMessage(make([]byte, 0, 512)), 0)
}

// Flush waits until the reader has taken what is queued, for limit at most.
func (o *Pipe) Flush(limit time.Duration) {
	over, done := sys.After(limit), make(chan struct{})
	select {
	case o.flush <- done:
	case <-over:
		return
	}
	select {
	case <-done:
	case <-over:
	}
}

// serve writes what is queued, and waits for the reader where it must.
func (o *Pipe) serve() {
	broken := false
	write := func(msg []byte) {
		if broken {
			return
		}
		if _, err := o.file.Write(msg); err != nil {
			broken = true
			o.log.Print(log.Warning, "no further event is written to "+o.name+": "+err.Error())
		}
	}
	for {
		select {
		case msg := <-o.queue:
			write(msg)
		case done := <-o.flush:
			for len(o.queue) > 0 {
				write(<-o.queue)
			}
			close(done)
		}
	}
}
