package main

import (
	_ "embed"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/spool"
	"devspool/hotplug/spool/broker"
	"devspool/hotplug/uevent"
)

// fanoutSource is the C program beside which the spool is measured.
//
//go:embed c/fanout.c
var fanoutSource string

// Where the spool lies, and beside it the directories for the C program.
const (
	benchPrivate = "/dev/.devspool"
	benchBare    = benchPrivate + "/spool/bare"
)

// spool measures what it costs to hand an event to clients.
func (b *bench) spool() error {
	rounds := b.opts.rounds()
	b.report.section("Spool", "CPU per event, least of %d runs; in place of %s a C program that makes the bare calls", rounds, rival)
	if _, err := os.Stat(b.jail.program(fanoutFile)); err != nil {
		b.report.note("NOT MEASURED: no C compiler")
	}
	for _, clients := range []int{1, 10, 100} {
		if err := b.fanOut(clients, rounds); err != nil {
			return err
		}
	}
	if err := b.queued(rounds); err != nil {
		return err
	}
	if err := b.nobody(); err != nil {
		return err
	}
	if err := b.thousand(); err != nil {
		return err
	}
	return b.flood()
}

// fanOut measures events to so many queues that nobody reads.
func (b *bench) fanOut(clients, rounds int) error {
	events := b.opts.scaled(2000) / max(1, clients/25)
	links, tails, copies, netlink := figures{}, figures{}, figures{}, figures{}
	for range rounds {
		for _, step := range []struct {
			f    figures
			name string
			run  func() (float64, error)
		}{
			{links, ours, func() (float64, error) { return b.published(clients, events, ".nolinks") }},
			{links, rival, func() (float64, error) { return b.bare("links", clients, events) }},
			{tails, ours, func() (float64, error) { return b.published(clients, events, "") }},
			{copies, rival, func() (float64, error) { return b.bare("copies", clients, events) }},
			{netlink, rival, func() (float64, error) { return multicast(clients, min(events, 200)) }},
		} {
			cost, err := step.run()
			if err != nil {
				return err
			}
			if cost > 0 {
				step.f.least(step.name, cost)
			}
		}
	}
	to := fmt.Sprintf("to %d", clients)
	b.report.ratio(to, links, microseconds, 1.3)
	tails[rival] = links[rival]
	b.report.ratio("  with head and tail", tails, microseconds, 0)
	copies[ours], netlink[ours] = links[ours], links[ours]
	target := 0.0
	if clients == 100 {
		target = 0.7
	}
	b.report.ratio("  beside a copy for each", copies, microseconds, target)
	b.report.ratio("  beside a netlink multicast", netlink, microseconds, 0)
	return nil
}

// withSpool runs f with a spool on an empty /dev.
func (b *bench) withSpool(o broker.Options, f func(*broker.Broker) error) error {
	return b.within(world{}, func() error {
		o.Private, o.Events, o.Mount, o.Resident = benchPrivate, spool.DefaultEvents, true, true
		s, err := broker.Open(o)
		if err != nil {
			return err
		}
		defer s.Close()
		return f(s)
	})
}

// makeQueues makes queues of this process's own.
func makeQueues(count int, mark string) ([]string, error) {
	var all []string
	for i := range count {
		name := fmt.Sprintf("q%d-%d", i, os.Getpid())
		hidden, live := filepath.Join(spool.DefaultEvents, "."+name), filepath.Join(spool.DefaultEvents, name)
		if err := os.Mkdir(hidden, 0o755); err != nil {
			return nil, err
		}
		if mark != "" {
			if err := os.WriteFile(filepath.Join(hidden, mark), nil, 0o644); err != nil {
				return nil, err
			}
		}
		if err := os.Rename(hidden, live); err != nil {
			return nil, err
		}
		all = append(all, live)
	}
	return all, nil
}

// benchEvent and benchMore are an event of the usual length, as the loop publishes it.
var benchEvent, _ = uevent.FromEnviron([]string{
	"ACTION=change", "DEVPATH=/devices/virtual/mem/null", "SUBSYSTEM=mem", "SYNTH_UUID=0", "MAJOR=1", "MINOR=3",
	"DEVMODE=0666", "SEQNUM=11165275",
})

var benchMore = []string{"DEVNAME=/dev/null", "DEVLINKS=/dev/char/1:3", "USEC_INITIALIZED=123450000"}

// ownCPU returns the CPU time that this process has used, in seconds.
func ownCPU() float64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t)
	return time.Duration(t.Nano()).Seconds()
}

// publishMany returns the CPU of one of so many events.
func publishMany(s *broker.Broker, events int) (float64, error) {
	start := ownCPU()
	for range events {
		if err := s.Publish(benchEvent, benchMore); err != nil {
			return 0, err
		}
	}
	return (ownCPU() - start) / float64(events), nil
}

