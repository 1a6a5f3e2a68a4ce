package firmware_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/hotplugtest/board"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/uevent"
)

// newBoard returns a board with a device that asks for sub/a.bin, and the directory of the
// device. Ordinary files are in the place of its attributes, so they hold all that was
// written.
func newBoard(t *testing.T) (b *board.Board, device string) {
	t.Helper()
	b = board.New(t, "")
	b.Sys.Add("/devices/wifi/firmware/a", "firmware", "", "FIRMWARE=sub/a.bin", "ASYNC=1")
	device = b.Sys.Path("/devices/wifi/firmware/a")
	hotplugtest.WriteFile(t, device+"/loading", "")
	hotplugtest.WriteFile(t, device+"/data", "")
	return b, device
}

// TestLoad shows which file a device gets, and what is written to its attributes.
func TestLoad(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("0123456789abcdef", 20_000)
	release := kernelRelease(t)
	for _, c := range []struct {
		name    string
		files   map[string]string // below the firmware directory
		loading string            // all that was written to it
		data    string
		log     []string
	}{
		{"one", map[string]string{"sub/a.bin": "image"}, "10", "image", []string{"info: firmware", "sub/a.bin"}},
		{"longer than a buffer", map[string]string{"sub/a.bin": big}, "10", big, []string{"info: firmware"}},
		{"empty", map[string]string{"sub/a.bin": ""}, "10", "", []string{"info: firmware"}},
		{"none", nil, "-1", "", []string{"error: firmware", "sub/a.bin: not in"}},
		{"another", map[string]string{"a.bin": "x"}, "-1", "", []string{"error: firmware"}},
		{"a directory", map[string]string{"sub/a.bin/x": ""}, "-1", "", []string{"error: firmware"}},
		{"the directory of the release first", map[string]string{"sub/a.bin": "all", release + "/sub/a.bin": "release"}, "10", "release", []string{release}},
		{"updates before that", map[string]string{"sub/a.bin": "all", release + "/sub/a.bin": "release", "updates/sub/a.bin": "update"}, "10", "update", []string{"updates"}},
		{"updates of the release before these", map[string]string{"updates/sub/a.bin": "update", "updates/" + release + "/sub/a.bin": "both"}, "10", "both", []string{"updates/" + release}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, device := newBoard(t)
			for name, text := range c.files {
				hotplugtest.WriteFile(t, filepath.Join(b.Tmp, "firmware", name), text)
			}
			if ok := b.Run(b.Sys.NewEvent("add", "/devices/wifi/firmware/a")); ok != (c.loading == "10") {
				t.Errorf("ok is %v", ok)
			}
			if got := hotplugtest.Contents(t, device+"/loading"); got != c.loading {
				t.Errorf("loading got %q, want %q", got, c.loading)
			}
			if got := hotplugtest.Contents(t, device+"/data"); got != c.data {
				t.Errorf("data got %d bytes, want %d", len(got), len(c.data))
			}
			b.Log.Want(c.log...)
		})
	}
}

// TestMissing shows that missing firmware fails the event.
func TestMissing(t *testing.T) {
	t.Parallel()
	b, _ := newBoard(t)
	if b.Run(b.Sys.NewEvent("add", "/devices/wifi/firmware/a")) {
		t.Error("it did not fail")
	}
}

// TestActions shows that only an add asks for firmware.
func TestActions(t *testing.T) {
	t.Parallel()
	b, device := newBoard(t)
	for _, action := range []string{uevent.Change, uevent.Bind, uevent.Remove} {
		b.Run(b.Sys.NewEvent(action, "/devices/wifi/firmware/a"))
	}
	if got := hotplugtest.Contents(t, device+"/loading"); got != "" {
		t.Errorf("loading got %q", got)
	}
}

// TestNames shows that no name leads out of the firmware directory.
func TestNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"../secret", "/etc/passwd", "a/../../secret", "a//b", "", "."} {
		b := board.New(t, "")
		hotplugtest.WriteFile(t, filepath.Join(b.Tmp, "secret"), "x")
		b.Sys.Add("/devices/f", "firmware", "")
		hotplugtest.WriteFile(t, b.Sys.Path("/devices/f/loading"), "")
		hotplugtest.WriteFile(t, b.Sys.Path("/devices/f/data"), "")
		ok := b.Run(hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/f", "SUBSYSTEM=firmware", "FIRMWARE="+name))
		if got := hotplugtest.Contents(t, b.Sys.Path("/devices/f/data")); got != "" {
			t.Errorf("%q: data got %q", name, got)
		}
		if ok {
			t.Errorf("%q: it did not fail", name)
		}
	}
}

// TestLate shows that Load waits for attributes which appear after the event.
func TestLate(t *testing.T) {
	t.Parallel()
	b, device := newBoard(t)
	hotplugtest.WriteFile(t, filepath.Join(b.Tmp, "firmware", "sub/a.bin"), "image")
	hotplugtest.Must(t, os.Rename(device+"/loading", device+"/hidden"))
	batch := b.Scheduler.Run(scheduler.Events(b.Sys.NewEvent("add", "/devices/wifi/firmware/a")))
	if b.Scheduler.IsIdle() {
		t.Error("the event is done")
	}
	time.AfterFunc(60*time.Millisecond, func() { os.Rename(device+"/hidden", device+"/loading") })
	if !b.Wait(batch) {
		t.Error("it failed")
	}
	if got := hotplugtest.Contents(t, device+"/data"); got != "image" {
		t.Errorf("data got %q", got)
	}
	b.AtRest()
}

// TestBeside shows that a device which waits for its firmware does not keep others waiting.
func TestBeside(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b, device := newBoard(t)
	hotplugtest.WriteFile(t, filepath.Join(b.Tmp, "firmware", "sub/a.bin"), "image")
	hotplugtest.Must(t, os.Rename(device+"/loading", device+"/hidden"))
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	batch := b.Scheduler.Run(scheduler.Events(b.Sys.NewEvent("add", "/devices/wifi/firmware/a"), b.Sys.NewEvent("add", "/devices/block/sda")))
	b.WantNode("sda", "b8:0 0660")
	hotplugtest.Must(t, os.Rename(device+"/hidden", device+"/loading"))
	b.Wait(batch)
	b.AtRest()
}

// kernelRelease returns the release of the kernel, as uname -r does.
func kernelRelease(t *testing.T) string {
	t.Helper()
	var u unix.Utsname
	hotplugtest.Must(t, unix.Uname(&u))
	return unix.ByteSliceToString(u.Release[:])
}
