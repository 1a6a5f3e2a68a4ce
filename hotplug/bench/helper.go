package main

import (
	"fmt"
	"sync"
	"time"

	"devspool/hotplug/kerneltest"
)

// helper measures one process per event, as a kernel with a hotplug helper starts
// them: an add of mem/null each.
func (b *bench) helper() error {
	events := b.opts.scaled(400)
	b.report.section("Helper", "CPU per event, least of %d runs of %d processes", b.opts.rounds(), events)
	for _, with := range []struct{ name, conf string }{{"no rules", emptyConf}, {"90 rules", largeConf}} {
		best := figures{}
		err := b.interleave(b.opts.rounds(), func(c contestant) error {
			return b.within(world{conf: with.conf}, func() error {
				cpu, err := b.helpers(c, events)
				best.least(c.name, cpu/float64(events))
				return err
			})
		})
		if err != nil {
			return err
		}
		b.report.ratio(with.name, best, microseconds, 0)
	}
	return nil
}

// helpers starts a process for each event, one after the other, and returns the
// CPU of all of them. One that stays to serve the others is not waited for until
// all are started; what it uses counts.
func (b *bench) helpers(c contestant, events int) (cpu float64, err error) {
	const stays = 300 * time.Millisecond
	null := kerneltest.Event{Action: "add", Devpath: "/devices/virtual/mem/null", Vars: []string{
		"SUBSYSTEM=mem", "MAJOR=1", "MINOR=3", "DEVNAME=null", "DEVMODE=0666",
	}}
	var all sync.WaitGroup
	var mu sync.Mutex
	for i := range events {
		cmd := b.jail.command(c, c.args(null.Subsystem()), null.Environ(uint64(i+1))...)
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		ended := make(chan struct{})
		all.Go(func() {
			defer close(ended)
			failed := cmd.Wait()
			mu.Lock()
			defer mu.Unlock()
			cpu += cpuOf(cmd.ProcessState)
			if failed != nil && err == nil {
				err = fmt.Errorf("helper: %w", failed)
			}
		})
		select {
		case <-ended:
		case <-time.After(stays):
		}
	}
	all.Wait()
	if err == nil {
		err = checkNodes(1)
	}
	return cpu, err
}
