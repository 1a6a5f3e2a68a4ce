package systemtest

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestEventLog shows what a loop keeps of its last events, and its counters.
func TestEventLog(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sda 0:0 660 >disk\nsdb 0:0 660 @exit 3\nsdc 0:0 660 =x/\n")
	b.write(b.dev+"/x", "in the way\n")
	if r := b.run("log"); r.code != exitEvent || !strings.Contains(r.stderr, "no loop serves this /dev") {
		t.Errorf("without a loop: %+v", r)
	}
	l := b.startLoop()
	for n := range 3 {
		l.send(b.plug(disk(n)))
	}
	gone := disk(3).Event("add")
	l.send(gone) // a device that has gone
	b.must(b.run("settle", "--quiet", "0"))
	r := b.run("log")
	lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
	if len(lines) != 4 || r.code != exitDone {
		t.Fatalf("%d lines, exit code %d\n%s%s", len(lines), r.code, r.stdout, r.stderr)
	}
	all := strings.Join(lines, "\n")
	for _, want := range []string{
		" add " + disk(0).Devpath + " disk done", disk(1).Devpath + " sdb command ended: ", ": exit 3: exit status 3",
		disk(2).Devpath + " ", "failed: ", disk(3).Devpath + " ", " too late",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	r = b.run("log", "-n", "2", "--json")
	if n := strings.Count(r.stdout, "\n"); n != 2 {
		t.Errorf("-n 2 prints %d lines:\n%s%s", n, r.stdout, r.stderr)
	}
	for line := range strings.Lines(r.stdout) {
		var e struct {
			Time                     float64
			Seqnum                   uint64
			Action, Devpath, Outcome string
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Action != "add" || e.Time < 1e9 || e.Outcome == "" {
			t.Errorf("%q: %+v, %v", line, e, err)
		}
	}
	for _, args := range [][]string{{"log", "5"}, {"log", "-n"}, {"log", "-n", "x"}, {"log", "-n", "1", "2"}} {
		if r := b.run(args...); r.code != exitUsage {
			t.Errorf("%q: %+v", args, r)
		}
	}
	r = b.run("status", "--metrics")
	for _, want := range []string{
		"# TYPE devspool_events_received_total counter\ndevspool_events_received_total 4\n",
		"devspool_events_done_total 4\n", "devspool_events_late_total 1\n", "devspool_commands_started_total 1\n", "devspool_commands_failed_total 1\n",
		"# HELP devspool_failures_total ",
		"# TYPE devspool_events_pending gauge\ndevspool_events_pending 0\n", "devspool_gaps_total 0\n",
	} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q in\n%s%s", want, r.stdout, r.stderr)
		}
	}
	l.stop()
}
