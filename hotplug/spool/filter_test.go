package spool

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestFilter(t *testing.T) {
	t.Parallel()
	p := Packet{Action: "add", Devpath: "/devices/pci0000:00/x", Env: []string{
		"ACTION=add", "SUBSYSTEM=block", "DEVTYPE=disk", "TAGS=:seat:uaccess:", "ID_MODEL=a b",
		"TYPE=1", "TYPE=", "TYPE=3"}}
	bare := Packet{Action: "add", Devpath: "/devices/y", Env: []string{"ACTION=add"}}
	for _, test := range []struct {
		filter      string
		want, wants bool // of p, of bare
	}{
		{"", true, true},
		{"# all\n\n", true, true},
		{"subsystem=block", true, false},
		{"subsystem=block/disk", true, false},
		{"subsystem=block/partition", false, false},
		{"subsystem=block/", false, false},
		{"subsystem=", false, false},
		{"subsystem=net\nsubsystem=block/disk", true, false},
		{"subsystem=block\nACTION=remove", false, false},
		{"subsystem=block\nACTION=remove\nACTION=add", true, false},
		{"devpath=/devices/pci0000:00", true, false},
		{"devpath=/devices/pci0000:00/", true, false},
		{"devpath=/devices/pci0000:0", false, false},
		{"devpath=/devices/pci0000:00/x", true, false},
		{"devpath=/", true, true},
		{"tag=uaccess", true, false},
		{"tag=acc", false, false},
		{"ID_MODEL=a b", true, false},
		{"ID_MODEL=a", false, false},
		{"ID_SERIAL=", false, false},
		{"TYPE=1", true, false},
		{"TYPE=", true, false},
		{"TYPE=2\nTYPE=3", true, false},
		{"TYPE=2", false, false},
	} {
		f, err := ParseFilter(test.filter)
		if got, gots := f.Match(p), f.Match(bare); err != nil || got != test.want || gots != test.wants {
			t.Errorf("%q: %t %t, error %v; want %t %t", test.filter, got, gots, err, test.want, test.wants)
		}
	}
	for _, text := range []string{"block", "=x", "subsystem=x\ny"} {
		if f, err := ParseFilter(text); err != ErrFilter {
			t.Errorf("%q: %v, error %v", text, f, err)
		}
	}
}

// TestFilterOfPublished asks for what is published, not for what that stands in place of.
func TestFilterOfPublished(t *testing.T) {
	t.Parallel()
	p := PacketOf(event(t, "ACTION=add", "DEVPATH=/x", "SUBSYSTEM=block", "DEVNAME=sda", "TYPE=1", "TYPE=2"), []string{"DEVNAME=/dev/disk"})
	for filter, want := range map[string]bool{"DEVNAME=sda": false, "DEVNAME=/dev/disk": true, "DEVNAME=/dev/disk\nDEVNAME=sda": true, "TYPE=1": true, "TYPE=2": true} {
		if f, err := ParseFilter(filter); err != nil || f.Match(p) != want {
			t.Errorf("%s: %v, error %v", filter, !want, err)
		}
	}
}

// A client that names a thousand alternatives makes no event much dearer.
func TestFilterCost(t *testing.T) { // not parallel: it measures time
	p := Packet{Action: "add", Devpath: "/devices/x", Env: []string{"ACTION=add", "SUBSYSTEM=mem", "TAGS=:x:"}}
	for i := range 60 {
		p.Env = append(p.Env, fmt.Sprint("KEY_", i, "=value"))
	}
	least := func(f Filter) time.Duration {
		least := time.Hour
		for range 20 {
			start := time.Now()
			for range 100 {
				f.Match(p)
			}
			least = min(least, time.Since(start))
		}
		return least
	}
	for _, condition := range []string{"SUBSYSTEM=b\n", "subsystem=mem/b\n", "tag=b\n"} {
		one, _ := ParseFilter(condition)
		many, _ := ParseFilter(strings.Repeat(condition, 680))
		if ratio := least(many) / least(one); ratio > 100 {
			t.Errorf("680 times %q cost %d times as much as one", condition, ratio)
		}
	}
}
