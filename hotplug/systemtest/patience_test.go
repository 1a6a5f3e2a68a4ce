package systemtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
)

// TestConfigOfCommands shows what a config says about all commands, and a rule about its
// own: how many run at once, how long others wait for one, and that nobody does. A reload
// brings it into force.
func TestConfigOfCommands(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	conf := func(defaults string) string {
		return defaults + "detach=yes;sdc 0:0 660 @exec sleep 600\npatience=0;sdd 0:0 660 @exec sleep 600\n" +
			"timeout=2;sde 0:0 660 @exec sleep 600\nsd[ab] 0:0 660 @exec sleep 600\nsd.* 0:0 660 @echo $MDEV >>" + b.dir + "/done\n"
	}
	b.configure(conf("jobs=1;patience=1;  0:0  660\n"))
	l := b.startLoop()
	since := time.Now()
	for _, n := range []int{2, 0, 5} { // sdc keeps no slot, sda keeps the only one for a second
		l.send(b.plug(disk(n)))
	}
	has := func(name string) func() bool {
		return func() bool {
			text, _ := os.ReadFile(filepath.Join(b.dir, "done"))
			return strings.Contains(string(text), name)
		}
	}
	kerneltest.Until(t, patience, "the command of sdf", has("sdf"))
	if took := time.Since(since); took < time.Second || took > 4*time.Second {
		t.Errorf("the slot was another's after %v", took)
	}
	b.must(b.run("settle", "4"))
	if strings.Contains(l.stderr.String(), "still runs") {
		t.Errorf("what the config allows is said:\n%s", l.stderr)
	}
	l.send(b.plug(disk(3))) // which keeps the slot for as long as it runs
	l.send(b.plug(disk(6)))
	time.Sleep(2 * time.Second)
	if has("sdg")() {
		t.Error("a command ran in a slot that another keeps")
	}
	if r := b.run("settle", "0.2"); r.code != exitEvent {
		t.Errorf("settle did not wait: %d", r.code)
	}
	b.configure(conf("jobs=3;patience=1;  0:0  660\n"))
	kerneltest.Until(t, patience, "the command of sdg", has("sdg"))
	if r := b.run("status"); !strings.Contains(r.stdout, "3 at most") {
		t.Errorf("status says %q", r.stdout)
	}
	b.must(b.run("ctl", "children-max", "2"))
	l.send(b.plug(disk(4)))
	kerneltest.Until(t, patience, "the end of sde's command", func() bool { return strings.Contains(l.stderr.String(), "ran longer than 2 s") })
	if r := b.run("status"); !strings.Contains(r.stdout, "2 at most") {
		t.Errorf("status says %q", r.stdout)
	}
	l.kill()
}