// published returns the CPU of an event to so many queues.
func (b *bench) published(clients, events int, mark string) (cost float64, err error) {
	err = b.withSpool(broker.Options{}, func(s *broker.Broker) error {
		if _, err := makeQueues(clients, mark); err != nil {
			return err
		}
		// The first events find the queues, and are no measure.
		if _, err := publishMany(s, 10); err != nil {
			return err
		}
		cost, err = publishMany(s, events)
		return err
	})
	return cost, err
}

// bare returns what the C program needs for an event to so many directories.
func (b *bench) bare(how string, clients, events int) (cost float64, err error) {
	err = b.withSpool(broker.Options{}, func(*broker.Broker) error {
		dirs, err := makeBare(clients)
		if err == nil {
			cost, err = b.fanOutC(how, events, 0, dirs)
		}
		return err
	})
	return cost, err
}

// makeBare makes directories for the C program, on the spool's tmpfs, as links need one file
// system.
func makeBare(count int) ([]string, error) {
	var dirs []string
	for i := range count {
		dirs = append(dirs, filepath.Join(benchBare, strconv.Itoa(i)))
		if err := os.MkdirAll(dirs[i], 0o755); err != nil {
			return nil, err
		}
	}
	return dirs, nil
}

// fanOutC runs the C program; 0 stands for that there is none.
func (b *bench) fanOutC(how string, events int, pause time.Duration, dirs []string) (float64, error) {
	program := b.jail.program(fanoutFile)
	if _, err := os.Stat(program); err != nil {
		return 0, nil
	}
	args := []string{how, strconv.Itoa(events), strconv.Itoa(int(pause.Microseconds()))}
	cmd := b.jail.command(contestant{path: program}, append(args, dirs...))
	cmd.Stdout = nil
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", fanoutFile, err)
	}
	nanoseconds, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	return nanoseconds / 1e9, err
}

// multicast returns the CPU of sending a message to so many netlink sockets.
func multicast(clients, events int) (float64, error) {
	const group = 1 << 3
	open := func(bind *unix.SockaddrNetlink) (int, error) {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
		if err == nil {
			err = unix.Bind(fd, bind)
		}
		// Room for all events of a run, since nobody reads them.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
		return fd, err
	}
	for range clients {
		fd, err := open(&unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: group})
		if err != nil {
			return 0, err
		}
		defer unix.Close(fd)
	}
	fd, err := open(&unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	text := benchEvent.AppendMessage(nil)
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: group}
	start := ownCPU()
	for range events {
		if err := unix.Sendto(fd, text, 0, to); err != nil {
			return 0, fmt.Errorf("multicast: %w", err)
		}
	}
	return (ownCPU() - start) / float64(events), nil
}

