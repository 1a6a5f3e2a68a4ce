package scheduler

import "devspool/hotplug/attributes"

// setAttributesLocked begins to set the attributes that the plan of t names, beside all else, since a
// driver may take its time. The commands of t follow.
func (s *Scheduler) setAttributesLocked(t *task) {
	p := t.plan
	var failures []error
	s.runAsync(s.pool.inFlight.Go, func() { failures = attributes.Set(s.applier.sys, p) }, func() {
		for i, err := range failures {
			if err == nil {
				continue
			}
			t.batch.failed = true
			a := p.Attributes[i]
			why := a.Rule.String() + ": " + a.String() + ": " + err.Error()
			// A rule for all devices may name an attribute that few have: the log would be full of that.
			if s.pool.warned.first(why, t.event.Devpath) {
				s.failures.add(t.batch, t.event, "failed", why)
			}
		}
		if !s.queueNextLocked(t) {
			s.partDoneYield(t)
		}
	})
}
