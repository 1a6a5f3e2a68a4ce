package systemtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
)

// numbered returns the helper of an event with a number of the test's choice.
func (b *board) numbered(e kerneltest.Event, seqnum uint64) *exec.Cmd {
	cmd := b.helper(e)
	cmd.Env = e.Environ(seqnum)
	return cmd
}

// TestTurnstile starts helpers in the wrong order where mdev.seq is: they go
// through in the right one.
func TestTurnstile(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, ".* 0:0 600 *echo $SEQNUM >>../log\n")
	for round := range 5 {
		os.Remove(b.dir + "/log")
		base := uint64(1000 * (round + 1))
		b.write(b.dev+"/mdev.seq", fmt.Sprintln(base))
		var all sync.WaitGroup
		const n = 8
		for i := n - 1; i >= 0; i-- {
			e := kerneltest.Event{Action: "change", Devpath: fmt.Sprintf("/devices/x%d", i), Vars: []string{"SUBSYSTEM=x"}}
			cmd := b.numbered(e, base+uint64(i))
			if err := b.start(cmd); err != nil {
				t.Fatal(err)
			}
			all.Go(func() { _ = cmd.Wait() })
		}
		all.Wait()
		var want strings.Builder
		for i := range n {
			fmt.Fprintln(&want, base+uint64(i))
		}
		if got := b.read(b.dir + "/log"); got != want.String() {
			t.Fatalf("round %d: the order was\n%s", round, got)
		}
		if got := strings.TrimSpace(b.read(b.dev + "/mdev.seq")); got != fmt.Sprint(base+n) {
			t.Errorf("mdev.seq holds %q", got)
		}
	}
}

func TestTurnstileStates(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	for _, c := range []struct {
		name, before string
		seqnum       uint64
		after        string
		waits        bool
	}{
		{"empty", "", 7, "8", false},
		{"newline", "\n", 7, "8", false},
		{"my turn", "7\n", 7, "8", false},
		{"past", "9", 7, "9", false},
		{"missing one", "6", 7, "8", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBoard(t, "")
			b.write(b.dev+"/mdev.seq", c.before)
			start := time.Now()
			b.must(b.finish(b.numbered(b.plug(disk(0)), c.seqnum)))
			took := time.Since(start)
			if c.waits != (took > time.Second) || took > 10*time.Second {
				t.Errorf("took %v", took)
			}
			if got := strings.TrimSpace(b.read(b.dev + "/mdev.seq")); got != c.after {
				t.Errorf("mdev.seq holds %q, want %q", got, c.after)
			}
			if lines := b.snapshot(); len(lines) != 2 {
				t.Errorf("/dev: %q", lines)
			}
		})
	}
}

// TestTurnstileIsALink has root write through a link that somebody left.
func TestTurnstileIsALink(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	dir, untouched := b.outside()
	b.symlink(dir+"/file", "mdev.seq")
	b.symlink(dir+"/file", "mdev.log")
	b.finish(b.numbered(b.plug(disk(0)), 7))
	untouched()
	if got := b.read(dir + "/file"); got != "precious" {
		t.Errorf("the file outside holds %q", got)
	}
}

func TestHelperLog(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sda 0:0 600 =sub/\n")
	b.write(b.dev+"/mdev.log", "first line\n")
	b.write(b.dev+"/sub", "in the way\n")
	b.finish(b.numbered(b.plug(disk(0)), 4711))
	log := b.read(b.dev + "/mdev.log")
	if !strings.HasPrefix(log, "first line\n") || !strings.Contains(log, "4711") || !strings.Contains(log, "sub/sda") {
		t.Errorf("mdev.log holds:\n%s", log)
	}
}

// TestClosedDescriptors starts helpers as the kernel does, without descriptors 0
// to 2, on an empty /dev: the first one serves the second.
func TestClosedDescriptors(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "sda 0:0 600 *echo out; echo err >&2; cat; echo $ACTION >>/etc/log\n")
	for n, d := range []kerneltest.Device{disk(1), disk(0)} {
		e := b.plug(d)
		cmd := exec.Command("/bin/sh", "-c", "exec "+b.program+" "+e.Subsystem()+" <&- >&- 2>&-")
		cmd.Env = e.Environ(uint64(n + 1))
		in, out, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, out
		if err := b.start(cmd); err != nil {
			t.Fatal(err)
		}
		err = cmd.Wait()
		in.Close()
		out.Close()
		if err != nil {
			t.Errorf("helper for %s: %v", d.Devname, err)
		}
	}
	b.has("sda block 0600 0:0 8:0", "sdb block 0660 0:0 8:16")
	kerneltest.Until(t, patience, "the command", func() bool {
		text, _ := os.ReadFile(filepath.Dir(b.conf) + "/log")
		return string(text) == "add\n"
	})
}

// TestLateEvents sends events that /sys contradicts by now.
func TestLateEvents(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	add := b.plug(disk(0))
	remove := b.unplug(disk(0))
	b.tell(remove)
	b.tell(add)
	b.has()
	b.plug(disk(0))
	b.tell(add)
	b.tell(remove)
	b.has("sda block 0660 0:0 8:0")
}

// TestWithoutSysfs has no sysfs, so that the event alone decides.
func TestWithoutSysfs(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "input/.* 0:13 640\n")
	if err := os.RemoveAll(b.tree.Dir); err != nil {
		t.Fatal(err)
	}
	b.tell(input(0).Event("add"))
	b.tell(disk(0).Event("add"))
	b.has("input dir 0755 0:0", "input/event0 char 0640 0:13 13:64", "sda block 0660 0:0 8:0")
	b.tell(input(0).Event("remove"))
	b.has("sda block 0660 0:0 8:0")
}

// TestFirmware answers requests with stand-ins for sysfs's two files.
func TestFirmware(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	blob := strings.Repeat("firmware\x00", 20000)
	for _, c := range []struct{ name, file, loading, data string }{
		{"there", "vendor/x.bin", "10", blob},
		{"missing", "nosuch.bin", "-1", ""},
		{"outside", "../mdev.conf", "", ""},
		{"absolute", "/etc/passwd", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBoard(t, "")
			if err := os.Mkdir(b.firmware+"/vendor", 0o755); err != nil {
				t.Fatal(err)
			}
			b.write(b.firmware+"/vendor/x.bin", blob)
			d := kerneltest.Device{
				Devpath: "/devices/pci0/firmware/x", Subsystem: "firmware", Extra: []string{"FIRMWARE=" + c.file},
				Attrs: map[string]string{"loading": "", "data": ""},
			}
			b.finish(b.helper(b.plug(d)))
			got := b.read(filepath.Join(b.tree.Dir, d.Devpath, "loading"))
			data := b.read(filepath.Join(b.tree.Dir, d.Devpath, "data"))
			if c.loading == "" && (got == "-1" || got == "") {
				got = ""
			}
			if got != c.loading || data != c.data {
				t.Errorf("loading got %q, data %d bytes; want %q, %d bytes", got, len(data), c.loading, len(c.data))
			}
		})
	}
}
