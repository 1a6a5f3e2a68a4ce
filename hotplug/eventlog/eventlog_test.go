package eventlog

import (
	"encoding/json"
	"strings"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/nodes"
)

// TestFormat shows the time in seconds, also on a board that has booted in 1970.
func TestFormat(t *testing.T) {
	t.Parallel()
	for ms, want := range map[string]string{"1795840406882": "1795840406.882", "1007": "1.007", "512": "0.512", "5": "0.005"} {
		if got := Format(ms+"\t0\tadd\t/x\t\tdone", false); got != want+" 0 add /x done" {
			t.Errorf("%s: %q", ms, got)
		}
	}
}

// TestRing shows that a ring keeps the last events within its size, each as one line, whatever devices
// are called, and that what Format makes of it is JSON.
func TestRing(t *testing.T) {
	t.Parallel()
	var r Ring
	sink := r.Sink()
	for _, name := range []string{"x", "a\tb\n\"\\", "é\xff", strings.Repeat("y", 3000)} {
		for range 300 {
			e := hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/"+name, "SUBSYSTEM=s", "SEQNUM=7")
			sink.Done(e, &nodes.Plan{Event: e, Nodes: []nodes.Node{{Path: "n"}}, Failure: "cannot: \"é\t\xfe\""})
			if len(r.entries) > size || cap(r.entries) != size {
				t.Fatalf("%d bytes, room for %d", len(r.entries), cap(r.entries))
			}
		}
		lines := strings.Split(strings.TrimSuffix(sink.Recent(), "\n"), "\n")
		if len(lines) < 10 {
			t.Errorf("%.20q: only %d lines", name, len(lines))
		}
		for _, line := range lines {
			var got map[string]any
			if err := json.Unmarshal([]byte(Format(line, true)), &got); err != nil || len(got) != len(fields) || got["action"] != "add" {
				t.Fatalf("%q: %v, %v", line, got, err)
			}
			if strings.ContainsAny(Format(line, false), "\t\n") {
				t.Errorf("%q", Format(line, false))
			}
		}
	}
}
