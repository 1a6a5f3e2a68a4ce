package boot

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	const test = "TestDisks/loop"
	ended := errors.New("killed")
	tests := map[string]struct {
		console string
		ended   error
		want    string // a part of the error, or "" for none
	}{
		"passed":          {"=== RUN\n\ndevspool-boot: ran TestDisks/loop\nPASS\n\ndevspool-boot: exit 0\n", nil, ""},
		"no end":          {"kernel panic\n", ended, "did not come to an end\nkilled"},
		"failed":          {"\ndevspool-boot: ran TestDisks/loop\n\ndevspool-boot: exit 1\n", nil, "exit 1"},
		"crashed":         {"panic\n\ndevspool-boot: exit killed\n", nil, "exit killed"},
		"ran nothing":     {"testing: warning: no tests to run\nPASS\n\ndevspool-boot: exit 0\n", nil, "did not run"},
		"ran another":     {"\ndevspool-boot: ran TestDisks/loop2\n\ndevspool-boot: exit 0\n", nil, "did not run"},
		"ended by itself": {"\ndevspool-boot: ran TestDisks/loop\n\ndevspool-boot: exit 0\n", ended, "killed"},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			err := judge(c.console, test, c.ended)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestUntested(t *testing.T) {
	console := "a\n    x_test.go:1: NOT TESTED: sound: card\nb\n"
	if got := untested(console); !slices.Equal(got, []string{"NOT TESTED: sound: card"}) {
		t.Errorf("%q", got)
	}
}

func TestExactly(t *testing.T) {
	if got, want := exactly("TestA/b.c/d"), `^TestA$/^b\.c$/^d$`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestParseTask(t *testing.T) {
	const numbers = "0 0 0 0 -1 4194560 0 0 0 0 1 2 0 0 20 0 7 0 100"
	tests := map[string]task{
		"12 (a) R " + numbers:       {"12 (a)", "R", 7},
		"12 (a) S (b) S " + numbers: {"12 (a) S (b)", "S", 7},
		"":                          {},
		"12 (a) S 0":                {},
	}
	for text, want := range tests {
		if got := parseTask(text); got != want {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
	own := readTask("/proc/self/stat")
	if own.name == "" || own.threads < 1 {
		t.Errorf("our own: %+v", own)
	}
	if gone := readTask("/proc/0/stat"); gone != (task{}) {
		t.Errorf("one that is not there: %+v", gone)
	}
}

func TestSnapshotTellsWhatDiffers(t *testing.T) {
	dir := t.TempDir()
	err := errors.Join(
		os.Mkdir(filepath.Join(dir, "snd"), 0o755),
		os.Mkdir(filepath.Join(dir, ".devspool"), 0o700),
		os.WriteFile(filepath.Join(dir, ".devspool", "lock"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, "mdev.log"), nil, 0o600),
		os.Symlink("../sda", filepath.Join(dir, "snd", "disk")),
	)
	if err != nil {
		t.Fatal(err)
	}
	got, err := TakeSnapshot(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got["snd/disk"] != "-> ../sda" || !strings.HasPrefix(got["snd"], "directory 0755 ") {
		t.Errorf("snapshot %q", got)
	}
	if err := got.Diff(got); err != nil {
		t.Errorf("equal snapshots: %v", err)
	}
	want := Snapshot{"snd": got["snd"], "snd/disk": "-> sda", "null": "c1:3 0666 0:0"}
	const told = "3 of 3 paths differ:\n- null c1:3 0666 0:0\n- snd/disk -> sda\n+ snd/disk -> ../sda"
	if err := got.Diff(want); err == nil || err.Error() != told {
		t.Errorf("difference %v, want %s", err, told)
	}
	if what, err := describe("/dev/null"); err != nil || !strings.HasPrefix(what, "c1:3 ") {
		t.Errorf("/dev/null is %q, %v", what, err)
	}
}

func TestModulesComeInOrder(t *testing.T) {
	root := uml(t).modules
	found, err := findModules(root)
	if err != nil {
		t.Fatal(err)
	}
	order, err := found.order("sd-mod", "scsi_debug", "sd_mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]string{{"scsi_common", "scsi_mod"}, {"scsi_mod", "sd_mod"}, {"scsi_mod", "scsi_debug"}} {
		before, after := slices.Index(order, pair[0]), slices.Index(order, pair[1])
		if before < 0 || after < before {
			t.Errorf("%s and %s in %q", pair[0], pair[1], order)
		}
	}
	if sorted := slices.Sorted(slices.Values(order)); len(slices.Compact(sorted)) != len(order) {
		t.Errorf("twice in %q", order)
	}
	if _, err := found.order("no_such"); err == nil {
		t.Error("a module that is not there was found")
	}
	text := filepath.Join(t.TempDir(), "text.ko")
	if err := os.WriteFile(text, []byte("no module"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (modules{"text": text}).order("text"); err == nil {
		t.Error("a text was taken for a module")
	}
}

func TestMonitor(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	go qemuSays(there,
		`P": {}}|{"error": {"class": "GenericError", "desc": "stray"}}|{"return": {}, "id": ID}`, // what is left of the greeting comes first
		`{"return": {}, "id": ID}`,
		`{"event": "DEVICE_DELETED", "data": {"path": "/x"}}|{"return": {}, "id": ID}|`+
			`{"event": "DEVICE_DELETED", "data": {"device": "other"}}|`+
			`{"event": "DEVICE_DELETED", "data": {"device": "stick", "path": "/y"}}`,
		`{"error": {"class": "DeviceNotFound", "desc": "no stick"}, "id": ID}`)
	m, err := NewMonitor(here)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Plug("usb-storage", "stick", map[string]any{"drive": "d"}); err != nil {
		t.Error(err)
	}
	if err := m.Unplug("stick"); err != nil {
		t.Error(err)
	}
	if err := m.Unplug("stick"); err == nil || !strings.Contains(err.Error(), "no stick") {
		t.Errorf("unplugged twice: %v", err)
	}
	if err := m.Unplug("stick"); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("without QEMU: %v", err)
	}
}

// qemuSays answers one command after the other, each with the lines between bars,
// in which ID stands for the command's, and then hangs up.
func qemuSays(conn net.Conn, answers ...string) {
	defer conn.Close()
	commands := bufio.NewScanner(conn)
	for _, answer := range answers {
		var command struct {
			ID int `json:"id"`
		}
		for command.ID == 0 { // what is no command resets the parser
			if !commands.Scan() {
				return
			}
			json.Unmarshal(commands.Bytes(), &command)
		}
		answer = strings.ReplaceAll(answer, "ID", strconv.Itoa(command.ID))
		if _, err := io.WriteString(conn, strings.ReplaceAll(answer, "|", "\r\n")+"\r\n"); err != nil {
			return
		}
	}
}
