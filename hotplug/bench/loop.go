package main

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"time"

	"devspool/hotplug/kerneltest"
)

// loopConfs are the configs for the loop with their targets: our share of the
// rival's CPU.
var loopConfs = []struct {
	name, conf string
	target     float64
}{
	{"no rules", emptyConf, 1.0},
	{"50 rules", fiftyConf, 0.5},
}

// loop measures the CPU per event of `-df`.
func (b *bench) loop() error {
	events := b.opts.scaled(20_000)
	b.report.section("Loop", "CPU per event, least of %d runs of %s events", b.opts.rounds(), count(float64(events)))
	s, err := b.newStage(events)
	if err != nil {
		return err
	}
	defer s.close()
	loads, err := s.loads()
	if err != nil {
		return err
	}
	all := b.contestants
	defer func() { b.contestants = all }()
	if bare := (contestant{name: bareLoopFile, path: b.jail.program(bareLoopFile)}); exists(bare.path) {
		b.contestants = append(all[:len(all):len(all)], bare)
	}
	for _, with := range loopConfs {
		for _, l := range loads {
			best, err := b.eventCPU(with.conf, l, b.opts.rounds())
			if err != nil {
				return fmt.Errorf("%s: %w", with.name, err)
			}
			b.report.ratio(with.name+", "+l.name, best, microseconds, with.target)
			if floor, measured := best[bareLoopFile]; measured {
				b.report.note("  the same calls in C, without rules: %s, %.2f of %s", microseconds(floor), floor/best[rival], rival)
			}
		}
	}
	return nil
}

// lone measures events each of which finds the loop asleep.
func (b *bench) lone() error {
	const (
		events = 50
		pause  = 100 * time.Millisecond
		target = 2.0
	)
	b.report.section("Lone events", "CPU per event, one each %v, least of %d runs of %d events", pause, b.opts.rounds(), events)
	injector, err := kerneltest.NewInjector()
	if err != nil {
		return err
	}
	defer injector.Close()
	message := kerneltest.Message(kerneltest.Event{Action: "change", Devpath: "/devices/virtual/mem/null",
		Vars: []string{"SUBSYSTEM=mem", "MAJOR=1", "MINOR=3", "DEVNAME=null"}})
	best := figures{}
	err = b.interleave(b.opts.rounds(), func(c contestant) error {
		return b.withDaemon(c, world{conf: c.conf(emptyConf)}, func(d *daemon) error {
			time.Sleep(quietEnough) // what a start leaves to be done is no event's
			before, err := d.cpu()
			if err != nil {
				return err
			}
			for range events {
				if err := injector.Write(message); err != nil {
					return err
				}
				time.Sleep(pause)
			}
			after, err := d.cpu()
			best.least(c.name, (after-before).Seconds()/events)
			return err
		})
	})
	b.report.ratio("no rules, an event that finds the loop asleep", best, microseconds, target)
	return err
}

// bareLoopSource is a C program that makes the calls of our loop, and nothing else:
// what could be reached at the best.
//
//go:embed c/loop.c
var bareLoopSource string

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// eventCPU returns the CPU per event that each contestant's loop uses for a load, the least of
// so many rounds.
func (b *bench) eventCPU(conf string, l load, rounds int) (figures, error) {
	best := figures{}
	err := b.interleave(rounds, func(c contestant) error {
		cpu, err := b.playLoad(c, conf, l)
		best.least(c.name, cpu.Seconds()/float64(l.events))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.name, err)
	}
	return best, nil
}

// playLoad returns the CPU that c's loop uses for a load, its start left out.
func (b *bench) playLoad(c contestant, conf string, l load) (used time.Duration, err error) {
	err = b.withDaemon(c, world{conf: c.conf(conf), sys: l.sys, realm: l.realm}, func(d *daemon) error {
		before, err := d.cpu()
		if err != nil {
			return err
		}
		if err := l.play(d); err != nil {
			return err
		}
		after, err := d.cpu()
		used = after - before
		return err
	})
	if l.realm != nil {
		err = errors.Join(err, l.realm.clear())
	}
	return used, err
}

// memory measures what the loop keeps when it has nothing to do: after its start,
// and after a load.
func (b *bench) memory() error {
	const target = 3.5 * (1 << 20)
	events := b.opts.scaled(20_000)
	b.report.section("Memory", "the idle loop, most of %d starts", b.opts.rounds())
	s, err := b.newStage(events)
	if err != nil {
		return err
	}
	defer s.close()
	loads, err := s.loads()
	if err != nil {
		return err
	}
	for _, with := range loopConfs {
		resident, anonymous, after := figures{}, figures{}, figures{}
		err := b.interleave(b.opts.rounds(), func(c contestant) error {
			return b.withDaemon(c, world{conf: c.conf(with.conf)}, func(d *daemon) error {
				time.Sleep(quietEnough)
				start, err := d.memory()
				if err != nil {
					return err
				}
				if err := loads[allOfSys].play(d); err != nil {
					return err
				}
				time.Sleep(quietEnough)
				end, err := d.memory()
				resident.most(c.name, start.resident)
				anonymous.most(c.name, start.anonymous)
				after.most(c.name, end.resident)
				return err
			})
		})
		if err != nil {
			return err
		}
		b.report.limit("resident (VmRSS), "+with.name, resident, mebibytes, target)
		b.report.ratio("  of it not backed by a file (RssAnon)", anonymous, mebibytes, 0)
		b.report.ratio("  resident after "+count(float64(events))+" events", after, mebibytes, 0)
	}
	return nil
}
