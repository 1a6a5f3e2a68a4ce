package systemtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
)

// lost is an event whose helper was killed before it handed over: its number is used.
func (b *board) lost(kerneltest.Event) { b.nextSeqnum() }

// TestServerMissed loses helpers. The next event, or its absence, has the server
// compare /dev with /sys. What was set up runs no command again.
func TestServerMissed(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	const conf = "sd.* 0:0 600 *echo $ACTION $MDEV >>/etc/log\n"
	for _, c := range []struct {
		name string
		lose func(b *board)
		want string
	}{
		{"in the middle", func(b *board) {
			b.serve(b.plug(disk(0)))
			b.lost(b.plug(disk(1)))
			b.tell(b.plug(disk(2)))
			b.lost(b.unplug(disk(0)))
			b.tell(b.plug(disk(3)))
		}, "add sda, add sdc, add sdd, add sdb, remove sda"},
		{"the last", func(b *board) {
			b.write(b.tree.Dir+"/kernel/uevent_seqnum", "2\n")
			b.serve(b.plug(disk(0)))
			b.lost(b.plug(disk(1)))
		}, "add sda, add sdb"},
		{"the first of all", func(b *board) {
			b.lost(b.plug(disk(0)))
			b.serve(b.plug(disk(1)))
		}, "add sda, add sdb"},
		{"between servers", func(b *board) {
			first := b.serve(b.plug(disk(0)))
			b.must(b.run("ctl", "exit"))
			first.Wait()
			b.lost(b.plug(disk(1)))
			b.serve(b.plug(disk(2)))
		}, "add sda, add sdb, add sdc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newJailedBoard(t, conf)
			c.lose(b)
			b.likeFreshNodes()
			log := filepath.Dir(b.conf) + "/log"
			want := strings.Split(c.want, ", ")
			var got []string
			ok := kerneltest.Eventually(patience, func() bool {
				text, _ := os.ReadFile(log)
				got = strings.Split(strings.TrimSpace(string(text)), "\n")
				return len(got) >= len(want)
			})
			kerneltest.Until(t, patience, "the server to leave", func() bool { return !b.served() })
			text, _ := os.ReadFile(log)
			got = strings.Split(strings.TrimSpace(string(text)), "\n")
			if diff := kerneltest.Diff(sorted(want), sorted(got)); !ok || diff != "" {
				t.Errorf("commands (-want +found):\n%s", diff)
			}
		})
	}
}

// likeFreshNodes is likeFresh without a command being run for the comparison.
func (b *board) likeFreshNodes() {
	b.Helper()
	var want []string
	for _, d := range b.tree.Devices() {
		want = append(want, fmt.Sprintf("%s block 0600 0:0 %d:%d", d.Devname, d.Major, d.Minor))
	}
	b.has(sorted(want)...)
}

// TestServerMissesNothing leaves at its usual time where every number came.
func TestServerMissesNothing(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "")
	b.plug(disk(9)) // nobody has lost an event of this one
	first := b.serve(b.plug(disk(0)))
	b.tell(b.plug(disk(1)))
	start := time.Now()
	if err := first.Wait(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 9*time.Second {
		t.Errorf("it left after %v", took)
	}
	b.has("sda block 0660 0:0 8:0", "sdb block 0660 0:0 8:16")
}
