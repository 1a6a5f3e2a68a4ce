package handoff_test

import (
	"fmt"
	"testing"
)

// The model: the protocol's steps, each of which the kernel does at once, of a few
// helpers that run in any order and of which some may be killed between any two
// steps. TestModel goes through all of it. What a step is in the program stands
// beside it.

// helpers is how many there are; each has one event.
const helpers = 3

// place is where a helper is in its program.
type place uint8

const (
	opens    place = iota // give: open
	writes                // write: writev
	looks                 // stays: fstat
	waits                 // takeTurn: flock
	claims                // newServer: flock, or one more give
	inherits              // inherit
	marks                 // note(serving)
	makes                 // openFIFO
	passes                // Pass
	serves                // run: read, Run
	unlinks               // leave: unlink
	drains                // leave: the last read
	closes                // leave: close
	notes                 // note(taken)
	unlocks               // close: the end
	ended                 // handed over, or served and left
	killed                // at any place
)

// set is a set of events.
type set uint8

func (s set) has(event int) bool { return s>>event&1 != 0 }
func (s *set) add(event int)     { *s |= 1 << event }

// pipe is one that was made as the FIFO: each server may make several.
type pipe struct {
	reader int8 // who reads it, or none
	named  bool
	holds  set
}

const (
	none  = -1
	pipes = helpers + 2
)

// helper is one process.
type helper struct {
	at    place
	pipe  int8 // the one that it has open, or none
	turn  bool // it has had its turn
	fifo  int8 // the one that it reads, or none
	taken set
	heard bool // its last read brought something
}

// flaw leaves out a part of the protocol, to show that it is needed.
type flaw uint8

const (
	flawless flaw = iota
	noLook        // the writer does not look at the link count
	noDrain       // the server does not read after it has taken the name away
	noNote        // the server does not tell the next one what is done
	noMark        // the server does not leave a mark until it has left
)

// world is all that the helpers share, and their own.
type world struct {
	flaw    flaw
	helpers [helpers]helper
	pipes   [pipes]pipe
	turn    int8 // who has the lock of the turn, or none
	lock    int8 // who has the server's lock, or none
	serving bool // what the lock's file holds: that somebody serves,
	noted   set  // or else which events are done
	kills   int8 // that may still come

	done    [helpers]uint8 // how often each event was done
	covered set            // events that came before a rescan began
}

func newWorld(kills int8, flaw flaw) world {
	w := world{turn: none, lock: none, kills: kills, flaw: flaw}
	for i := range w.helpers {
		w.helpers[i].pipe, w.helpers[i].fifo = none, none
	}
	for i := range w.pipes {
		w.pipes[i].reader = none
	}
	return w
}

// fifo returns the pipe that has the FIFO's name, or none.
func (w *world) fifo() int8 {
	for i, p := range w.pipes {
		if p.named {
			return int8(i)
		}
	}
	return none
}

// unused returns a pipe that nobody has open and that has no name.
func (w *world) unused() int8 {
	for i, p := range w.pipes {
		used := p.named || p.reader != none
		for _, h := range w.helpers {
			used = used || h.pipe == int8(i) || h.fifo == int8(i)
		}
		if !used {
			return int8(i)
		}
	}
	panic("too few pipes")
}

// do does what has come to helper i, once each.
func (w *world) do(i int, events set) {
	for e := range helpers {
		if events.has(e) && !w.helpers[i].taken.has(e) {
			w.helpers[i].taken.add(e)
			w.done[e]++
		}
	}
}

