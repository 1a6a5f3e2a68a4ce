package identity

import (
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/uevent"
)

// interesting are the bits that decide what kind of input device one is, but for button 0
// (0x100), which means more since systemd 253: the pad of a graphics tablet.
var interesting = map[string][]int{
	"capabilities/ev":  {1, 2, 3, 5},
	"capabilities/rel": {0, 1, 6, 8},
	"capabilities/abs": {0, 1, 2, 3, 4, 5, 0x10, 0x17, 0x18, 0x2e, 0x2f, 0x35, 0x36},
	"properties":       {0, 1, 5, 6},
	"capabilities/key": {1, 2, 31, 29, 58, 69, 110, 113, 140, 0xff, 0x101, 0x110, 0x111, 0x11f, 0x120, 0x121, 0x130, 0x13f, 0x140, 0x145,
		0x14a, 0x14b, 0x160, 0x21f, 0x220, 0x223, 0x224, 0x22f, 0x230, 0x2bf, 0x2c0, 0x2c1, 0x2e7, 0x2e8},
}

// TestInputKinds compares the kinds of made-up input devices with those that udev's
// input_id finds.
func TestInputKinds(t *testing.T) {
	const devices = 400
	seed, _ := strconv.ParseUint(os.Getenv("DEVSPOOL_TEST_SEED"), 10, 64)
	random := rand.New(rand.NewPCG(1, seed))
	s := hotplugtest.NewSysfs(t)
	var events []*uevent.Event
	for i := range devices {
		devpath := "/devices/platform/x/input/input" + strconv.Itoa(i)
		s.Add(devpath, "input", "")
		for file, bits := range interesting {
			var words [12]uint64
			likely := random.Float64()
			for _, bit := range bits {
				if random.Float64() < likely {
					words[bit/64] |= 1 << (bit % 64)
				}
			}
			if file == "capabilities/key" && i%5 == 0 {
				words[0] |= letterKeys
			}
			if file == "capabilities/ev" && i%3 != 0 {
				words[0] |= 1<<1 | 1<<3
			}
			text := ""
			for j := len(words) - 1; j >= 0; j-- {
				text += strconv.FormatUint(words[j], 16) + " "
			}
			hotplugtest.WriteFile(t, s.Path(devpath+"/"+file), strings.TrimSpace(text)+"\n")
		}
		hotplugtest.WriteFile(t, s.Path(devpath+"/id/bustype"), []string{"0003\n", "0018\n"}[i%2])
		e, err := s.Event("add", devpath)
		hotplugtest.Must(t, err)
		events = append(events, e)
	}
	said := oracle(t, string(s.FS), events)
	p := &Prober{Sys: s.FS}
	kinds := func(all []string) string {
		found := ""
		for _, kind := range strings.Fields("ACCELEROMETER POINTINGSTICK MOUSE TOUCHPAD TOUCHSCREEN JOYSTICK TABLET TABLET_PAD KEY KEYBOARD SWITCH") {
			for _, kv := range all {
				if kv == "ID_INPUT_"+kind+"=1" {
					found += " " + kind
				}
			}
		}
		return found
	}
	seen := map[string]bool{}
	for _, e := range events {
		ours, theirs := kinds(p.Identify(e).Properties), kinds(said[e.Devpath])
		seen[theirs] = true
		if ours != theirs {
			t.Errorf("%s:%s, udev:%s", e.Devpath, ours, theirs)
			for file := range interesting {
				t.Logf("  %s %s", file, hotplugtest.Contents(t, s.Path(e.Devpath+"/"+file)))
			}
		}
	}
	t.Logf("%d combinations of kinds", len(seen))
}

// TestInputSize: only nodes of devices with the axes X and Y are opened, and what the kernel does
// not tell is no property. (That it is as udev has it shows the test with emulated devices.)
func TestInputSize(t *testing.T) {
	s := hotplugtest.NewSysfs(t)
	for i, abs := range []string{"3", "1", "0", "260800000000003"} {
		devpath := "/devices/platform/x/input/input" + strconv.Itoa(i)
		s.Add(devpath, "input", "")
		hotplugtest.WriteFile(t, s.Path(devpath+"/capabilities/ev"), "b\n")
		hotplugtest.WriteFile(t, s.Path(devpath+"/capabilities/abs"), abs+"\n")
		for j, name := range []string{"event", "mouse"} {
			node := devpath + "/" + name + strconv.Itoa(i)
			s.Add(node, "input", "13:"+strconv.Itoa(64-32*j+i))
			e, err := s.Event("add", node)
			hotplugtest.Must(t, err)
			opened := 0
			p := &Prober{Sys: s.FS, Open: func(d uevent.Dev) (int, error) {
				opened++
				return unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			}}
			want := name == "event" && strings.HasSuffix(abs, "3")
			if p.NeedsContents(e) != want {
				t.Errorf("%s with the axes %s: NeedsContents is not %v", name, abs, want)
			}
			if got := p.Probe(e).Get("ID_INPUT_WIDTH_MM"); got != "" || (opened == 1) != want {
				t.Errorf("%s with the axes %s: opened %d times, width %q", name, abs, opened, got)
			}
		}
	}
	if runtime.GOARCH == "amd64" && getAxis != 0x80184540 {
		t.Errorf("EVIOCGABS(0) is %#x", getAxis)
	}
}
