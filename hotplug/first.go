//go:build !noboot

package hotplug

import (
	"strings"
	"sync/atomic"
	"time"

	"devspool/hotplug/control"
	"devspool/hotplug/log"
	"devspool/hotplug/loop"
	"devspool/hotplug/modules"
	"devspool/hotplug/sys"
)

// firstQuiet is how long nothing happens any more before all else is begun with, though a
// device of Options.First is still missing: the way to it may lead by what was put off, or
// it is slow to appear.
const firstQuiet = time.Second

// firstHung is the same while the kernel is at work on a module: it may never come to an end.
const firstHung = 5 * time.Second

// first puts off what no disk can need until what Options.First names is there. Active is atomic
// since a goroutine of its own ends what the main one began.
type first struct{ active atomic.Bool }

// holds reports whether modules are to be put off.
func (f *first) holds() bool { return f.active.Load() }

// begin is called before the loop's first event.
func (f *first) begin(r *runner) {
	if r.First == "" || r.dev == nil {
		return
	}
	f.active.Store(true)
	r.scheduler.First(true)
}

// follow ends the preference when the devices are there, or when nothing on the way to them happens
// any more: what was put off must not wait for ever. The loop must be served, since it is asked
// like by any client.
func (f *first) follow(r *runner, l *loop.Loop) {
	if !f.active.Load() {
		return
	}
	there := make(chan error, 1)
	go func() {
		const forever = "1000000" // seconds, more than eleven days: wait takes no request without a timeout
		there <- control.Ask(r.dev, append([]string{"wait", forever}, strings.Fields(r.First)...), func(string) {})
	}()
	why := "there is "
	for {
		select {
		case err := <-there:
			if err != nil {
				r.log.Print(log.Warning, "--first: "+err.Error())
			}
		case <-sys.After(4 * sys.PollInterval):
			quiet := r.scheduler.Quiet()
			if l.Pending() || quiet < firstQuiet || quiet < firstHung && !r.modules.isIdle() {
				continue
			}
			why = "nothing more comes by itself of the way to "
		}
		break
	}
	r.log.Print(log.Info, why+r.First+": going on with the rest")
	// Before release: a loader that is opened from here on holds nothing back.
	f.active.Store(false)
	r.scheduler.First(false)
	r.modules.release()
}

// opened returns the loader, or nil where no module was asked for yet.
func (m *moduleLoader) opened() *modules.Loader {
	if m == nil {
		return nil
	}
	m.mu.Lock() // a loader that is being opened is waited for
	defer m.mu.Unlock()
	return m.loader
}

// isIdle reports whether no module is being loaded.
// m may be nil, as in a dry run, here and below.
func (m *moduleLoader) isIdle() bool {
	l := m.opened()
	return l == nil || l.IsIdle()
}

// release has the modules loaded that were put off.
func (m *moduleLoader) release() {
	if l := m.opened(); l != nil {
		l.First(false)
	}
}
