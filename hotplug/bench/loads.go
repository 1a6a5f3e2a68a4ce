package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"devspool/hotplug/kerneltest"
)

// load is a kind of work for a loop: what the kernel says, and what /sys shows of it.
type load struct {
	name   string
	sys    string // the directory to be /sys when the loop starts, or "" for the real one
	realm  *realm // where the loop has to run, or nil
	events int
	// play makes the events happen and checks what the daemon made of them.
	play func(d *daemon) error
}

// Where the kernel's own limits and the loads' size come from.
const (
	// inFlight is how many bytes may wait in a daemon's receive buffer: enough to
	// keep it busy, and well below the 2 MiB that BusyBox of 2022 asks for.
	inFlight = 512 << 10
	// burst is how many events are sent before the buffer is looked at again.
	burst = 200
	// batch is how many devices come and go at once. Their events find room in those
	// 2 MiB as well.
	batch = 500
	// realDevices is how many there are at most at a time.
	realDevices = 5000
	// majorOfBench is a number for local use (admin-guide/devices.txt).
	majorOfBench = 240
)

// stage holds what all loads of a run share.
type stage struct {
	injector *kerneltest.Injector
	events   int
	empty    string // a sysfs without devices
	full     string // one with as many made-up devices as there are events
	realm    *realm // real devices that come and go; nil where the kernel or iproute2 cannot
}

// newStage lays out what the loads need.
func (b *bench) newStage(events int) (*stage, error) {
	injector, err := kerneltest.NewInjector()
	if err != nil {
		return nil, err
	}
	dir := func(name string) string { return filepath.Join(b.jail.tree(), name) }
	if _, err := kerneltest.NewTree(dir("empty")); err != nil {
		return nil, err
	}
	full, err := kerneltest.NewTree(dir("full"))
	if err != nil {
		return nil, err
	}
	for i := range events {
		if _, err := full.Add(made(i)); err != nil {
			return nil, err
		}
	}
	realm, err := newRealm(dir("real"))
	if err != nil {
		b.report.note("NOT MEASURED: devices that come and go: %v", err)
	}
	return &stage{injector: injector, events: events, empty: dir("empty"), full: full.Dir, realm: realm}, nil
}

// close removes the trees, of which each part of the run makes its own.
func (s *stage) close() error {
	s.injector.Close()
	if s.realm != nil {
		if err := s.realm.close(); err != nil {
			return err
		}
	}
	for _, dir := range []string{s.empty, s.full} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// made is the i-th device that does not exist. Its number in its name has six
// digits, whatever i is, so that all events are of one length.
func made(i int) kerneltest.Device {
	name := "bench" + strconv.Itoa(100_000+i)
	return kerneltest.Device{
		Devpath: "/devices/virtual/bench/" + name, Subsystem: "bench", Devname: name,
		Major: majorOfBench, Minor: uint32(i),
	}
}

// allOfSys is the place of that load among the four.
const allOfSys = 1

// loads returns the four loads.
func (s *stage) loads() ([]load, error) {
	all, err := sysEvents("/sys")
	if err != nil {
		return nil, err
	}
	null := -1
	for i, e := range all {
		if e.Devpath == "/devices/virtual/mem/null" {
			null = i
		}
	}
	if null < 0 {
		return nil, fmt.Errorf("/sys has no mem/null")
	}
	devices := countDevices()
	loads := []load{
		{"one device again and again", "", nil, s.events, s.repeat(all[null:null+1], devices)},
		{"all of /sys in turn", "", nil, s.events, s.repeat(all, devices)},
	}
	if s.realm == nil {
		return loads, nil
	}
	some := min(s.events, realDevices)
	grow := func(d *daemon) error { return s.grow(d, devices, some) }
	pairs := func(d *daemon) error { return s.pairs(d, devices) }
	return append(loads,
		load{"a new node each", s.realm.sys, s.realm, some, grow},
		load{"add and remove pairs", s.realm.sys, s.realm, s.events, pairs},
	), nil
}

// repeat sends add events in turn, of which there are devices nodes in the end.
func (s *stage) repeat(events []kerneltest.Event, devices int) func(*daemon) error {
	var messages [][]byte
	for _, e := range events {
		messages = append(messages, kerneltest.Message(e))
	}
	return func(d *daemon) error {
		for i := range s.events {
			if err := s.send(d, i, messages[i%len(messages)]); err != nil {
				return err
			}
		}
		return s.settled(d, devices)
	}
}

// newOnes adds every made-up device of the stage, which /sys already shows.
func (s *stage) newOnes(d *daemon) error {
	for i := range s.events {
		if err := s.send(d, i, kerneltest.Message(made(i).Event("add"))); err != nil {
			return err
		}
	}
	return s.settled(d, s.events)
}

// grow adds so many devices to those that are always there.
func (s *stage) grow(d *daemon, always, many int) error {
	// The daemon is stopped while a batch is made, and then drains it all: so what counts is
	// its work, not how fast the kernel makes devices.
	for s.realm.devices < many {
		if err := d.meanwhile(s.realm.grow); err != nil {
			return err
		}
		if err := d.drain(0); err != nil {
			return err
		}
	}
	return s.settled(d, always+many)
}

// pairs adds and removes devices, a batch of each at a time: so a device is there
// when its add is handled, and gone when its remove is, and both are real work.
func (s *stage) pairs(d *daemon, always int) error {
	for range s.events / (2 * batch) {
		if err := s.grow(d, always, batch); err != nil {
			return err
		}
		if err := d.meanwhile(s.realm.clear); err != nil {
			return err
		}
		if err := s.settled(d, always); err != nil {
			return err
		}
	}
	return nil
}

// send sends a load's i-th message, as soon as the daemon can take it.
func (s *stage) send(d *daemon, i int, message []byte) error {
	if i%burst == 0 {
		if err := d.drain(inFlight); err != nil {
			return err
		}
	}
	return s.injector.Write(message)
}

// settled waits for the daemon and checks what it did.
func (s *stage) settled(d *daemon, nodes int) error {
	if err := d.settle(); err != nil {
		return err
	}
	if err := s.injector.Refused(); err != nil {
		return err
	}
	if sock, err := d.listening(); err != nil || sock.Drops > 0 {
		return fmt.Errorf("%d events found no room in the receive buffer (%w)", sock.Drops, err)
	}
	return checkNodes(nodes)
}

// sysEvents returns the add events of all devices below a sysfs.
func sysEvents(sys string) ([]kerneltest.Event, error) {
	var events []kerneltest.Event
	err := filepath.WalkDir(filepath.Join(sys, "devices"), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "uevent" {
			return err
		}
		dir := filepath.Dir(name)
		// The kernel's own events say the subsystem, which the file does not hold.
		subsystem, err := os.Readlink(filepath.Join(dir, "subsystem"))
		if err != nil {
			return nil // not a device
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil // gone, or not for reading
		}
		vars := []string{"SUBSYSTEM=" + filepath.Base(subsystem)}
		if len(text) > 0 {
			vars = append(vars, strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")...)
		}
		events = append(events, kerneltest.Event{Action: "add", Devpath: strings.TrimPrefix(dir, sys), Vars: vars})
		return nil
	})
	return events, err
}
