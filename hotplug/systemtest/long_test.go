package systemtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
)

// TestLongCommands has as many commands as there are slots run on and on. The command
// of another device, and the remove that ends one of them, run all the same; the loop
// can be settled and stopped, and says once what is wrong.
func TestLongCommands(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	b.configure("-sda 0:0 660 $kill $(cat " + b.dir + "/pid.sda); echo removed >" + b.dir + "/removed\n" +
		"sd[abcd] 0:0 660 @echo $$ >" + b.dir + "/pid.$MDEV; exec sleep 600\n" +
		"sde 0:0 660 @echo done >" + b.dir + "/done\n")
	l := b.startLoop("-j", "4")
	for n := range 5 {
		l.send(b.plug(disk(n)))
	}
	exists := func(name string) func() bool {
		return func() bool { _, err := os.Stat(filepath.Join(b.dir, name)); return err == nil }
	}
	kerneltest.Until(t, patience, "a fifth device's command", exists("done"))
	l.send(b.unplug(disk(0)))
	kerneltest.Until(t, patience, "the remove whose command ends the add's", exists("removed"))
	b.must(b.run("settle", "10"))
	if n := strings.Count(l.stderr.String(), "still runs"); n != 1 {
		t.Errorf("the log says it %d times:\n%s", n, l.stderr)
	}
	if !strings.Contains(l.stderr.String(), "mdev.conf:2") {
		t.Errorf("the log names no line:\n%s", l.stderr)
	}
	begun := time.Now()
	if code := l.stop(); code != exitDone || time.Since(begun) > patience {
		t.Errorf("exit code %d after %v", code, time.Since(begun))
	}
}
