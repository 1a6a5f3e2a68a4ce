package control

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/hotplugtest/board"
	"devspool/hotplug/log"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
)

// newRun makes three devices without numbers, and returns a syntheticRun for them.
func newRun(b *board.Board, uuid string) (run *syntheticRun, devpaths []string) {
	b.T.Helper()
	for _, name := range []string{"a", "b", "c"} {
		b.Sys.Add("/devices/"+name, "x", "", "")
		devpaths = append(devpaths, "/devices/"+name)
	}
	return &syntheticRun{sys: b.Sys.FS, uuid: uuid, unanswered: map[string]bool{}}, devpaths
}

// answers returns the event by which a device answers a request.
func answers(t *testing.T, devpath string, env ...string) *uevent.Event {
	return hotplugtest.NewEvent(t, append([]string{"ACTION=add", "DEVPATH=" + devpath}, env...)...)
}

// TestRequests shows which events answer the requests of a run: adds with its identifier.
func TestRequests(t *testing.T) {
	t.Parallel()
	b := board.New(t, "")
	const uuid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	run, devpaths := newRun(b, uuid)
	for _, devpath := range devpaths {
		run.request(devpath)
		if got := b.Sys.Requested(devpath); !strings.HasPrefix(got, "add "+uuid) {
			t.Errorf("the request is %q", got)
		}
	}
	run.request("/devices/gone")
	for _, e := range []*uevent.Event{
		answers(t, "/devices/a"),
		answers(t, "/devices/a", "SYNTH_UUID=0"),
		answers(t, "/devices/a", "SYNTH_UUID=other"),
		hotplugtest.NewEvent(t, "ACTION=change", "DEVPATH=/devices/a", "SYNTH_UUID="+uuid),
	} {
		if run.record(e); len(run.unanswered) != 3 || run.responder != "" {
			t.Errorf("%q counts", e.Devpath)
		}
	}
	run.last -= sys.Time(afterLast)
	if !run.done(false) || run.done(true) {
		t.Error("without any answer it does not end after afterLast")
	}
	for i, devpath := range devpaths {
		run.last = sys.Now()
		if run.done(false) {
			t.Errorf("done after %d of 3", i)
		}
		run.record(answers(t, devpath, "SYNTH_UUID="+uuid))
	}
	if !run.done(true) {
		t.Error("not done when all have answered")
	}
}

// TestRequestsSilent is about devices that accept the request and send nothing: the run is done after
// an extra request to a device that has answered, and the time afterLast.
func TestRequestsSilent(t *testing.T) {
	t.Parallel()
	b := board.New(t, "")
	run, devpaths := newRun(b, "u")
	for _, devpath := range devpaths {
		run.request(devpath)
	}
	run.record(answers(t, "/devices/b", "SYNTH_UUID=u"))
	hotplugtest.WriteFile(t, b.Sys.Path("/devices/b/uevent"), "")
	if run.done(false) || b.Sys.Requested("/devices/b") != "add u" {
		t.Errorf("the extra request is %q", b.Sys.Requested("/devices/b"))
	}
	if run.unanswered["/devices/b"] || len(run.unanswered) != 2 {
		t.Errorf("open are %v", run.unanswered)
	}
	hotplugtest.WriteFile(t, b.Sys.Path("/devices/b/uevent"), "")
	run.last -= sys.Time(afterLast)
	if run.done(true) {
		t.Error("done while events are pending")
	}
	if !run.done(false) || b.Sys.Requested("/devices/b") != "" {
		t.Error("not done after afterLast, or asked again")
	}
}

// TestRequestsOldKernel is about a kernel before Linux 4.13, in which events carry no identifier.
func TestRequestsOldKernel(t *testing.T) {
	t.Parallel()
	b := board.New(t, "")
	run, devpaths := newRun(b, "")
	run.request(devpaths[0])
	if got := b.Sys.Requested(devpaths[0]); !strings.HasPrefix(got, "add\n") && got != "add" {
		t.Errorf("the request is %q", got)
	}
	if run.record(answers(t, devpaths[0])); len(run.unanswered) > 0 {
		t.Error("an answer does not count")
	}
}

// TestFollow follows a run until all events have come, no more are expected, or the client is gone.
func TestFollow(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	run, devpaths := newRun(b, "u")
	source := &fakeSource{}
	c := &Server{Options: Options{Scheduler: b.Scheduler, Sys: b.Sys.FS, Log: b.Log.Logger, Source: source}}
	b.Log.SetLevel(log.Info)
	stop := make(chan struct{})
	followed := make(chan bool, 1)
	follow := func(run *syntheticRun) { go func() { followed <- c.follow(run, devpaths, stop) == nil }() }
	source.pending.Store(true)
	follow(run)
	hotplugtest.Eventually(t, "the requests", func() bool { return strings.HasPrefix(b.Sys.Requested(devpaths[2]), "add u") })
	b.Scheduler.Run(scheduler.Events(answers(t, devpaths[0], "SYNTH_UUID=u"), answers(t, devpaths[2], "SYNTH_UUID=u")))
	select {
	case <-followed:
		t.Error("it ended while events are pending")
	case <-time.After(afterLast + 20*sys.PollInterval):
	}
	source.pending.Store(false)
	hotplugtest.Within(t, "the end", func() {
		if !<-followed {
			t.Error("it was stopped")
		}
	})
	b.Log.Want("info: accepted the request for an event and sent none: /devices/b")
	if b.Log.Has("sent none: /devices/a") || b.Log.Has("sent none: /devices/c") {
		t.Errorf("logged %q", b.Log.Lines())
	}
	source.pending.Store(true)
	follow(&syntheticRun{sys: b.Sys.FS, uuid: "v", unanswered: map[string]bool{}})
	close(stop)
	hotplugtest.Within(t, "the end", func() {
		if <-followed {
			t.Error("it was not stopped")
		}
	})
	if n := b.Scheduler.Stats().Observers; n > 0 {
		t.Errorf("%d observers are left", n)
	}
}

// TestNewUUID shows the form of identifiers.
func TestNewUUID(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
	if a, b := sysfs.NewUUID(), sysfs.NewUUID(); a == b || !form.MatchString(a) || !form.MatchString(b) {
		t.Errorf("%s and %s", a, b)
	}
}
