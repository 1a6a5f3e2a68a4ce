package systemtest

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
)

// What happened to devices is one thing, what /sys shows by the time that an event is
// done is another: nodes go by the second, commands and clients by the first.

// ways are how events reach the program. Each returns what tells it of one.
var ways = []struct {
	name  string
	start func(b *board) (tell func(kerneltest.Event))
}{
	{"loop", func(b *board) func(kerneltest.Event) { return b.startLoop("-j", "1").send }},
	{"helper", func(b *board) func(kerneltest.Event) {
		b.serve(kerneltest.Event{Action: "add", Devpath: "/devices/first", Vars: []string{"SUBSYSTEM=first"}})
		return b.tell
	}},
}

// log returns the lines of a file that commands write to.
func (b *board) log(file string) []string {
	text, err := os.ReadFile(filepath.Join(filepath.Dir(b.conf), file))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// logs waits until the log holds these lines.
func (b *board) logs(after, file string, want ...string) {
	b.Helper()
	if !kerneltest.Eventually(patience, func() bool { return slices.Equal(b.log(file), want) }) {
		b.Errorf("%s the commands say %q, want %q", after, b.log(file), want)
	}
}

// cards are two of the same place and numbers, one after the other: disks, which the
// kernel numbers anew, and devices of which nothing tells that they are two.
var cards = map[string][2]kerneltest.Device{
	"disk":     {disk(0), with(disk(0), "DISKSEQ=77")},
	"terminal": {terminal(3), terminal(3)},
}

func with(d kerneltest.Device, extra ...string) kerneltest.Device {
	d.Extra = extra
	return d
}

// TestSwappedCard swaps a device while the command of the first one's add runs. Each
// command runs once, in order, and clients hear all of it.
func TestSwappedCard(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	const config = `-if_exists=mask;.*[a3] 0:0 660 @echo mount $UEVENT_LATE >>/etc/log; until test -e /etc/go; do sleep 0.01; done
-.*[a3] 0:0 660 @echo add $MDEV $UEVENT_LATE >>/etc/log
.*[a3] 0:0 660 $echo remove $MDEV $UEVENT_LATE >>/etc/log
`
	for _, way := range ways {
		for kind, card := range cards {
			t.Run(way.name+"/"+kind, func(t *testing.T) {
				b := newJailedBoard(t, config)
				tell := way.start(b)
				w := b.watch("SUBSYSTEM=" + card[0].Subsystem)
				tell(b.plug(card[0]))
				b.logs("at first", "log", "mount")
				tell(b.unplug(card[0]))
				tell(b.plug(card[1]))
				b.write(filepath.Dir(b.conf)+"/go", "")
				name := card[0].Devname
				b.logs("at the end", "log", "mount", "add "+name, "remove "+name+" 1", "mount", "add "+name)
				for _, want := range [][2]string{{"add", ""}, {"remove", "1"}, {"add", ""}} {
					w.expect(map[string]string{"ACTION": want[0], "UEVENT_LATE": want[1], "DEVNAME": "/dev/" + name})
				}
				before := b.snapshot()
				tell(card[1].Event("add"))
				w.expect(map[string]string{"ACTION": "add", "UEVENT_LATE": ""})
				b.logs("once more", "log", "mount", "add "+name, "remove "+name+" 1", "mount", "add "+name, "add "+name)
				b.has(before...)
				tell(b.unplug(card[1]))
				b.has()
			})
		}
	}
}

// TestLateIsTold tells a loop of events that /sys bears out no more. Whoever listens
// hears of each, in order and marked, and its commands run; no node changes.
func TestLateIsTold(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "")
	address := filepath.Join(b.dir, "etc/socket")
	datagrams, err := net.ListenPacket("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	defer datagrams.Close()
	b.configure("-UEVENT_LATE=1;(sd|eth).* 0:0 660 *echo late >>/etc/log\n-(sd|eth).* 0:0 660 *echo $ACTION $MDEV >>/etc/log\n" +
		"sd.* 0:0 660 =disk/ *socket:/etc/socket\n")
	four, err := kerneltest.ListenTo(4)
	if err != nil {
		t.Fatal(err)
	}
	defer four.Close()
	reader, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	b.files = []*os.File{to}
	l := b.startLoop("-O", "4", "-o", "4")
	to.Close()
	w, written := b.watch(), newOutput(reader)

	var inLog []string
	buf := make([]byte, 8192)
	// tell tells of an event, and waits until all have heard of it.
	tell := func(e kerneltest.Event, late string) {
		t.Helper()
		l.send(e)
		name := e.Devpath[strings.LastIndexByte(e.Devpath, '/')+1:]
		want := strings.TrimSpace(e.Action + " " + e.Devpath + " " + late)
		w.expect(map[string]string{"ACTION": e.Action, "DEVPATH": e.Devpath, "UEVENT_LATE": late})
		msg, err := b.nextOf(four, patience)
		if err != nil {
			t.Fatalf("to group 4 came no %s: %v", want, err)
		}
		if got := brief(msg); got != want {
			t.Errorf("to group 4 came %q, want %q", got, want)
		}
		if got, err := written.next(); err != nil || got != msg+"\x00" {
			t.Errorf("written was %q, error %v; want %q", got, err, msg)
		}
		if e.Subsystem() == "block" {
			_ = datagrams.SetReadDeadline(time.Now().Add(patience))
			if n, _, err := datagrams.ReadFrom(buf); err != nil || brief(string(buf[:n])) != want {
				t.Errorf("to the socket came %q, error %v; want %s", buf[:n], err, want)
			}
			name = name[:3]
		}
		if late != "" {
			inLog = append(inLog, "late")
		}
		inLog = append(inLog, e.Action+" "+name)
	}

	gone, back := disk(1), disk(2)
	add := b.plug(gone)
	remove := b.unplug(gone)
	tell(add, "1")
	moved := gone.Event("move").With("DEVPATH_OLD=" + gone.Devpath)
	moved.Devpath += "x"
	tell(moved, "1")
	remove.Devpath += "x"
	tell(remove, "")
	tell(b.plug(back), "")
	nodes := []string{"disk dir 0755 0:0", "disk/sdc block 0660 0:0 8:32", "sdc block 0660 0:0 8:32"}
	b.has(nodes...)
	tell(back.Event("remove"), "1")
	tell(back.Event("remove"), "1") // nothing to end any more
	b.has(nodes...)
	tell(back.Event("add"), "")
	tell(kerneltest.Event{Action: "remove", Devpath: "/devices/virtual/net/eth9", Vars: []string{"SUBSYSTEM=net"}}, "")
	b.has(nodes...)
	tell(b.unplug(back), "")
	b.has()
	b.logs("at the end", "log", inLog...)
}

// brief returns what TestLateIsTold compares of a message: ACTION, DEVPATH and
// UEVENT_LATE.
func brief(msg string) string {
	values := make([]string, 3)
	for kv := range strings.SplitSeq(msg, "\x00") {
		key, value, _ := strings.Cut(kv, "=")
		if i := slices.Index([]string{"ACTION", "DEVPATH", "UEVENT_LATE"}, key); i >= 0 {
			values[i] = value
		}
	}
	return strings.TrimSpace(strings.Join(values, " "))
}

// TestInstances has helpers that know nothing of each other keep a device's history:
// a remove that comes too late ends it, and so does another DISKSEQ.
func TestInstances(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	for kind, card := range cards {
		t.Run(kind, func(t *testing.T) {
			b := newBoard(t, "-if_exists=mask;.* 0:0 660 @echo mount >>../log\n.* 0:0 660 $echo umount >>../log\n")
			b.tell(b.plug(card[0]))
			b.tell(card[0].Event("add"))
			b.logs("at first", "log", "mount")
			remove := b.unplug(card[0])
			b.plug(card[1])
			b.tell(remove)
			b.logs("after the first one's remove", "log", "mount", "umount")
			record := b.read(b.dev + "/.devspool/record")
			if !strings.HasSuffix(record, " state=ended node="+card[0].Devname+"\n") {
				t.Errorf("the record ends in\n%s", record)
			}
			before := b.snapshot()
			b.tell(card[1].Event("add"))
			b.logs("after the second one's add", "log", "mount", "umount", "mount")
			b.has(before...)
			b.tell(card[1].Event("add"))
			b.scan()
			b.logs("after a scan", "log", "mount", "umount", "mount")
			add, remove := card[1].Event("add"), b.unplug(card[1])
			b.tell(remove)
			b.tell(add) // too late
			b.logs("after a late add", "log", "mount", "umount", "mount", "umount", "mount")
			b.has()
			b.scan() // the remove is missing
			b.scan()
			b.logs("after its remove was missed", "log", "mount", "umount", "mount", "umount", "mount", "umount")
			if got := b.read(b.dev + "/.devspool/record"); !strings.HasSuffix(got, "\n"+strings.Fields(record)[0]+"\n") {
				t.Errorf("the record ends in\n%s", got)
			}
		})
	}
}

// TestOldRecord reads a record that an earlier version wrote.
func TestOldRecord(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "-if_exists=mask;.* 0:0 660 @echo mount >>../log\n.* 0:0 660 $echo umount >>../log\n")
	b.tell(b.plug(disk(0)))
	record := b.dev + "/.devspool/record"
	b.write(record, strings.Replace(b.read(record), " diskseq=1", "", 1))
	b.tell(disk(0).Event("add"))
	b.logs("of a disk without a number", "log", "mount")
	b.unplug(disk(0))
	b.plug(with(disk(0), "DISKSEQ=2"))
	b.tell(with(disk(0), "DISKSEQ=2").Event("add"))
	b.logs("of a disk with another number", "log", "mount", "mount")
}

