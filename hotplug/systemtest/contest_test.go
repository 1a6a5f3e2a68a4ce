package systemtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// labelConf gives partitions of one name one path.
const labelConf = "$PARTNAME=(.+) 0:6 640 >disk/by-partlabel/%1\n"

// fixedDisk is soldered in: an eMMC. Its partition 2 is named data.
func fixedDisk() (disk, data kerneltest.Device) {
	disk = kerneltest.Device{
		Devpath: "/devices/platform/soc/mmc0/mmc0:0001/block/mmcblk0", Subsystem: "block", Devname: "mmcblk0", Devtype: "disk",
		Block: true, Major: 179, Extra: []string{"DISKSEQ=1"}, Attrs: map[string]string{"removable": "0\n", "diskseq": "1\n"},
	}
	return disk, named(disk, 2, "data")
}

// stick is a disk behind USB that can be pulled out, and its partition 1 of the same
// name.
func stick(n int, diskseq int) (disk_, data kerneltest.Device) {
	d := disk(n)
	d.Devpath = "/devices/pci0000:00/usb1/1-" + strconv.Itoa(n+1) + "/host" + strconv.Itoa(n) + "/block/" + d.Devname
	seq := strconv.Itoa(diskseq)
	d.Extra = []string{"DISKSEQ=" + seq}
	d.Attrs = map[string]string{"removable": "1\n", "diskseq": seq + "\n"}
	return d, named(d, 1, "data")
}

// named returns a partition with a PARTNAME.
func named(of kerneltest.Device, n int, name string) kerneltest.Device {
	p := partition(of, n)
	if of.Devname == "mmcblk0" {
		p.Devname = of.Devname + "p" + strconv.Itoa(n)
		p.Devpath = of.Devpath + "/" + p.Devname
	}
	p.Extra = append(p.Extra, "PARTNAME="+name)
	return p
}

// teller is one of the ways in which the program hears of events.
type teller struct {
	name string
	tell func(b *board) func(kerneltest.Event)
}

// tellers are the three modes.
var tellers = []teller{
	{"helper", func(b *board) func(kerneltest.Event) { return b.tell }},
	{"loop", func(b *board) func(kerneltest.Event) { return b.startLoop().send }},
	{"scan", func(b *board) func(kerneltest.Event) { return func(kerneltest.Event) { b.scan() } }},
}

// inEachMode plays a test in each mode, on boards of their own.
func inEachMode(t *testing.T, conf string, play func(b *board, tell func(kerneltest.Event))) {
	for _, mode := range tellers {
		t.Run(mode.name, func(t *testing.T) {
			b := newBoard(t, conf)
			play(b, mode.tell(b))
		})
	}
}

// TestOnePartitionName has an eMMC and a stick with partitions of one name, whichever
// comes first: the soldered one has the path, the other one its node at its own name.
// When the path falls back, so do the names.
func TestOnePartitionName(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	mmc, fixed := fixedDisk()
	usb, data := stick(0, 9)
	dirs := []string{"disk dir 0755 0:0", "disk/by-partlabel dir 0755 0:0"}
	both := append(slices.Clone(dirs), "disk/by-partlabel/data block 0640 0:6 179:2", "mmcblk0 block 0660 0:0 179:0",
		"mmcblk0p2 link -> disk/by-partlabel/data", "sda block 0660 0:0 8:0", "sda1 block 0640 0:6 8:1")
	alone := append(slices.Clone(dirs), "disk/by-partlabel/data block 0640 0:6 8:1", "mmcblk0 block 0660 0:0 179:0",
		"sda block 0660 0:0 8:0", "sda1 link -> disk/by-partlabel/data")
	for _, order := range [][]kerneltest.Device{{mmc, fixed, usb, data}, {usb, data, mmc, fixed}} {
		t.Run(order[0].Devname, func(t *testing.T) {
			inEachMode(t, labelConf, func(b *board, tell func(kerneltest.Event)) {
				for _, d := range order {
					tell(b.plug(d))
				}
				b.has(both...)
				tell(b.unplug(fixed))
				b.has(alone...)
				tell(b.plug(fixed))
				b.has(both...)
				tell(data.Event("change"))
				tell(data.Event("add"))
				b.has(both...)
				for _, d := range []kerneltest.Device{data, usb, fixed, mmc} {
					tell(b.unplug(d))
				}
				b.has()
			})
		})
	}
}

