package scheduler

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/uevent"
	"devspool/nodes"
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

// TestDenied shows that a scan tells once that nodes are denied, and how many of its own were: not
// those of an earlier scan again.
func TestDenied(t *testing.T) {
	t.Parallel()
	l := hotplugtest.NewLog(t)
	s := New(Options{Log: l.Logger})
	for _, scan := range []struct {
		err  unix.Errno
		want []string
	}{
		{unix.EPERM, []string{"in a user namespace", "3 nodes could not be made: operation not permitted"}},
		{unix.EPERM, []string{"3 nodes could not be made: operation not permitted"}},
		{0, nil},
		{unix.ENOSPC, []string{"no space left on device", "3 nodes could not be made: no space left"}},
		{unix.ENOSPC, []string{"no space left on device", "3 nodes could not be made: no space left"}},
	} {
		from := len(l.Lines())
		for range 3 {
			if scan.err != 0 {
				s.failures.addError(&Batch{}, hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/x"), &nodes.Error{Op: "mknod", Path: "x", Err: scan.err})
			}
		}
		s.LogDenied()
		got := l.Lines()[from:]
		if len(got) != len(scan.want) {
			t.Fatalf("%v: %q, want %q", scan.err, got, scan.want)
		}
		for i, line := range got {
			if !strings.Contains(line, scan.want[i]) {
				t.Errorf("%v: %q, want %q", scan.err, line, scan.want[i])
			}
		}
	}
}