// TestScanOfSwapped scans where a disk was swapped unheard, and its partition with it.
// A disk whose medium alone has changed stays the same device.
func TestScanOfSwapped(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "-if_exists=mask;.* 0:0 660 @echo mount $MDEV >>../log\n.* 0:0 660 $echo umount $MDEV >>../log\n")
	part := partition(disk(0), 1)
	b.add(disk(0), part)
	b.scan()
	b.scan()
	b.logs("at first", "log", "mount sda", "mount sda1")
	swap := func(seq string) kerneltest.Device {
		b.unplug(part)
		b.unplug(disk(0))
		other := with(disk(0), "DISKSEQ="+seq)
		b.plug(other)
		b.plug(part)
		return other
	}
	swap("50")
	os.Remove(b.dir + "/log")
	b.must(b.run("-s", "-j", "1"))
	b.scan()
	b.logs("after a swap", "log", "umount sda1", "umount sda", "mount sda", "mount sda1")
	b.tell(swap("51").Event("change"))
	b.scan()
	b.logs("after a change of the medium", "log", "umount sda1", "umount sda", "mount sda", "mount sda1")
	b.has("sda block 0660 0:0 8:0", "sda1 block 0660 0:0 8:1")
}

// TestScanBesideEvents scans while a device's remove is under way: what the scan finds
// missing is not done a second time.
func TestScanBesideEvents(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "sda 0:0 660 $echo remove >>/etc/log; until test -e /etc/go; do sleep 0.01; done\n")
	l := b.startLoop()
	w := b.watch()
	l.send(b.plug(disk(0)))
	w.expect(map[string]string{"ACTION": "add"})
	l.send(b.unplug(disk(0)))
	b.logs("at first", "log", "remove")
	scan := b.command("-s") // which hands itself to the loop
	scan.Stderr = b.null
	if err := b.start(scan); err != nil {
		t.Fatal(err)
	}
	kerneltest.Until(t, patience, "the scan's event", func() bool { return strings.HasPrefix(b.status("under way"), "2, ") })
	b.write(filepath.Dir(b.conf)+"/go", "")
	if err := scan.Wait(); err != nil {
		t.Errorf("the scan: %v", err)
	}
	l.send(b.plug(disk(1)))
	w.expect(map[string]string{"ACTION": "remove", "DEVPATH": disk(0).Devpath})
	w.expect(map[string]string{"ACTION": "add", "DEVPATH": disk(1).Devpath})
	b.logs("at the end", "log", "remove")
}