// TestFirstStickStays has two sticks: the second one does not displace the first,
// whatever their names are.
func TestFirstStickStays(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	for _, c := range []struct{ first, second int }{{0, 1}, {1, 0}} {
		t.Run(letters(c.first), func(t *testing.T) {
			inEachMode(t, labelConf, func(b *board, tell func(kerneltest.Event)) {
				usb, first := stick(c.first, 11)
				usb2, second := stick(c.second, 12)
				for _, d := range []kerneltest.Device{usb, first, usb2, second} {
					tell(b.plug(d))
				}
				want := []string{"disk dir 0755 0:0", "disk/by-partlabel dir 0755 0:0",
					fmt.Sprintf("disk/by-partlabel/data block 0640 0:6 8:%d", first.Minor),
					usb.Devname + fmt.Sprintf(" block 0660 0:0 8:%d", usb.Minor), usb2.Devname + fmt.Sprintf(" block 0660 0:0 8:%d", usb2.Minor),
					first.Devname + " link -> disk/by-partlabel/data", second.Devname + fmt.Sprintf(" block 0640 0:6 8:%d", second.Minor)}
				slices.Sort(want)
				b.has(want...)
				b.likeFresh("two sticks")
			})
		})
	}
}

// TestContestedNames has rules bring devices to paths of others, with = and with >.
func TestContestedNames(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	for _, c := range []struct {
		name, conf string
		want       []string
	}{
		{"=path", "sd[ab] 0:6 640 =x\n", []string{"sda block 0640 0:6 8:0", "sdc block 0660 0:0 8:32", "x block 0640 0:6 8:16"}},
		{"the name of another one", "sdb 0:6 640 =sda\n", []string{"sda block 0660 0:0 8:0", "sdb block 0640 0:6 8:16", "sdc block 0660 0:0 8:32"}},
		{"> the name of another one", "sdb 0:6 640 >sda\n", []string{"sda block 0660 0:0 8:0", "sdb block 0640 0:6 8:16", "sdc block 0660 0:0 8:32"}},
		{"below the name of another one", "sdb 0:6 640 =sda/x\n", []string{"sda block 0660 0:0 8:0", "sdb block 0640 0:6 8:16", "sdc block 0660 0:0 8:32"}},
		{"> below the name of another one", "sdb 0:6 640 >sda/x/y\n", []string{"sda block 0660 0:0 8:0", "sdb block 0640 0:6 8:16", "sdc block 0660 0:0 8:32"}},
		{"a link below the name of another one", "link=sda/x/y;sdb 0:6 640\n", []string{"sda block 0660 0:0 8:0", "sdb block 0640 0:6 8:16", "sdc block 0660 0:0 8:32"}},
		{"two below the name of another one", "sd[bc] 0:6 640 =sda/%0\n", []string{"sda block 0660 0:0 8:0", "sdb block 0640 0:6 8:16", "sdc block 0640 0:6 8:32"}},
		{"below a name that is a link", "sda 0:6 640 >x\nsdb 0:6 640 =sda/x\n", []string{"sda link -> x", "sdb block 0640 0:6 8:16", "sdc block 0660 0:0 8:32", "x block 0640 0:6 8:0"}},
		{"below a name that is not used", "sda 0:6 640 =x\nsdb 0:6 640 =sda/x\n", []string{"sda dir 0755 0:0", "sda/x block 0640 0:6 8:16", "sdc block 0660 0:0 8:32", "x block 0640 0:6 8:0"}},
		{"below a name that is needed", "sda 0:6 640 =x\nsdb 0:6 640 =sda/x\nsdc 0:6 640 =x\n", []string{"sda block 0640 0:6 8:0", "sdb block 0640 0:6 8:16", "x block 0640 0:6 8:32"}},
		{"exchanged names", "sda 0:6 640 =sdb\nsdb 0:6 600 =sda\n", []string{"sda block 0600 0:6 8:16", "sdb block 0640 0:6 8:0", "sdc block 0660 0:0 8:32"}},
		{"names exchanged with links", "sda 0:6 640 >sdb\nsdb 0:6 600 >sda\n", []string{"sda block 0640 0:6 8:0", "sdb block 0600 0:6 8:16", "sdc block 0660 0:0 8:32"}},
		{"a chain", "sda 0:6 640 =sdb\nsdb 0:6 600 =x\nsdc 0:6 604 =x\n", []string{"sda block 0640 0:6 8:0", "sdb block 0600 0:6 8:16", "x block 0604 0:6 8:32"}},
		{"three, and one has another node", "-sda 0:6 600 =y\nsd[a-c] 0:6 640 >x\n",
			[]string{"sda block 0640 0:6 8:0", "sdb block 0640 0:6 8:16", "sdc link -> x", "x block 0640 0:6 8:32", "y block 0600 0:6 8:0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inEachMode(t, c.conf, func(b *board, tell func(kerneltest.Event)) {
				for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}} {
					for _, n := range order {
						tell(b.plug(disk(n)))
					}
					b.has(c.want...)
					for _, n := range order {
						tell(b.unplug(disk(n)))
					}
					b.has()
				}
			})
		})
	}
}

