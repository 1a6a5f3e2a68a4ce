package command

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/nodes"
)

// TestLeftBehind has commands leave processes behind that keep their standard error. The last lines
// of a command are there at once; one goroutine reads for all that is left, which can write more than
// the pipe holds, and ends with that.
func TestLeftBehind(t *testing.T) {
	const commands = 6
	dir := t.TempDir()
	before := runtime.NumGoroutine()
	event := hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/x")
	for n := range commands {
		file := filepath.Join(dir, strconv.Itoa(n))
		r, err := Start(&Spec{
			Command: &nodes.Command{Text: "(until test -e " + dir + "/go; do sleep 0.05; done; for n in 1 2 3 4; do head -c 300000 /dev/zero >&2 || exit; sleep 0.5; done; echo all >" + file + ") & " +
				"printf 'zero\\none\\n\\ntwo\\r\\nthree\\n \\n' >&2; exit 3"},
			Plan: &nodes.Plan{Event: event}, Dir: dir, Environ: os.Environ(), KeepErrors: true,
		})
		hotplugtest.Must(t, err)
		if o := r.Wait(); o.String() != "exit status 3: one | two | three" {
			t.Errorf("it ended with %q", o.String())
		}
	}
	hotplugtest.Eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= before+1 })
	hotplugtest.WriteFile(t, dir+"/go", "")
	for n := range commands {
		hotplugtest.Eventually(t, "what is left behind writes all", func() bool {
			text, _ := os.ReadFile(filepath.Join(dir, strconv.Itoa(n)))
			return strings.TrimSpace(string(text)) == "all"
		})
	}
	hotplugtest.Eventually(t, "the last goroutine ends", func() bool { return runtime.NumGoroutine() <= before })
	leftBehind.mu.Lock()
	defer leftBehind.mu.Unlock()
	if leftBehind.pipes != 0 || leftBehind.poller != nil {
		t.Errorf("%d pipes are left", leftBehind.pipes)
	}
}

// TestDrainGoesOn has the poller of a drain fail: the pipes that come after are read.
func TestDrainGoesOn(t *testing.T) {
	var d drain
	add := func() *os.File {
		r, w, err := os.Pipe()
		hotplugtest.Must(t, err)
		d.add(int(r.Fd()))
		r.Close()
		return w
	}
	defer add().Close()
	d.mu.Lock()
	d.poller.Close()
	d.mu.Unlock()
	hotplugtest.Eventually(t, "the goroutine ends", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.poller == nil
	})
	w := add()
	hotplugtest.Within(t, "more than a pipe holds", func() {
		_, err := w.Write(make([]byte, 1<<20))
		hotplugtest.Must(t, err)
	})
	w.Close()
}
