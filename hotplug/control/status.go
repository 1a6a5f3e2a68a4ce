package control

import (
	"strconv"
	"strings"

	"devspool/hotplug/reload"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/uevent"
)

// Status returns the status in lines for a person: "name: value", one for each running command,
// and one for each device of which an event failed. Control bytes are escaped.
func Status(s *scheduler.Scheduler, config *reload.Config) []string {
	st := s.Stats()
	queue, deferred, runnable, detached := "open", "", "", ""
	if st.Paused {
		queue, deferred = "stopped", ", "+strconv.Itoa(st.Deferred)+" for the queue to be open"
	}
	if st.Runnable > 0 {
		runnable = ", " + strconv.Itoa(st.Runnable) + " of them in state R"
	}
	if st.Detached > 0 {
		detached = ", " + strconv.Itoa(st.Detached) + " of them for long: nothing waits for these"
	}
	lines := []string{
		"config: " + config.String(),
		"up: " + st.Since.Ago(),
		"queue: " + queue,
		"events: " + decimal(st.Received) + " received, " + decimal(st.Done) + " done, " + decimal(st.Late) + " of them too late",
		"under way: " + strconv.Itoa(st.Pending) + ", " + strconv.Itoa(st.Queued) + " of them waiting for a command's turn" + deferred,
		"commands: " + decimal(st.Commands) + " started, " + strconv.Itoa(len(st.Running)) + " running" + detached + ", " +
			strconv.Itoa(st.Jobs) + " at most" + runnable,
		"failures: " + decimal(st.Failed),
		"gaps: " + decimal(st.Gaps),
	}
	// Sinks say for themselves how they stand, a line each.
	lines = append(lines, st.Sinks...)
	for _, c := range st.Running {
		lines = append(lines, "running: "+c.Since.Ago()+", pid "+strconv.Itoa(c.PID)+": "+c.Action+" "+c.Devpath+": "+c.Text)
	}
	for _, e := range st.Errors {
		lines = append(lines, "last error: "+e.Devpath+": "+e.When.Ago()+" ago: "+e.Text)
	}
	for i := range lines {
		lines[i] = uevent.Printable(lines[i])
	}
	return lines
}

// IsUnfinished reports whether a line of Status is about a command that runs, or tells of modules.
func IsUnfinished(line string) bool {
	return strings.HasPrefix(line, "running:") || strings.HasPrefix(line, "modules ")
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }
