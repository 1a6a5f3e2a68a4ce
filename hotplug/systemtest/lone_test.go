package systemtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"devspool/hotplug/kerneltest"
)

// asleep reports whether no thread of the loop has anything to do.
func (l *loop) asleep() bool {
	l.Helper()
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", l.cmd.Process.Pid))
	if err != nil || len(stats) == 0 {
		l.Fatalf("no threads: %v", err)
	}
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			return false // a thread that has just ended
		}
		if _, state, _ := strings.Cut(string(text), ") "); !strings.HasPrefix(state, "S") {
			return false
		}
	}
	return true
}

// TestLoneEvent counts the system calls of an event that finds the loop asleep: it
// is woken by one poller, and goes back to sleep without another look at the socket.
func TestLoneEvent(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	const events, most = 20, 4
	b := newBoard(t, "")
	l := b.startLoop()
	trace := filepath.Join(b.dir, "trace")
	strace := exec.Command(kerneltest.Need(t, "strace"), "-f", "-qq", "-o", trace, "-p", strconv.Itoa(l.cmd.Process.Pid))
	if err := strace.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		strace.Process.Kill()
		strace.Wait()
	}()
	traced := func() string {
		text, _ := os.ReadFile(trace) // which is there when there is a first line
		return string(text)
	}
	const ours = `iov_base="change@/devices/x\0`
	kerneltest.Until(t, patience, "strace", func() bool {
		l.send(kerneltest.Event{Action: "change", Devpath: "/devices/y"})
		return strings.Contains(traced(), "/devices/y") && l.asleep()
	})
	for n := range events {
		l.send(kerneltest.Event{Action: "change", Devpath: "/devices/x"})
		kerneltest.Until(t, patience, "the event's end", func() bool { return strings.Count(traced(), ours) > n && l.asleep() })
	}
	// Other events may come between, of the machine's own devices, and make of one more
	// calls or fewer. So the one in the middle counts.
	var each []string
	counting := false
	for line := range strings.Lines(traced()) {
		if strings.Contains(line, "iov_base=") {
			if counting = strings.Contains(line, ours); counting {
				each = append(each, "")
			}
		}
		if counting {
			each[len(each)-1] += line
		}
	}
	calls := func(event string) int { return strings.Count(event, "\n") }
	slices.SortFunc(each, func(a, b string) int { return calls(a) - calls(b) })
	if middle := each[len(each)/2]; calls(middle) > most {
		t.Errorf("an event takes %d system calls, not %d:\n%s", calls(middle), most, middle)
	}
}
