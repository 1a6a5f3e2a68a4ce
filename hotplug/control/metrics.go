package control

import (
	"strconv"
	"strings"

	"devspool/hotplug/eventlog"
)

// metrics sends the counters in the text format of Prometheus: a packet for each metric, of three
// lines.
func (c *Server) metrics(q *request) error {
	st := c.Scheduler.Stats()
	for _, m := range []struct {
		name, help string
		value      uint64
	}{
		{"events_received_total", "uevents received", st.Received},
		{"events_done_total", "uevents done", st.Done},
		{"events_late_total", "uevents done of which /sys said otherwise by then", st.Late},
		{"commands_started_total", "commands of rules started", st.Commands},
		{"commands_failed_total", "commands that could not start, were killed, or ended with another status than 0", st.CommandsFailed},
		{"failures_total", "nodes, links, attributes and commands that could not be set up", st.Failed},
		{"gaps_total", "times that uevents were lost, each mended by a scan of /sys", st.Gaps},
		{"events_pending", "uevents under way", uint64(st.Pending)},
		{"commands_queued", "commands that wait for their turn", uint64(st.Queued)},
		{"commands_running", "commands that run", uint64(len(st.Running))},
	} {
		kind := "gauge"
		if strings.HasSuffix(m.name, "_total") {
			kind = "counter"
		}
		name := "devspool_" + m.name
		q.say("# HELP " + name + " " + m.help + "\n# TYPE " + name + " " + kind + "\n" + name + " " + decimal(m.value))
	}
	return nil
}

// log sends the last events, the oldest first: N, and json where they are to be JSON. Without N it
// sends all that are kept.
func (c *Server) log(q *request) error {
	text := c.Scheduler.Recent()
	n, err := strconv.Atoi(arg(q, 0)) // without a number, all
	for skip := strings.Count(text, "\n") - n; text != ""; skip-- {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		if err != nil || skip <= 0 {
			q.say(eventlog.Format(line, arg(q, 1) != ""))
		}
	}
	return nil
}
