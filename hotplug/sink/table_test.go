package sink

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/nodes"
)

// TestTable compares the table with what it should show, but for the time.
func TestTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "table")
	file, err := os.Create(path)
	hotplugtest.Must(t, err)
	defer file.Close()
	table := NewTable(int(file.Fd()))
	disk := hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/block/sr0", "SUBSYSTEM=block", "MAJOR=11", "MINOR=0", "DEVNAME=sr0")
	net := hotplugtest.NewEvent(t, "ACTION=move", "DEVPATH=/devices/net/a\nb", "SUBSYSTEM=net")
	made := &nodes.Plan{
		Event: disk, Work: nodes.Create,
		Nodes:    []nodes.Node{{Path: "disk/sr0", Mode: 0o640, UID: 7, GID: 24}},
		Links:    []nodes.Link{{Path: "sr0", Target: "disk/sr0"}},
		Commands: []nodes.Command{{Text: "logger $MDEV"}},
		Firmware: "a.bin",
	}
	table.Row(disk, made)
	table.Row(net, &nodes.Plan{Event: net})
	table.Row(disk, &nodes.Plan{Event: disk, Work: nodes.Remove, Nodes: []nodes.Node{{Path: strings.Repeat("long/", 6) + "sr0"}}})
	table.Row(disk, &nodes.Plan{Event: disk, Late: true, Commands: []nodes.Command{{Text: "true"}}})
	want := []string{
		"ACTION  DEVICE   NODE                   MODE  OWNER   DEVPATH, AND WHAT ELSE WAS DONE",
		"add     b11:0    disk/sr0               0640  7:24    /devices/block/sr0  sr0 -> disk/sr0  run: logger $MDEV  firmware: a.bin",
		`move    net      -                                    /devices/net/a\x0ab`,
		"add     b11:0    long/long/long/long/long/long/sr0                /devices/block/sr0",
		"add     b11:0    -                                    /devices/block/sr0  (too late: /sys says otherwise)  run: true",
	}
	var got []string
	for line := range strings.Lines(hotplugtest.Contents(t, path)) {
		got = append(got, strings.TrimSuffix(line[columns[0].width+1:], "\n"))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the table is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestTableHeads shows that the heads come back where many rows have gone by.
func TestTableHeads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "table")
	file, err := os.Create(path)
	hotplugtest.Must(t, err)
	defer file.Close()
	table := NewTable(int(file.Fd()))
	for range 101 {
		table.Row(hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/x"), &nodes.Plan{})
	}
	if got := strings.Count(hotplugtest.Contents(t, path), "ACTION"); got != 3 {
		t.Errorf("%d heads", got)
	}
}