// TestBelowAnothersName brings a device to a path below the name of another one, which is a
// directory until that one comes, and again when it has left. A warning names both devices and the
// line.
func TestBelowAnothersName(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	owner := kerneltest.Device{Devpath: "/devices/pci0000:00/usb1/1-1/1-1:1.0/tty/ttyACM0", Subsystem: "tty", Devname: "ttyACM0", Major: 166}
	for _, c := range []struct {
		name, conf  string
		alone, both []string
	}{
		{"a node", "sda 0:6 640 =ttyACM0/x\n",
			[]string{"ttyACM0 dir 0755 0:0", "ttyACM0/x block 0640 0:6 8:0"},
			[]string{"sda block 0640 0:6 8:0", "ttyACM0 char 0660 0:0 166:0"}},
		{"a node and a link", "sda 0:6 640 >ttyACM0/x/y\n",
			[]string{"sda link -> ttyACM0/x/y", "ttyACM0 dir 0755 0:0", "ttyACM0/x dir 0755 0:0", "ttyACM0/x/y block 0640 0:6 8:0"},
			[]string{"sda block 0640 0:6 8:0", "ttyACM0 char 0660 0:0 166:0"}},
		{"a link", "link=ttyACM0/x;sda 0:6 640\n",
			[]string{"sda block 0640 0:6 8:0", "ttyACM0 dir 0755 0:0", "ttyACM0/x link -> ../sda"},
			[]string{"sda block 0640 0:6 8:0", "ttyACM0 char 0660 0:0 166:0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inEachMode(t, c.conf, func(b *board, tell func(kerneltest.Event)) {
				tell(b.plug(disk(0)))
				b.has(c.alone...)
				for range 2 {
					tell(b.plug(owner))
					b.has(c.both...)
					tell(disk(0).Event("add"))
					tell(owner.Event("add"))
					b.has(c.both...)
					b.likeFresh("both")
					tell(b.unplug(owner))
					b.has(c.alone...)
				}
				tell(b.plug(owner))
				away := owner
				away.Devpath, away.Devname = "/devices/pci0000:00/usb1/1-1/1-1:1.0/tty/ttyACM9", "ttyACM9"
				move := func(from, to kerneltest.Device) {
					b.unplug(from)
					b.plug(to)
					tell(to.Event("move").With("DEVPATH_OLD=" + from.Devpath))
				}
				move(owner, away)
				b.has(append(slices.Clone(c.alone), "ttyACM9 char 0660 0:0 166:0")...)
				move(away, owner)
				b.has(c.both...)
				tell(b.unplug(disk(0)))
				b.has(c.both[1])
				tell(b.plug(disk(0)))
				b.has(c.both...)
				tell(b.unplug(owner))
				b.has(c.alone...)
				tell(b.unplug(disk(0)))
				b.has()
			})
		})
	}
	b := newBoard(t, "# comment\nsda 0:6 640 =ttyACM0/x\n")
	want := "devspool: warning: two devices want " + b.dev + "/ttyACM0/x: "
	b.add(disk(0))
	b.scan()
	b.add(owner)
	for i, want := range []string{want, ""} {
		if r := b.run("-s"); r.code != exitDone || (want == "") != (r.stderr == "") || !strings.HasPrefix(r.stderr, want) ||
			want != "" && (!strings.Contains(r.stderr, owner.Devpath+" (built in) has "+b.dev+"/ttyACM0, ") || !strings.Contains(r.stderr, disk(0).Devpath+" ("+b.conf+":2) is at "+b.dev+"/sda")) {
			t.Errorf("scan %d: exit code %d, said %q", i, r.code, r.stderr)
		}
	}
}

