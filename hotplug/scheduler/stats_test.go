package scheduler

import (
	"fmt"
	"strings"
	"testing"

	"devspool/hotplug/command"
	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// TestStatsOrder shows the command that has run longest first, also where that is longer
// than an int of 32 bits can say in nanoseconds.
func TestStatsOrder(t *testing.T) {
	s := New(Options{})
	for i := range 5 {
		e := hotplugtest.NewEvent(t, "ACTION=add", fmt.Sprint("DEVPATH=/devices/d", i))
		s.pool.running[&command.Running{PID: i, Since: -sys.Time(i) * 2_000_000_000}] = &job{task: newTask(e)}
	}
	for i, run := range s.Stats().Running {
		if run.PID != 4-i || run.Devpath != fmt.Sprint("/devices/d", 4-i) {
			t.Errorf("%d is %+v", i, run)
		}
	}
}

// TestLastErrors shows that for each device the last error is kept, and for no more devices
// than that is good for: those with the oldest are forgotten.
func TestLastErrors(t *testing.T) {
	s := New(Options{})
	event := func(i int) *uevent.Event {
		return hotplugtest.NewEvent(t, "ACTION=add", fmt.Sprintf("DEVPATH=/devices/d%04d", i))
	}
	const many = 3 * maxErrors
	for i := range many {
		s.stats.recordError(event(i), "at first")
		s.stats.recordError(event(0), "again") // so it is never the oldest
	}
	errors := s.Stats().Errors
	if len(errors) != maxErrors || len(s.stats.errors) != maxErrors {
		t.Fatalf("%d of %d errors, want %d", len(errors), len(s.stats.errors), maxErrors)
	}
	if first := errors[0]; first.Devpath != "/devices/d0000" || !strings.HasSuffix(first.Text, "again") {
		t.Errorf("the first is %+v", first)
	}
	for i, e := range errors[1:] {
		if e.Devpath != fmt.Sprintf("/devices/d%04d", many-maxErrors+1+i) {
			t.Errorf("%d is %+v", i+1, e)
		}
	}
}
