package control

import (
	"strconv"
	"strings"

	"devspool/hotplug/eventlog"
)

// metrics sends the counters in the text format of Prometheus.
func (c *Server) metrics(q *request) error {
	st := c.Scheduler.Stats()
	say := func(name, kind string, value uint64) {
		name = "devspool_" + name
		q.say("# TYPE " + name + " " + kind + "\n" + name + " " + decimal(value))
	}
	say("events_received_total", "counter", st.Received)
	say("events_done_total", "counter", st.Done)
	say("events_late_total", "counter", st.Late)
	say("commands_started_total", "counter", st.Commands)
	say("failures_total", "counter", st.Failed)
	say("gaps_total", "counter", st.Gaps)
	say("events_pending", "gauge", uint64(st.Pending))
	say("commands_queued", "gauge", uint64(st.Queued))
	say("commands_running", "gauge", uint64(len(st.Running)))
	return nil
}

// log sends the last events: N, and json where they are to be JSON.
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