// TestContestIsSaidOnce looks for the warning: both devices, the line of each, once a
// contest and not at each scan.
func TestContestIsSaidOnce(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "# comment\nsda 0:6 640 =x\nsdb 0:6 640 >x\n")
	b.add(disk(0))
	if r := b.run("-s"); r.stderr != "" {
		t.Errorf("said: %s", r.stderr)
	}
	b.add(disk(1))
	want := "devspool: warning: two devices want " + b.dev + "/x: " + disk(1).Devpath + " (" + b.conf + ":3) has it, " +
		disk(0).Devpath + " (" + b.conf + ":2) is at " + b.dev + "/sda (give them different paths, for example with %0)\n"
	for i, want := range []string{want, "", ""} {
		if r := b.run("-s"); r.code != exitDone || r.stderr != want {
			t.Errorf("scan %d: exit code %d, said %q, want %q", i, r.code, r.stderr, want)
		}
	}
	b.tell(b.unplug(disk(1)))
	if r := b.finish(b.helper(b.plug(disk(1)))); r.stderr != want {
		t.Errorf("a helper said %q, want %q", r.stderr, want)
	}
	l := b.startLoop()
	for range 2 {
		l.send(disk(0).Event("add"))
		l.send(disk(1).Event("add"))
	}
	if code := l.stop(); code != exitDone || l.stderr.String() != "" {
		t.Errorf("the loop said: %s", l.stderr)
	}
}

// TestLoserIsCalledByItsName has commands and clients hear of the node that the device
// has, on add and on remove.
func TestLoserIsCalledByItsName(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	play := func(t *testing.T, mode teller) {
		b := newBoard(t, "")
		words, file := b.witness("seen")
		b.configure("$PARTNAME=(.+) 0:6 640 >disk/by-partlabel/%1 *" + words + "\n")
		tell := mode.tell(b)
		usb, data := stick(0, 9)
		mmc, fixed := fixedDisk()
		for _, d := range []kerneltest.Device{mmc, fixed, usb, data} {
			tell(b.plug(d))
		}
		var got []string
		saw := func(commands int) {
			kerneltest.Until(b, patience, strconv.Itoa(commands)+" commands", func() bool {
				got = nil
				for _, y := range b.testimonies(file) {
					got = append(got, y.get("ACTION")+" "+y.get("DEVNAME")+" "+y.get("MDEV"))
				}
				return len(got) == commands
			})
		}
		saw(2)
		tell(b.unplug(data))
		saw(3)
		tell(b.unplug(fixed))
		saw(4)
		slices.Sort(got)
		want := []string{"add mmcblk0p2 disk/by-partlabel/data", "add sda1 sda1", "remove mmcblk0p2 disk/by-partlabel/data", "remove sda1 sda1"}
		if !slices.Equal(got, want) {
			b.Errorf("commands ran with %q, want %q", got, want)
		}
	}
	for _, mode := range tellers {
		if mode.name != "scan" { // which knows no rules for a remove that it makes up itself
			t.Run(mode.name, func(t *testing.T) { play(t, mode) })
		}
	}
}

// TestScanTellsLoser has the commands of a first scan hear of the node that their device has
// when all are set up, though the stick is found before the soldered disk that has the better
// claim: its command never works on the other one's node.
func TestScanTellsLoser(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	for _, mode := range []string{"scan", "loop"} {
		t.Run(mode, func(t *testing.T) {
			b := newBoard(t, "")
			words, file := b.witness("seen")
			b.configure("$PARTNAME=(.+) 0:6 640 >disk/by-partlabel/%1 @" + words + "\n")
			usb, data := stick(0, 9)
			mmc, fixed := fixedDisk()
			plugged := []kerneltest.Device{usb, data, mmc, fixed}
			for n := range 200 { // the scan has more than one slice
				plugged = append(plugged, disk(n+1))
			}
			for _, d := range plugged {
				b.plug(d)
			}
			if mode == "scan" {
				b.scan()
			} else {
				b.startLoop()
			}
			var got []string
			kerneltest.Until(b, patience, "both commands", func() bool {
				got = nil
				for _, y := range b.testimonies(file) {
					got = append(got, y.get("DEVNAME")+" "+y.get("MDEV"))
				}
				return len(got) == 2
			})
			slices.Sort(got)
			if want := []string{"mmcblk0p2 disk/by-partlabel/data", "sda1 sda1"}; !slices.Equal(got, want) {
				b.Errorf("commands ran with %q, want %q", got, want)
			}
		})
	}
}

