package systemtest

import (
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
)

// TestBurstToListeners sends a burst that is many times what fits into the buffers of those
// who listen to a netlink group: a slow one loses hardly anything, and keeps nobody else from
// getting all; nor does one that takes nothing at all.
func TestBurstToListeners(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	const events = 1000
	b := newBoard(t, "")
	l := b.startLoop("--sys", "/sys", "-O", "4")
	burst := func(with string) {
		t.Helper()
		clients, err := kerneltest.Clients(4, kerneltest.Loopback)
		begun := time.Now()
		if err == nil {
			err = kerneltest.Burst(events)
		}
		if err != nil {
			t.Fatal(err)
		}
		lost := kerneltest.Lost(clients, events)
		t.Logf("%s: of %d events the clients lost %d", with, events, lost)
		for i, n := range lost {
			if n > events/20 { // without pacing it is three quarters
				t.Errorf("%s: client %d lost %d of %d", with, i, n, events)
			}
		}
		if took := time.Since(begun); took > 5*time.Second { // the slow one takes a second
			t.Errorf("%s: it took %v", with, took)
		}
	}
	burst("alone")
	if _, err := kerneltest.NewClient(4, kerneltest.Loopback, time.Hour); err != nil {
		t.Fatal(err)
	}
	burst("beside one that takes nothing")
	l.stop()
}
