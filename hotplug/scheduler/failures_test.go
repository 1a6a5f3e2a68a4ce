package scheduler

import (
	"fmt"
	"strings"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/uevent"
)

// TestLastErrors shows that the last error of each device is kept, for maxErrors devices:
// those with the oldest errors are forgotten.
func TestLastErrors(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	event := func(i int) *uevent.Event {
		return hotplugtest.NewEvent(t, "ACTION=add", fmt.Sprintf("DEVPATH=/devices/d%04d", i))
	}
	const many = 3 * maxErrors
	for i := range many {
		s.failures.keep(event(i), "at first")
		s.failures.keep(event(0), "again") // so it is never the oldest
	}
	errors := s.Stats().Errors
	if len(errors) != maxErrors || len(s.failures.last) != maxErrors {
		t.Fatalf("%d of %d errors, want %d", len(errors), len(s.failures.last), maxErrors)
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
