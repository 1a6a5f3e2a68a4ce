package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"devspool/hotplug/kerneltest"
)

// A storm's devices are named so that one rule's command runs for each of them
// whose number ends in two zeros.
const (
	stormEvents  = 300_000
	stormDevices = 20_000
	oneIn        = 100
	stormRule    = "bench[0-9]+00 root:disk 0660 @echo $SEQNUM >>%s\n"
)

// outcome is what a storm left.
type outcome struct {
	sent      time.Duration // how long the sender took
	drops     int           // events that found no room in the receive buffer
	commands  int           // commands that did not run
	nodes     int           // nodes that are not there
	survived  bool          // the daemon still runs, with the same socket
	footprint memory
}

// clean reports whether nothing at all was lost.
func (o outcome) clean() bool {
	return o.survived && o.drops == 0 && o.commands == 0 && o.nodes == 0
}

// storm sends events as fast as the kernel takes them, and counts what is lost.
func (b *bench) storm() error {
	events := b.opts.scaled(stormEvents)
	b.report.section("Storm", "%s events at full speed, 50 rules, a command for one in %d", count(float64(events)), oneIn)
	s, err := b.newStage(stormDevices)
	if err != nil {
		return err
	}
	defer s.close()
	messages := make([][]byte, stormDevices)
	for i := range messages {
		messages[i] = kerneltest.Message(made(i).Event("add"))
	}
	drops, commands, nodes, peak := figures{}, figures{}, figures{}, figures{}
	lost := false
	for _, c := range b.contestants {
		o, err := b.stormOn(c, s, messages, events)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		drops[c.name], commands[c.name], nodes[c.name] = float64(o.drops), float64(o.commands), float64(o.nodes)
		peak[c.name] = o.footprint.peak
		if !o.survived {
			b.report.note("%s did not get through it: it died, or opened its socket anew", c.name)
		}
		b.report.note("%s was sent %s events a second", c.name, count(float64(events)/o.sent.Seconds()))
		if c.name == ours {
			lost = !o.clean()
		}
	}
	b.report.limit("lost: no room in the receive buffer", drops, count, 0)
	b.report.limit("lost: commands that did not run", commands, count, 0)
	b.report.limit("lost: nodes that are not there", nodes, count, 0)
	b.report.ratio("memory at its peak (VmHWM)", peak, mebibytes, 0)
	if lost {
		return errors.New("events were lost") // no matter of speed
	}
	return nil
}

// stormOn lets the storm loose on one contestant.
func (b *bench) stormOn(c contestant, s *stage, messages [][]byte, events int) (o outcome, err error) {
	log := filepath.Join(b.jail.dir, "commands")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		return o, err
	}
	conf := strings.Replace(fiftyConf, "bench[0-9]+", fmt.Sprintf(stormRule, log)+"bench[0-9]+", 1)
	err = b.withDaemon(c, world{conf: c.conf(conf), sys: s.empty}, func(d *daemon) error {
		return over("/sys", s.full, func() error {
			o, err = s.rage(d, messages, events, log)
			return err
		})
	})
	return o, err
}

// rage sends the events and waits for what comes of them.
func (s *stage) rage(d *daemon, messages [][]byte, events int, log string) (o outcome, err error) {
	before, err := d.listening()
	if err != nil {
		return o, err
	}
	start := time.Now()
	// No pause, and no look at the buffer: what is lost is what is measured.
	for i := range events {
		if err := s.injector.Write(messages[i%len(messages)]); err != nil {
			return o, err
		}
	}
	o.sent = time.Since(start)
	if err := s.injector.Refused(); err != nil {
		return o, err
	}
	wanted := events / oneIn
	o.commands = wanted - awaitLines(log, wanted)
	settled := d.settle()
	after, err := d.listening()
	if err != nil {
		return o, err
	}
	o.survived = settled == nil && after.Inode == before.Inode
	o.drops = after.Drops
	got, err := countNodes()
	if err != nil {
		return o, err
	}
	o.nodes = min(events, len(messages)) - got
	o.footprint, _ = d.memory() // none of a daemon that has died
	return o, nil
}

// awaitLines waits until a file has so many lines, or gets no more, and returns
// how many different ones it has.
func awaitLines(name string, wanted int) int {
	const silence = 3 * time.Second
	n := 0
	for grown := time.Now(); n < wanted && time.Since(grown) < silence; time.Sleep(10 * time.Millisecond) {
		if now := differentLines(name); now > n {
			n, grown = now, time.Now()
		}
	}
	return n
}

// differentLines returns how many different whole lines a file has: a command that ran twice
// for one event does not stand for one that did not run.
func differentLines(name string) int {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if strings.HasSuffix(line, "\n") {
			seen[line] = true
		}
	}
	return len(seen)
}