// TestNameIsNeverAnothers looks at the names of two devices that are always there
// while others take their paths and give them back: each name always leads to its own.
func TestNameIsNeverAnothers(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	inEachMode(t, labelConf+"sdc 0:6 640 =x\nsdd 0:6 600 >x\n", func(b *board, tell func(kerneltest.Event)) {
		usb, data := stick(0, 9)
		mmc, fixed := fixedDisk()
		for _, d := range []kerneltest.Device{usb, data, mmc, disk(2)} {
			tell(b.plug(d))
		}
		b.likeFresh("the start")
		var stop atomic.Bool
		wrong := make(chan string, 1)
		go func() {
			defer close(wrong)
			for !stop.Load() {
				// A link is read first and followed then, so it must be the same afterwards.
				var st unix.Stat_t
				name := filepath.Join(b.dev, "sda1")
				before, _ := os.Readlink(name)
				err := unix.Stat(name, &st)
				if after, _ := os.Readlink(name); after == before && (err != nil || unix.Minor(st.Rdev) != data.Minor) {
					wrong <- fmt.Sprintf("sda1: %v, numbers %d:%d", err, unix.Major(st.Rdev), unix.Minor(st.Rdev))
					return
				}
			}
		}()
		for range 15 {
			for _, d := range []kerneltest.Device{fixed, disk(3)} {
				tell(b.plug(d))
			}
			for _, d := range []kerneltest.Device{fixed, disk(3)} {
				tell(b.unplug(d))
			}
		}
		b.likeFresh("the end")
		stop.Store(true)
		for what := range wrong {
			b.Error(what)
		}
	})
}

// contestConf has many devices want the paths and the names of others.
const contestConf = `
prio=1;link=by/shared;sd[a-d]			0:6 600 =shared
link=by/shared;link=sdi;sd[e-h]			0:6 604 >shared
prio=-1;link=by/shared;link=by/sdi;sdi			0:6 640 =sdj
sdj			0:6 640 =sdk
sdk			0:6 640 =shared
link=by/l;link=ttyS11;sdl			0:6 640 >sdm
-prio=3;link=by/l;sd[mn]			0:6 600 =two
sdm			0:6 640 >sdl
link=by/%0;link=by/disk/$DISKSEQ;link=by/shared;sd[o-r]			0:6 640 >disk/a
-sd[st]			0:6 640 =disk/b
sd[s-v]			0:6 660 =disk/a
ttyS([0-9])		0:20 660 >ttyS1%1
ttyS1([0-9])		0:20 640 =ttyS2%1
link=by/tty%1;ttyS2([0-4])		0:20 600 >serial/%1
prio=2;link=by/tty%1;ttyS[2-4]([0-9])	0:20 604 =serial/%1
event1([0-9])		0:13 600 >input/event2%1
link=shared;link=by/$SUBSYSTEM;event2([0-4])		0:13 604 =shared
input/event2([0-4])	0:13 604 >shared
input/event1([0-9])	0:13 604 =input/event2%1
`

// contestStorm is a storm of devices of which some can be pulled out.
func contestStorm(b *board, seed uint64) *storm {
	s := newStorm(b, newRand(seed))
	var devices []kerneltest.Device
	for i, d := range s.devices {
		if d.Devtype == "partition" {
			continue
		}
		if i%3 == 0 {
			d.Attrs = map[string]string{"removable": "1\n", "diskseq": strconv.Itoa(1000-i) + "\n"}
		}
		if d.Block && d.Minor >= 24*16 || !d.Block && d.Minor >= 64+40 && d.Major == 13 || d.Major == 204 && d.Minor >= 40 {
			continue
		}
		devices = append(devices, d)
	}
	s.devices = devices
	return s
}