// TestOtherNumbers gives a device's place to one of other numbers, and nobody tells of
// a remove: what the old rule made of the first one goes, however that is learnt.
func TestOtherNumbers(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	first := disk(0)
	second := first
	second.Minor = 64
	learn := map[string]func(b *board) (tell func(kerneltest.Event)){
		"scan": func(b *board) func(kerneltest.Event) { return func(kerneltest.Event) { b.scan() } },
		"alone": func(b *board) func(kerneltest.Event) {
			return func(e kerneltest.Event) {
				cmd := b.helper(e)
				cmd.Args = cmd.Args[:1] // as a script calls it
				cmd.Env = e.Environ(b.nextSeqnum())
				b.must(b.finish(cmd))
			}
		},
	}
	for _, way := range ways {
		learn[way.name] = way.start
	}
	for how, start := range learn {
		for name, config := range map[string]string{
			"moved":     "@8,0 0:0 660 >cards/first/\n@8,64 0:0 600 =cards/second/\n",
			"kept":      "@8,0 0:0 660 >cards/%0\n",
			"same link": "@8,0 0:0 660 >cards/a\n@8,64 0:0 600 >cards/a\n",
			"refused":   "@8,64 0:0 600 !\n",
			"no rules":  "",
		} {
			t.Run(how+"/"+name, func(t *testing.T) {
				b := newJailedBoard(t, config)
				tell := start(b)
				tell(b.plug(first))
				b.likeFresh("the first one's add")
				if len(b.snapshot()) == 0 {
					t.Fatal("nothing was made")
				}
				b.unplug(first)
				tell(b.plug(second))
				b.likeFresh("the second one's add")
				tell(b.unplug(second))
				b.has()
			})
		}
	}
}