// step returns what may become of w by the next step of helper i.
func (w world) step(i int) (next []world) {
	h := &w.helpers[i]
	to := func(p place) { h.at = p; next = append(next, w) }
	again := waits // where it goes if nobody takes its event
	if h.turn {
		again = claims
	}
	switch h.at {
	case opens:
		if f := w.fifo(); f != none && w.pipes[f].reader != none {
			h.pipe = f
			to(writes)
		} else {
			to(again)
		}
	case writes:
		if p := &w.pipes[h.pipe]; p.reader != none {
			p.holds.add(i)
			to(looks)
		} else {
			to(again) // EPIPE
		}
	case looks:
		named := w.pipes[h.pipe].named || w.flaw == noLook
		h.pipe = none
		if named {
			if w.turn == int8(i) {
				w.turn = none
			}
			to(ended)
		} else {
			to(again)
		}
	case waits:
		if w.turn == none {
			w.turn, h.turn = int8(i), true
			to(opens)
		}
	case claims:
		if w.lock == none {
			w.lock = int8(i)
			to(inherits)
		} else if f := w.fifo(); f != none && w.pipes[f].reader != none {
			to(opens)
		}
	case inherits:
		h.taken = w.noted
		if w.serving {
			h.heard = true // stands for died, until makes
		}
		to(marks)
	case marks:
		w.serving, w.noted = w.flaw != noMark, 0
		to(makes)
	case makes:
		if f := w.fifo(); f != none {
			w.pipes[f].named = false
		}
		h.fifo = w.unused()
		w.pipes[h.fifo] = pipe{reader: int8(i), named: true}
		if h.heard {
			h.heard = false
			w.rescan()
		}
		to(passes)
	case passes:
		if w.turn == int8(i) {
			w.turn = none
		}
		w.do(i, 1<<i)
		to(serves)
	case serves:
		p := &w.pipes[h.fifo]
		if p.holds != 0 {
			w.do(i, p.holds)
			p.holds = 0
			to(serves)
		} else {
			to(unlinks)
		}
	case unlinks:
		w.pipes[h.fifo].named = false
		to(drains)
	case drains:
		p := &w.pipes[h.fifo]
		if w.flaw == noDrain {
			p.holds = 0
		}
		h.heard = p.holds != 0
		w.do(i, p.holds)
		p.holds = 0
		to(closes)
	case closes: // what is written from now on meets no reader
		w.pipes[h.fifo].reader = none
		h.fifo = none
		if h.heard {
			h.heard = false
			to(makes)
		} else {
			to(notes)
		}
	case notes:
		w.serving, w.noted = false, h.taken
		if w.flaw == noNote {
			w.noted = 0
		}
		to(unlocks)
	case unlocks:
		w.lock = none
		to(ended)
	}
	return next
}

// rescan finds the devices of all events that have been sent to anybody.
func (w *world) rescan() {
	for e, h := range w.helpers {
		if h.at != opens || h.turn {
			w.covered.add(e)
		}
	}
}

// kill returns what becomes of w if helper i is killed.
func (w world) kill(i int) world {
	h := &w.helpers[i]
	w.kills--
	if h.fifo != none {
		w.pipes[h.fifo].reader = none
	}
	if w.lock == int8(i) {
		w.lock = none
	}
	if w.turn == int8(i) {
		w.turn = none
	}
	h.at = killed
	return w
}

// check returns what is wrong with a world in which nothing can happen any more.
func (w *world) check(kills int8) error {
	for e, h := range w.helpers {
		died := h.at == killed
		switch {
		case h.at != ended && !died:
			return fmt.Errorf("helper %d waits for ever, at %d", e, h.at)
		case w.done[e] > 1 && w.kills == kills:
			return fmt.Errorf("event %d was done %d times", e, w.done[e])
		case w.done[e] == 0 && !died && !w.covered.has(e) && !w.serving:
			return fmt.Errorf("event %d was lost, and no rescan comes", e)
		}
	}
	return nil
}

// explore goes through every interleaving, and returns the first thing that is
// wrong with an end.
func explore(kills int8, flaw flaw) (states, ends int, err error) {
	seen := map[world]bool{}
	todo := []world{newWorld(kills, flaw)}
	for len(todo) > 0 {
		w := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[w] {
			continue
		}
		seen[w] = true
		moves := 0
		for i, h := range w.helpers {
			if h.at == ended || h.at == killed {
				continue
			}
			next := w.step(i)
			moves += len(next)
			todo = append(todo, next...)
			if w.kills > 0 {
				todo = append(todo, w.kill(i))
			}
		}
		if moves > 0 {
			continue
		}
		ends++
		if err := w.check(kills); err != nil {
			return len(seen), ends, fmt.Errorf("%w: %+v", err, w)
		}
	}
	return len(seen), ends, nil
}

// TestModel shows that nobody waits for ever, and no event is lost. Where nobody is
// killed each is done once; where somebody is, a rescan has found what is lost, or
// the next server will rescan.
func TestModel(t *testing.T) {
	for kills := range int8(3) {
		states, ends, err := explore(kills, flawless)
		if err != nil {
			t.Errorf("with up to %d killed: %v", kills, err)
		}
		t.Logf("up to %d killed: %d states, %d ends", kills, states, ends)
	}
}

// TestModelNeedsAll leaves out each of the protocol's precautions, which the model
// has to notice.
func TestModelNeedsAll(t *testing.T) {
	for flaw, kills := range map[flaw]int8{noLook: 0, noDrain: 0, noNote: 0, noMark: 1} {
		if _, _, err := explore(kills, flaw); err == nil {
			t.Errorf("without precaution %d nothing is wrong", flaw)
		}
	}
}