// TestStormOfContests lets devices come and go that want the paths of each other, in
// each mode and in all at once. /dev ends as a fresh scan makes it.
func TestStormOfContests(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	rounds := 3
	if n, err := strconv.Atoi(os.Getenv("DEVSPOOL_CASES")); err == nil {
		rounds = n
	}
	random := seed(t)
	for round := range rounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			b := newBoard(t, contestConf)
			s := contestStorm(b, random+uint64(round))
			var l *loop
			if round%3 > 0 {
				l = b.startLoop()
			}
			h := b.startHelpers(6, nil)
			stop := make(chan bool)
			var scans sync.WaitGroup
			if round%3 != 1 {
				scans.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
							b.scan()
						}
					}
				})
			}
			for range 10 {
				var events []kerneltest.Event
				for range 20 {
					for _, e := range s.next() {
						if l != nil {
							l.send(e)
						}
						events = append(events, e)
					}
				}
				h.shuffled(s.Rand, events)
			}
			h.wait()
			close(stop)
			scans.Wait()
			defer func() {
				if t.Failed() {
					t.Log(b.read(b.dev + "/.devspool/record"))
					if l != nil {
						t.Log(l.stderr)
					}
				}
			}()
			b.likeFresh(fmt.Sprintf("storm %d", round))
			if l != nil {
				l.stop()
			}
			before := b.snapshot()
			b.scan()
			if diff := kerneltest.Diff(before, b.snapshot()); diff != "" {
				t.Errorf("a scan changes it:\n%s", diff)
			}
		})
	}
}

// TestStormOfContestsWithKills ends processes at any moment; a scan sets right what
// they left.
func TestStormOfContestsWithKills(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, contestConf)
	random := seed(t)
	s := contestStorm(b, random)
	var mu sync.Mutex
	fate := newRand(random + 1)
	victim := func(p *os.Process) {
		mu.Lock()
		delay := time.Duration(fate.IntN(6000)) * time.Microsecond // the moment is what is tried
		mu.Unlock()
		time.Sleep(delay)
		_ = p.Kill()
	}
	for round := range 12 {
		h := b.startHelpers(4, victim)
		var scan *exec.Cmd
		if round%2 == 0 {
			scan = b.command("-s")
			if err := scan.Start(); err != nil {
				t.Fatal(err)
			}
		}
		for range 20 {
			h.shuffled(s.Rand, s.next())
		}
		if scan != nil {
			victim(scan.Process)
			_ = scan.Wait()
		}
		h.wait()
		b.scan()
		b.likeFresh(fmt.Sprintf("round %d of kills and a scan", round))
	}
}

// TestRemovableDisplacesNone has what sysfs says decide: of the disk itself, or of what
// it is connected through. By their devpaths the second disk would have the path.
func TestRemovableDisplacesNone(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	for _, c := range []struct {
		bus, disk string // the attribute of the bus's device, and of the second disk; "" for none
		first     bool   // whether the first disk has the path
	}{
		{"", "", false},
		{"", "0\n", false},
		{"", "1\n", true},
		{"fixed\n", "0\n", false},
		{"fixed\n", "1\n", true},
		{"removable\n", "0\n", true},
		{"unknown\n", "", true},
	} {
		t.Run(fmt.Sprintf("%q %q", c.bus, c.disk), func(t *testing.T) {
			attrs := func(text string) map[string]string {
				if text == "" {
					return nil
				}
				return map[string]string{"removable": text}
			}
			first, second := disk(0), disk(1)
			first.Devpath, first.Attrs = "/devices/a/block/sda", attrs("0\n")
			bus := kerneltest.Device{Devpath: "/devices/z/usb1/1-1", Subsystem: "usb", Bus: true, Attrs: attrs(c.bus)}
			second.Devpath, second.Attrs = bus.Devpath+"/host1/block/sdb", attrs(c.disk)
			want := []string{"sda block 0640 0:6 8:0", "x block 0640 0:6 8:16"}
			if c.first {
				want = []string{"sdb block 0640 0:6 8:16", "x block 0640 0:6 8:0"}
			}
			inEachMode(t, "sd. 0:6 640 =x\n", func(b *board, tell func(kerneltest.Event)) {
				b.add(bus)
				for _, d := range []kerneltest.Device{second, first} {
					tell(b.plug(d))
				}
				b.has(want...)
			})
		})
	}
}
