package hotplug

import (
	"strconv"
	"time"

	"devspool/hotplug/log"
	"devspool/nodes"
)

// defaultPatience is how long a command may keep others waiting in a process that stays.
const defaultPatience = 5 * time.Second

// maxLong is how many commands may run beside those that have a slot.
const maxLong = 64

// watchLength has a command that runs for longer than the Road's patience give its
// slot back.
func (r *Road) watchLength(run *started) {
	if r.Patience == 0 {
		return
	}
	time.AfterFunc(r.Patience, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.outlast(run)
		r.leave()
	})
}

// outlast ends the waiting for a command that runs for long: its slot is another's, and
// its event comes to its end, so that clients get it and the later events of its device
// begin, such as the remove whose command is to end this one. The command itself goes
// on until its time limit, and those of its event that come after it follow it.
func (r *Road) outlast(run *started) {
	if !r.active[run] || r.long >= maxLong {
		return
	}
	run.long = true
	r.long++
	r.sayLong(run)
	t := run.task
	if t.outlasted {
		return
	}
	rest := *t.step
	run.task = &task{step: &rest, batch: newBatch(), outlasted: true}
	r.part(t)
}

// sayLong logs a command that runs for long, once, unless its rule lets it.
func (r *Road) sayLong(run *started) {
	what := run.command.Rule.String() + ": " + run.command.Text
	if run.command.Timeout == nodes.Unlimited || r.warned[what] {
		return
	}
	if r.warned == nil {
		r.warned = map[string]bool{}
	}
	r.warned[what] = true
	r.Log.Event(log.Warning, "still runs", run.task.event, what+": after "+strconv.Itoa(int(r.Patience/time.Second))+
		" s nothing waits for it any more; put & behind it, or timeout=0; before its rule, if it may run on")
}

// commandsRun reports whether commands run, also those that nothing waits for.
func (r *Road) commandsRun() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.active) > 0
}
