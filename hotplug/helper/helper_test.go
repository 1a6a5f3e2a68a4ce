package helper

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/hotplugtest/board"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sys"
)

// TestWaitSeq shows how long a helper waits, and what it writes, by what mdev.seq holds. It is not
// parallel: it measures times.
func TestWaitSeq(t *testing.T) {
	const change = 200 * time.Millisecond // not so short that a busy machine takes it for no wait
	const missing = "no such file"
	for _, c := range []struct {
		holds   string
		seqnum  uint64
		waits   bool
		during  string // what the file holds while the helper works
		atLast  string
		changes string // what another process writes into it while the helper waits
	}{
		{holds: missing, seqnum: 7, during: missing, atLast: missing},
		{holds: "", seqnum: 7, during: "7", atLast: "8"},
		{holds: "\n", seqnum: 7, during: "7", atLast: "8"},
		{holds: "7", seqnum: 7, during: "7", atLast: "8"},
		{holds: "7\n", seqnum: 7, during: "7\n", atLast: "8"},
		{holds: "9", seqnum: 9, during: "9", atLast: "10"},
		{holds: "8", seqnum: 7, during: "8", atLast: "8"},
		{holds: "6", seqnum: 7, waits: true, during: "7", atLast: "8", changes: "7"},
		{holds: "6", seqnum: 7, waits: true, during: "8", atLast: "8", changes: "8"},
		{holds: "6", seqnum: 7, waits: true, during: "6", atLast: "8"}, // until turnWait
		{holds: "7", seqnum: 0, during: "7", atLast: "7"},
		{holds: "18446744073709551614", seqnum: 18446744073709551614, during: "18446744073709551614", atLast: "18446744073709551615"},
	} {
		path := filepath.Join(t.TempDir(), "mdev.seq")
		if c.holds != missing {
			hotplugtest.WriteFile(t, path, c.holds)
		}
		if c.changes != "" {
			time.AfterFunc(change, func() { seqTurn{path: path}.write(c.changes) }) // which never leaves the file empty
		}
		start := time.Now()
		turn := waitSeq(path, c.seqnum)
		took := time.Since(start)
		if waited := took >= change*3/4; waited != c.waits && took < turnWait {
			t.Errorf("%+v: it waited %v", c, took)
		}
		if timedOut := took >= turnWait; timedOut != (c.waits && c.changes == "") {
			t.Errorf("%+v: it waited %v", c, took)
		}
		holds := func() string {
			text, err := os.ReadFile(path)
			if os.IsNotExist(err) {
				return missing
			}
			hotplugtest.Must(t, err)
			return string(text)
		}
		if got := holds(); got != c.during {
			t.Errorf("%+v: while it works the file holds %q", c, got)
		}
		turn.advance()
		if got := holds(); got != c.atLast {
			t.Errorf("%+v: at last the file holds %q", c, got)
		}
	}
}

// TestSeqFileLink shows that no link is followed for writing.
func TestSeqFileLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hotplugtest.WriteFile(t, filepath.Join(dir, "victim"), "")
	hotplugtest.Must(t, os.Symlink("victim", filepath.Join(dir, "mdev.seq")))
	waitSeq(filepath.Join(dir, "mdev.seq"), 7).advance()
	if got := hotplugtest.Contents(t, filepath.Join(dir, "victim")); got != "" {
		t.Errorf("the file that the link leads to holds %q", got)
	}
}

// TestSeqFileNeverEmpty reads the file while numbers are written: it is never empty, which would have a
// helper write its own number.
func TestSeqFileNeverEmpty(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "mdev.seq")
	hotplugtest.WriteFile(t, path, "1")
	turn := seqTurn{path: path}
	var reading sync.WaitGroup
	stop := make(chan struct{})
	broken := 0
	reading.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			text, err := sys.ReadAttribute(path)
			if _, bad := strconv.ParseUint(text, 10, 64); err != nil || bad != nil {
				broken++
			}
		}
	})
	for n := range 20_000 {
		turn.write(strconv.Itoa(n + 1))
	}
	close(stop)
	reading.Wait()
	if broken > 0 {
		t.Errorf("%d times the file held no number", broken)
	}
}

// TestTurns starts helpers in another order than that of their SEQNUMs, by which they work.
func TestTurns(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "mdev.seq")
	hotplugtest.WriteFile(t, path, "1")
	var order hotplugtest.Collected[int]
	var working sync.WaitGroup
	for n := 5; n > 0; n-- {
		working.Go(func() {
			turn := waitSeq(path, uint64(n))
			order.Add(n)
			turn.advance()
		})
		time.Sleep(10 * time.Millisecond)
	}
	hotplugtest.Within(t, "the turns", working.Wait)
	if got := order.List(); !slices.Equal(got, []int{1, 2, 3, 4, 5}) {
		t.Errorf("the order was %v", got)
	}
}

// TestHelper does the event of a script that gives no variables but the required ones.
func TestHelper(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 640 >disk @cat TMP/../dev/mdev.seq >TMP/said; echo $MDEV >>TMP/said\n")
	seq := filepath.Join(b.Dir, "mdev.seq")
	b.Start("sda 0:0 640 >disk @cat " + seq + " >TMP/said; echo $MDEV >>TMP/said\n")
	hotplugtest.WriteFile(t, seq, "41\n")
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	if !Run(helperOptions(b), hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/block/sda", "SEQNUM=41")) {
		t.Error("it failed")
	}
	b.WantNode("disk", "b8:0 0640")
	b.WantNode("sda", "-> disk")
	if got := b.Said("said"); !slices.Equal(got, []string{"41", "disk"}) {
		t.Errorf("the command says %q", got)
	}
	if got := hotplugtest.Contents(t, seq); got != "42" {
		t.Errorf("mdev.seq holds %q", got)
	}
	b.AtRest()
}

// helperOptions returns the options of a helper on the board.
func helperOptions(b *board.Board) Options {
	return Options{Scheduler: b.Scheduler, Config: b.Config, Dev: b.Dev, Sys: b.Sys.FS, Log: b.Log.Logger, Environ: []string{"PATH=/bin"}}
}

// TestDryRun does an event without a /dev.
func TestDryRun(t *testing.T) {
	t.Parallel()
	b := board.New(t, "")
	b.Start(b.Text, func(o *scheduler.Options) { o.Dev = nil })
	defer func() {
		if fault := recover(); fault != nil {
			t.Errorf("it panics: %v", fault)
		}
	}()
	if !Run(helperOptions(b), hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/x", "SEQNUM=7")) {
		t.Error("it failed")
	}
}