// queued compares an event to a queue in which little is unread with one to a
// queue in which much is.
func (b *bench) queued(rounds int) error {
	// The rival's column has the queue in which little is unread.
	const few, many, step = 10, 10_000, 200
	for _, kind := range []struct {
		mark, label string
	}{{".nolinks", ""}, {"", ", with head and tail"}} {
		cost := figures{}
		for range rounds {
			err := b.withSpool(broker.Options{Window: 4 * many}, func(s *broker.Broker) error {
				if _, err := makeQueues(1, kind.mark); err != nil {
					return err
				}
				for _, at := range []struct {
					name string
					fill int
				}{{rival, few}, {ours, many - few - step}} {
					if _, err := publishMany(s, at.fill); err != nil {
						return err
					}
					c, err := publishMany(s, step)
					if err != nil {
						return err
					}
					cost.least(at.name, c)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		b.report.ratio(fmt.Sprintf("with %s queued, beside %d%s", count(many), few, kind.label), cost, microseconds, 1.2)
	}
	return nil
}

// nobody compares the loop with a spool that nobody listens to with one without.
func (b *bench) nobody() error {
	events := b.opts.scaled(20_000)
	s, err := b.newStage(events)
	if err != nil {
		return err
	}
	defer s.close()
	loads, err := s.loads()
	if err != nil {
		return err
	}
	// The rival's column has our own loop without a spool.
	path := b.jail.program(oursFile)
	for _, l := range loads {
		cost := figures{}
		for range b.opts.rounds() {
			for name, prefix := range map[string][]string{ours: nil, rival: {"--events", "none"}} {
				cpu, err := b.playLoad(contestant{name: ours, path: path, prefix: prefix}, emptyConf, l)
				if err != nil {
					return err
				}
				cost.least(name, cpu.Seconds()/float64(l.events))
			}
		}
		b.report.ratio("loop, no client, beside no spool: "+l.name, cost, microseconds, 1.05)
	}
	return nil
}

// changeOfNull is what benchEvent is made of.
var changeOfNull = kerneltest.Event{Action: "change", Devpath: benchEvent.Devpath,
	Vars: []string{"SUBSYSTEM=mem", "MAJOR=1", "MINOR=3", "DEVNAME=null", "DEVMODE=0666"}}

// thousand has as many clients read what the loop publishes at a steady rate, and
// takes the median of the runs.
func (b *bench) thousand() error {
	const clients, pause = 1000, 10 * time.Millisecond
	events := b.opts.scaled(400)
	var our, bare []float64
	missing := 0.0
	for range b.opts.rounds() {
		each, arrived, err := b.toReaders(clients, events, pause)
		if err != nil {
			return err
		}
		our = append(our, each)
		missing = max(missing, float64(int64(events*clients)-arrived))
		if each, err = b.bareToReaders(clients, events, pause); err != nil {
			return err
		}
		bare = append(bare, each)
	}
	// How often readers and writer meet at a directory is a matter of luck, and the
	// least of that is no measure.
	cost := figures{ours: median(our), rival: median(bare)}
	b.report.ratio(fmt.Sprintf("loop, to %s that read, %d a second", count(clients), time.Second/pause), cost, microseconds, 1.3)
	b.report.limit("  of which did not arrive", figures{ours: missing}, count, 0)
	return nil
}

// toReaders returns what an event costs the loop, in seconds, and how many arrived.
func (b *bench) toReaders(clients, events int, pause time.Duration) (each float64, arrived int64, err error) {
	err = b.withDaemon(contestant{name: ours, path: b.jail.program(oursFile)}, world{conf: emptyConf}, func(d *daemon) error {
		queues, err := makeQueues(clients, ".nolinks")
		if err != nil {
			return err
		}
		p, err := popAll(queues)
		if err != nil {
			return err
		}
		defer p.stop()
		if err := d.settle(); err != nil {
			return err
		}
		injector, err := kerneltest.NewInjector()
		if err != nil {
			return err
		}
		defer injector.Close()
		before, err := d.cpu()
		if err != nil {
			return err
		}
		message := kerneltest.Message(changeOfNull)
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for range events {
			<-tick.C
			if err := injector.Write(message); err != nil {
				return err
			}
		}
		kerneltest.Eventually(patience, func() bool { return p.count.Load() == int64(events*clients) })
		arrived = p.count.Load()
		after, err := d.cpu()
		each = (after - before).Seconds() / float64(events)
		return err
	})
	return each, arrived, err
}

// bareToReaders is toReaders for the C program; 0 where there is none.
func (b *bench) bareToReaders(clients, events int, pause time.Duration) (each float64, err error) {
	err = b.withSpool(broker.Options{}, func(*broker.Broker) error {
		dirs, err := makeBare(clients + 1)
		if err != nil {
			return err
		}
		p, err := popAll(dirs[1:]) // the first keeps the file as long as it is linked
		if err != nil {
			return err
		}
		defer p.stop()
		each, err = b.fanOutC("links", events, pause, dirs)
		return err
	})
	return each, err
}

// popper takes out of directories whatever comes into them.
type popper struct {
	file  *os.File
	count atomic.Int64
}

// popAll starts a popper in a goroutine; stop ends it.
func popAll(dirs []string) (*popper, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	p := &popper{file: os.NewFile(uintptr(fd), "inotify")}
	byWatch := map[int32]string{}
	for _, dir := range dirs {
		watch, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE)
		if err != nil {
			p.stop()
			return nil, err
		}
		byWatch[int32(watch)] = dir
	}
	go p.pop(byWatch)
	return p, nil
}

func (p *popper) stop() { p.file.Close() }

// pop removes each file that inotify reports, until stop closes that. It never reads one: what
// is measured is the publisher.
func (p *popper) pop(byWatch map[int32]string) {
	buf := make([]byte, 64<<10)
	for {
		n, err := p.file.Read(buf)
		if err != nil {
			return
		}
		for rest := buf[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			watch, name, end := inotifyEvent(rest)
			if watch < 0 { // the kernel lost count, the directories did not
				for _, dir := range byWatch {
					left, _ := filepath.Glob(dir + "/[0-9]*")
					for _, path := range left {
						p.take(path)
					}
				}
			} else {
				p.take(byWatch[watch] + "/" + name)
			}
			rest = rest[end:]
		}
	}
}

func (p *popper) take(path string) {
	if unix.Unlink(path) == nil {
		p.count.Add(1)
	}
}

// inotifyEvent reads the first of several events, and says where it ends.
func inotifyEvent(b []byte) (watch int32, name string, end int) {
	watch = int32(binary.NativeEndian.Uint32(b))
	end = unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
	return watch, unix.ByteSliceToString(b[unix.SizeofInotifyEvent:end]), end
}
