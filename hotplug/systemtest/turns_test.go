package systemtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
)

func sorted(lines []string) []string {
	lines = slices.Clone(lines)
	slices.Sort(lines)
	return lines
}

// ordered starts the kernel's helpers of n events, the last first, and returns what
// the log of their commands says when it has so many lines.
func (b *board) ordered(n int, base uint64, lines int) string {
	b.Helper()
	var all sync.WaitGroup
	for i := n - 1; i >= 0; i-- {
		cmd := b.numbered(b.plug(disk(i)), base+uint64(i))
		cmd.Stderr = b.null
		if err := b.start(cmd); err != nil {
			b.Fatal(err)
		}
		all.Go(func() { _ = cmd.Wait() })
	}
	b.T.Cleanup(all.Wait)
	var text []byte
	kerneltest.Eventually(patience, func() bool {
		text, _ = os.ReadFile(filepath.Dir(b.conf) + "/log")
		return strings.Count(string(text), "\n") >= lines
	})
	return string(text)
}

// turn waits for a number in mdev.seq.
func (b *board) turn(want string) {
	b.Helper()
	got := ""
	kerneltest.Eventually(patience, func() bool {
		got = strings.TrimSpace(b.read(b.dev + "/mdev.seq"))
		return got == want
	})
	if got != want {
		b.Errorf("mdev.seq holds %q, want %q", got, want)
	}
}

// TestServerTurns has the first of the kernel's helpers keep the order and the number
// of mdev.seq: each event's commands are done before the next event begins.
func TestServerTurns(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	const said = "sd.* 0:0 600 @sleep 0.05; echo $SEQNUM $(cat /dev/mdev.seq) $(ls -d /dev/sd? | wc -l) >>/etc/log\n"
	for _, c := range []struct {
		name, holds string
		base        uint64
	}{
		{"a number", "100\n", 100},
		{"a longer number", "  100  \n", 100},
		{"empty", "", 1},
		{"a new line", "\n", 1},
		{"one digit more at the end", "5", 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newJailedBoard(t, said)
			b.write(b.dev+"/mdev.seq", c.holds)
			const n = 12
			got := b.ordered(n, c.base, n)
			want := ""
			for i := range n {
				want += fmt.Sprintln(c.base+uint64(i), c.base+uint64(i), i+1)
			}
			if got != want {
				t.Errorf("the commands say\n%s, want\n%s", got, want)
			}
			b.turn(fmt.Sprint(c.base + n))
			if !b.served() {
				t.Error("none of the helpers serves")
			}
		})
	}
}

// TestServerTurnsWithOthers has another helper, such as BusyBox's, do an event between
// those of the server.
func TestServerTurnsWithOthers(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "sd.* 0:0 600 @echo $SEQNUM >>/etc/log\n")
	b.write(b.dev+"/mdev.seq", "1\n")
	b.serve(b.plug(disk(0)))
	b.turn("2")
	b.nextSeqnum() // the other's
	b.tell(b.plug(disk(1)))
	time.Sleep(500 * time.Millisecond) // the other takes its time; no condition tells that nothing happens
	log := filepath.Dir(b.conf) + "/log"
	if got := b.read(log); got != "1\n" {
		t.Errorf("before the other's turn was over the commands said %q", got)
	}
	b.write(b.dev+"/mdev.seq", "3")
	b.turn("4")
	if got := b.read(log); got != "1\n3\n" {
		t.Errorf("the commands said %q", got)
	}
	b.nextSeqnum() // one that never takes its turn
	start := time.Now()
	b.tell(b.plug(disk(2)))
	b.turn("6")
	if took := time.Since(start); took < time.Second || took > 15*time.Second {
		t.Errorf("for a turn that nobody takes it waited %v", took)
	}
}

// TestServerTurnsStuck has a command that does not end: others wait for it as long as
// for a helper that is killed, together.
func TestServerTurnsStuck(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "sda 0:0 600 @sleep 30; echo late >>/etc/log\nsd.* 0:0 600 @sleep 0.5; echo $SEQNUM >>/etc/log\n")
	b.write(b.dev+"/mdev.seq", "1\n")
	start := time.Now()
	b.ordered(10, 1, 9)
	b.turn("11")
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
}
