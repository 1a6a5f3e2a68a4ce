package scheduler

import (
	"strconv"
	"time"

	"devspool/hotplug/command"
	"devspool/hotplug/log"
	"devspool/nodes"
)

// queueNextLocked queues t for a slot for its next command, and reports whether it has one.
// What stands before that is an event to send, which needs no slot: it is sent.
func (s *Scheduler) queueNextLocked(t *task) bool {
	for len(t.commands) > 0 && t.commands[0].Socket != "" {
		s.sendLocked(t, &t.commands[0])
		t.commands = t.commands[1:]
	}
	if len(t.commands) == 0 {
		return false
	}
	if !s.loadModulesLocked(t) {
		s.pool.queue.push(t)
	}
	return true
}

// sendLocked sends the event of t to the socket that c names, as one datagram in the form of
// the kernel's messages. A socket without a listener, or a full one, is no failure.
func (s *Scheduler) sendLocked(t *task, c *nodes.Command) {
	// The send does not wait: a listener that reads slowly must not hold up /dev.
	if err := log.SendDatagram(c.Socket, t.event.AppendMessage(nil)); err != nil {
		s.log.Event(log.Info, "not sent", t.event, describe(c)+": "+err.Error())
	}
}

// startCommandYield starts the next command of t. One that cannot start counts as ended.
func (s *Scheduler) startCommandYield(t *task) {
	s.applier.relocate(t)
	c := &t.commands[0]
	run, err := command.Start(&command.Spec{
		Command: c, Plan: t.plan, Dir: s.applier.dev.Path(), Environ: s.pool.environ, KeepErrors: s.pool.keepErrors,
	})
	if err != nil {
		s.counts.CommandsFailed++
		if why := describe(c) + ": " + err.Error(); command.Missing(err) {
			// A shell would end with status 127 or 126, which is no failure of the event.
			s.failures.keep(t.event, "command ended: "+why)
			s.log.Event(s.pool.warned.level(c, t.event.Devpath), "command ended", t.event, why)
		} else {
			s.failures.add(t.batch, t.event, "cannot run", why)
		}
		s.commandDoneYield(t)
		return
	}
	j := &job{Running: run, task: t, patience: patienceWith(c)}
	s.pool.running = append(s.pool.running, j)
	s.counts.Commands++
	if j.patience > 0 {
		j.stopTimer = time.AfterFunc(j.patience, s.detachOverdue).Stop
	}
	// Whoever waits for inFlight waits for this command: Drain, and by it the end of the process.
	start := s.pool.inFlight.Go
	// It is not in inFlight, or a process that wants to end would wait for it.
	if command.Outlives(c) {
		start = func(f func()) { go f() }
	}
	var o command.Outcome
	s.runAsync(start, func() { o = run.Wait() }, func() {
		if j.stopTimer != nil {
			j.stopTimer()
		}
		s.logOutcomeLocked(j, &o)
		// Before commandDoneYield: its slot may be the next command's.
		s.pool.remove(j)
		if j.detached {
			s.detachOverdueYield() // another one may be detached in its place
		}
		s.commandDoneYield(j.task)
	})
	// detach=yes: it gives up its slot at once.
	if j.patience == 0 {
		s.detachOverdueYield()
	}
}

// runAsync has start run a part of a task in a goroutine, and then after with mu held. part must
// not touch what mu guards; after may call functions that yield.
func (s *Scheduler) runAsync(start func(func()), part, after func()) {
	start(func() {
		part()
		s.mu.Lock()
		defer s.mu.Unlock()
		after()
		s.endSliceYield()
	})
}

// describe names a command and the line of the config that it comes from.
func describe(c *nodes.Command) string { return c.Rule.String() + ": " + c.Text }

// logOutcomeLocked logs how a command ended.
func (s *Scheduler) logOutcomeLocked(j *job, o *command.Outcome) {
	t := j.task
	// A status other than 0 does not make the event, or its batch, a failed one, as for udevd.
	level, why := log.Info, describe(j.Command)+": "+o.String()
	if o.Killed != "" || o.Status != 0 {
		s.counts.CommandsFailed++
	}
	switch {
	case o.Killed != "":
		s.failures.add(t.batch, t.event, "killed", why)
		return
	case o.Status != 0 && s.pool.resident:
		level = s.pool.warned.level(j.Command, t.event.Devpath)
	case o.Status.Signaled():
		level = log.Warning
	}
	s.log.Event(level, "command ended", t.event, why)
	if o.Status != 0 {
		s.failures.keep(t.event, "command ended: "+why)
	}
}

// commandDoneYield drops the first command of t, which has ended, and queues the next one.
func (s *Scheduler) commandDoneYield(t *task) {
	// A detached task has no end of its own: its event is done already.
	if t.commands = t.commands[1:]; !s.queueNextLocked(t) && t.state != detached {
		s.partDoneYield(t)
	}
}

// maxDetached is how many commands may run without a slot. Further ones keep theirs until
// one of these ends, so that commands which hang cannot become ever more processes.
const maxDetached = 64

// detachOverdue is called by a timer when the patience with a command is over.
func (s *Scheduler) detachOverdue() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detachOverdueYield()
	s.endSliceYield()
}

// detachOverdueYield detaches the commands whose patience is over, the oldest first, until
// maxDetached are.
func (s *Scheduler) detachOverdueYield() {
	for s.pool.detached < maxDetached {
		j := s.pool.overdue()
		if j == nil {
			return
		}
		s.detachYield(j)
	}
}

// detachYield takes the slot of a command, which runs on until its time limit. In a process
// that stays, or where its rule says detach=yes, its event is done by that: clients get it,
// and the later events of its device start, such as the remove whose command is to end this
// one. The rest of the commands is left to a task of its own; where nothing is to wait for the
// command, they do not wait either.
func (s *Scheduler) detachYield(j *job) {
	j.detached = true
	s.pool.detached++
	s.warnDetachedLocked(j)
	t, alone := j.task, j.Command.Detach
	if !alone && (!s.pool.resident || t.state == detached) {
		return
	}
	// A copy, since t is cleared when it is released.
	rest := *t.work
	// A batch of its own: that of the event may have ended by the time the command fails.
	j.task = &task{work: &rest, batch: NewBatch(), state: detached}
	if alone {
		rest.commands = rest.commands[:1]
		s.commandDoneYield(t)
		return
	}
	s.partDoneYield(t)
}

// warnDetachedLocked warns once of a command that is detached, unless the config allows it
// to run for long.
func (s *Scheduler) warnDetachedLocked(j *job) {
	c := j.Command
	if c.Detach || c.Patience != 0 || c.Timeout == nodes.Unlimited || !s.pool.warned.first("still runs: "+describe(c), "") {
		return
	}
	what := "nothing waits for it any more"
	if !s.pool.resident {
		what = "its slot is another command's"
	}
	s.log.Event(log.Warning, "still runs", j.task.event, describe(c)+": after "+
		strconv.Itoa(int(defaultPatience/time.Second))+" s "+what+"; before its rule, detach=yes; says that it is to run on, patience=0; that others are to wait")
}
