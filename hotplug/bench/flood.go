package main

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/spool"
)

// flooded is how many directories a hostile user makes where clients have their
// queues, as fast as can be.
const flooded = 100_000

// deluge is what came of such a flood.
type deluge struct {
	latencies []float64     // of events to a client meanwhile, in seconds
	gone      time.Duration // how long what is over the limit was there after the end
	refused   int           // so many directories the kernel did not let be made
}

// flood measures what a flood costs a client, and how soon it is over.
func (b *bench) flood() error {
	gone, middle, worst := figures{}, figures{}, figures{}
	refused := flooded
	for range b.opts.rounds() {
		var f deluge
		err := b.withDaemon(contestant{name: ours, path: b.jail.program(oursFile)}, world{conf: emptyConf}, func(*daemon) (err error) {
			f, err = floodOnce()
			return err
		})
		if err != nil {
			return err
		}
		gone.most(ours, f.gone.Seconds())
		middle.least(ours, median(f.latencies))
		worst.most(ours, slices.Max(f.latencies))
		refused = min(refused, f.refused)
	}
	b.report.limit("flood of "+count(flooded)+" directories: surplus gone after its end", gone, milliseconds, 0.1)
	b.report.limit("  event to a client meanwhile, median", middle, milliseconds, 0.01)
	b.report.limit("  event to a client meanwhile, worst of all runs", worst, milliseconds, 0.1)
	b.report.note("of these directories the kernel refused %s or more", count(float64(refused)))
	return nil
}

// floodOnce has a hostile user make directories while a client waits for one event after the
// other.
func floodOnce() (f deluge, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	events, err := spool.Subscribe(ctx, spool.Subscription{})
	if err != nil {
		return f, err
	}
	defer events.Close()
	injector, err := kerneltest.NewInjector()
	if err != nil {
		return f, err
	}
	defer injector.Close()
	message := kerneltest.Message(changeOfNull)
	ended := make(chan time.Time, 1)
	go func() {
		f.refused = makeAsNobody(flooded)
		ended <- time.Now()
	}()
	for {
		start := time.Now()
		if err := injector.Write(message); err != nil {
			return f, err
		}
		if _, err := events.Next(); err != nil {
			return f, err
		}
		f.latencies = append(f.latencies, time.Since(start).Seconds())
		select {
		case end := <-ended:
			f.gone, err = untilGone(end)
			return f, err
		case <-time.After(time.Millisecond):
		}
	}
}

// makeAsNobody makes directories as a user without rights, and returns how many the
// kernel refused.
func makeAsNobody(count int) (refused int) {
	runtime.LockOSThread() // for good: the thread ends, and with it that it is that user
	// The user of this thread for files alone (setfsuid(2)): no other thread changes.
	unix.Setfsuid(65534)
	for i := range count {
		if unix.Mkdir(spool.DefaultEvents+"/flood-1-"+strconv.Itoa(i), 0o755) == unix.EACCES {
			refused++
		}
	}
	return refused
}

// untilGone returns how long after end no user has more directories than is allowed.
func untilGone(end time.Time) (time.Duration, error) {
	const limit = 256
	for time.Since(end) < patience {
		var st unix.Stat_t
		if err := unix.Stat(spool.DefaultEvents, &st); err != nil {
			return 0, err
		}
		if st.Nlink-2 <= 1+limit { // as tmpfs counts links; one is the client's
			return time.Since(end), nil
		}
	}
	return 0, errors.New("the surplus stays")
}
