package applet

import (
	"cmp"
	"errors"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/cli"
	"devspool/hotplug/spool"
	"devspool/hotplug/uevent"
)

// Replay returns an add event of each device that is there.
type Replay func() ([]*uevent.Event, error)

// watch is what its command line asks for, and the clock that tests replace.
type watch struct {
	Streams
	property, json, replay bool   // as the options of these names
	events                 string // the spool's directory, "" for the usual one
	subsystem              string
	filter                 []string      // conditions, as .filter has them
	clock                  func() string // the time for a row
}

// options is the table of the options, which are stored in w.
func (w *watch) options() []cli.Option {
	return []cli.Option{
		{Name: "--subsystem S[/T]", Text: &w.subsystem, Help: "only events of subsystem S, and devtype T"},
		{Name: "--property", Given: &w.property, Help: "print all variables of each event"},
		{Name: "--json", Given: &w.json, Help: "print each event as a line of JSON"},
		{Name: "--replay", Given: &w.replay, Help: "begin with an add of each device that is there"},
		{Name: "--events DIR", Text: &w.events, Help: "the spool's directory (/dev/events)"},
	}
}

// watchUsage is the help, with the options from the table that parse reads them by.
func watchUsage() string {
	return `usage: devspool watch [OPTIONS] [CONDITION...]
prints each event when it is done, a line each: seconds since the boot, action,
device, subsystem

` + cli.Usage(new(watch).options(), false, "  ", 21) + `
CONDITION is subsystem=S[/T], devpath=PREFIX, tag=NAME or KEY=VALUE. Those of the
same key are alternatives; of different keys, all have to hold.
`
}

// Watch prints events until a signal ends it, and returns the exit code.
func Watch(args []string, s Streams, replay Replay) int {
	w := watch{Streams: s, clock: uptime}
	err := w.parse(args)
	if err == nil {
		err = w.run(interrupted(), replay)
	}
	if err == errInterrupted {
		return exitDone
	}
	return s.end(watchUsage, "watch", err)
}

// parse reads the command line. It checks the conditions here, since only here a wrong one
// is an error of usage.
func (w *watch) parse(args []string) error {
	rest, err := parse(args, w.options())
	if err != nil {
		return err
	}
	if w.property && w.json {
		return cli.Error("--json and --property exclude each other")
	}
	if w.subsystem != "" {
		w.filter = []string{"subsystem=" + w.subsystem}
	}
	w.filter = append(w.filter, rest...)
	for _, condition := range w.filter {
		if _, err := spool.ParseFilter(condition); err != nil {
			return cli.Error(condition + ": " + err.Error())
		}
	}
	return nil
}

// run subscribes before it replays, so that no event is missed between the two.
func (w *watch) run(ctx spool.Context, replay Replay) error {
	r, err := spool.Subscribe(ctx, spool.Subscription{Root: w.events, Name: "watch", Filter: w.filter})
	if errors.Is(err, unix.ENOENT) {
		return noSpool(cmp.Or(w.events, spool.DefaultEvents))
	}
	if err != nil {
		return err
	}
	defer r.Close()
	if w.replay {
		if err := w.replayed(replay); err != nil {
			return err
		}
	}
	for {
		p, err := r.Next()
		if err == nil {
			err = w.show(p)
		}
		// A file that is no event costs itself only.
		if err != nil && err != spool.ErrMalformed {
			return err
		}
	}
}

// replayed shows an add of each device that is there, as far as the filter lets them through.
// The broker has the filter for live events, but these do not pass through it.
func (w *watch) replayed(replay Replay) error {
	filter, err := spool.ParseFilter(strings.Join(w.filter, "\n"))
	if err != nil {
		return err
	}
	events, err := replay()
	if err != nil {
		return err
	}
	for _, e := range events {
		p := spool.Packet{Action: e.Action, Devpath: e.Devpath, Env: slices.Collect(e.Env())}
		if e.Devname != "" {
			p.Env = append(p.Env, "DEVNAME=/dev/"+e.Devname) // as it is in live events
		}
		if !filter.Match(p) {
			continue
		}
		if err := w.show(p); err != nil {
			return err
		}
	}
	return nil
}

// show writes one event in one go.
func (w *watch) show(p spool.Packet) error {
	var text []byte
	switch {
	case w.json:
		text = appendJSON(nil, p)
	case w.property:
		text = append(w.row(p), p.Append(nil)...)
		text = append(text, '\n')
	default:
		text = w.row(p)
	}
	return w.Streams.print(text)
}

// row returns the line that a person reads. Control bytes are escaped in it as they
// are in the event's file.
func (w *watch) row(p spool.Packet) []byte {
	get := func(key string) string {
		value, _ := p.Get(key)
		return spool.Escape(value)
	}
	action, what := spool.Escape(p.Action), spool.Escape(p.Devpath)
	if subsystem := get("SUBSYSTEM"); subsystem != "" {
		what += " (" + subsystem + ")"
	}
	if get(spool.GapKey) != "" {
		action, what = "gap", "events were lost"
		if lost := get("LOST"); lost != "" {
			what += ": " + lost
		}
		if reason := get("REASON"); reason != "" {
			what += " (" + reason + ")"
		}
	}
	return []byte(right(w.clock(), 14) + "  " + left(action, 8) + " " + what + "\n")
}

// uptime returns the seconds since the boot, to the microsecond.
func uptime() string {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return "-"
	}
	// The million keeps the leading zeros of the fraction, and is cut off again.
	micros := strconv.FormatInt(1_000_000+t.Nano()/1000%1_000_000, 10)
	return strconv.FormatInt(t.Nano()/1_000_000_000, 10) + "." + micros[1:]
}

// errInterrupted is returned when a signal has ended the watch. For the caller that is success.
var errInterrupted = errors.New("interrupted")

// signalled is a spool.Context that a signal ends.
type signalled chan struct{}

// interrupted returns a Context that the first signal ends. A hangup counts: the terminal is
// gone, and nobody reads what would be printed.
func interrupted() signalled {
	// Next returns when the channel is closed, and the queue is removed on the way out; a
	// signal that killed the process would leave that to the broker.
	ended, signals := make(signalled), make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	go func() {
		<-signals
		close(ended)
	}()
	return ended
}

func (s signalled) Done() <-chan struct{} { return s }

func (s signalled) Err() error {
	select {
	case <-s:
		return errInterrupted
	default:
		return nil
	}
}
