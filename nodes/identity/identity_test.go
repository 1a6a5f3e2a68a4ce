package identity

import (
	"slices"
	"strings"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/uevent"
)

func links(id *Identity) (paths []string) {
	for _, l := range id.Links {
		paths = append(paths, l.Path)
	}
	return paths
}

// TestMapper shows that flags in a cookie, a missing table and a suspended device are
// obeyed.
func TestMapper(t *testing.T) {
	const devpath = "/devices/virtual/block/dm-5"
	for name, c := range map[string]struct {
		action, size, suspended string
		variables               []string
		links                   string
		readable, keep          bool
	}{
		"active":       {"change", "8", "0", []string{"DM_COOKIE=4194304"}, "mapper/v disk/by-id/dm-name-v disk/by-id/dm-uuid-U", true, false},
		"coldplug":     {"add", "8", "0", nil, "mapper/v disk/by-id/dm-name-v disk/by-id/dm-uuid-U", true, false},
		"no table":     {"add", "0", "0", nil, "", false, false},
		"suspended":    {"change", "8", "1", []string{"DM_COOKIE=4194304"}, "mapper/v disk/by-id/dm-name-v disk/by-id/dm-uuid-U", false, true},
		"read-only":    {"change", "8", "0", []string{"DISK_RO=1"}, "", false, true},
		"no dm links":  {"change", "8", "0", []string{"DM_COOKIE=4259840"}, "disk/by-id/dm-name-v disk/by-id/dm-uuid-U", true, false},
		"no disk":      {"change", "8", "0", []string{"DM_COOKIE=4456448"}, "mapper/v", false, false},
		"no other":     {"change", "8", "0", []string{"DM_COOKIE=4718592"}, "mapper/v disk/by-id/dm-name-v disk/by-id/dm-uuid-U", false, false},
		"remembered":   {"change", "8", "0", []string{"DM_UDEV_DISABLE_DISK_RULES_FLAG=1"}, "mapper/v", false, false},
		"said anew":    {"change", "8", "0", []string{"DM_UDEV_DISABLE_DISK_RULES_FLAG=1", "DM_COOKIE=4194304"}, "mapper/v disk/by-id/dm-name-v disk/by-id/dm-uuid-U", true, false},
		"low priority": {"change", "8", "0", []string{"DM_COOKIE=5242880"}, "mapper/v disk/by-id/dm-name-v disk/by-id/dm-uuid-U", true, false},
		"not scanned":  {"change", "8", "0", []string{"DM_NOSCAN=1"}, "mapper/v disk/by-id/dm-name-v disk/by-id/dm-uuid-U", false, false},
	} {
		s := hotplugtest.NewSysfs(t)
		s.Add(devpath, "block", "254:5", "DEVNAME=dm-5", "DEVTYPE=disk")
		for file, text := range map[string]string{"size": c.size, "dm/suspended": c.suspended, "dm/name": "v", "dm/uuid": "U"} {
			hotplugtest.WriteFile(t, s.Path(devpath+"/"+file), text+"\n")
		}
		e := hotplugtest.NewEvent(t, append([]string{"ACTION=" + c.action, "DEVPATH=" + devpath, "SUBSYSTEM=block", "MAJOR=254", "MINOR=5", "DEVNAME=dm-5"}, c.variables...)...)
		p := &Prober{Sys: s.FS, Open: func(uevent.Dev) (int, error) { return -1, nil }}
		id := p.Identify(e)
		if got := strings.Join(links(id)[1:], " "); got != c.links {
			t.Errorf("%s: links %q, want %q", name, got, c.links)
		}
		if got := p.NeedsContents(e); got != c.readable {
			t.Errorf("%s: to be read: %v", name, got)
		}
		if id.Keep != c.keep {
			t.Errorf("%s: keep %v", name, id.Keep)
		}
		if low := name == "low priority"; low != (id.Links[0].Priority == -100) {
			t.Errorf("%s: %v", name, id.Links)
		}
	}
}

// TestNeedsContents shows what is opened.
func TestNeedsContents(t *testing.T) {
	s := hotplugtest.NewSysfs(t)
	p := &Prober{Sys: s.FS, Open: func(uevent.Dev) (int, error) { return -1, nil }}
	for name, want := range map[string]bool{"sda": true, "sda1": true, "nvme0n1": true, "loop0": true, "mmcblk0boot0": false, "ram0": false, "fd0": false, "md0": true, "zram0": true} {
		for _, size := range []string{"8", "0"} {
			devpath := "/devices/x/" + name
			hotplugtest.WriteFile(t, s.Path(devpath+"/size"), size+"\n")
			e := hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH="+devpath, "SUBSYSTEM=block", "MAJOR=8", "MINOR=0", "DEVNAME="+name)
			if got := p.NeedsContents(e); got != (want && size != "0") {
				t.Errorf("%s of size %s: %v", name, size, got)
			}
			e = hotplugtest.NewEvent(t, "ACTION=remove", "DEVPATH="+devpath, "SUBSYSTEM=block", "MAJOR=8", "MINOR=0", "DEVNAME="+name)
			if id := p.Probe(e); p.NeedsContents(e) || len(id.Links)+len(id.Properties) > 0 {
				t.Errorf("remove of %s: %v", name, id)
			}
		}
	}
}

// TestContents shows that a disk's contents are made links of, and RAID members have none.
func TestContents(t *testing.T) {
	s := hotplugtest.NewSysfs(t)
	const devpath = "/devices/virtual/block/loop3"
	hotplugtest.WriteFile(t, s.Path(devpath+"/size"), "8\n")
	e := hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH="+devpath, "SUBSYSTEM=block", "MAJOR=7", "MINOR=3", "DEVNAME=loop3", "DEVTYPE=disk")
	for usage, want := range map[string]bool{"filesystem": true, "other": true, "crypto": true, "raid": false} {
		p := &Prober{Sys: s.FS, Open: func(uevent.Dev) (int, error) { return 1 << 20, nil }, Contents: func(Disk) []string {
			return []string{"ID_FS_USAGE=" + usage, `ID_FS_LABEL_ENC=a\x20b`, "ID_FS_UUID_ENC=../..", "ID_FS_LABEL=a\nX=b"}
		}}
		id := p.Probe(e)
		if got := slices.Contains(links(id), `disk/by-label/a\x20b`); got != want {
			t.Errorf("%s: %v", usage, id.Links)
		}
		checkSafe(t, id)
	}
}

// TestText compares the rewriting of text with udev's, by names.md's account of it.
func TestText(t *testing.T) {
	for _, c := range []struct{ text, encoded, word, attribute string }{
		{"my disk/1", `my\x20disk\x2f1`, "my_disk_1", "my disk/1"},
		{"  a  b\t", `\x20\x20a\x20\x20b\x09`, "a_b", "  a  b"},
		{`a\x2fb\c`, `a\x5cx2fb\x5cc`, `a\x2fb_c`, `a\x2fb_c`},
		{"é\xff(", `é\xff\x28`, "é__", "é__"},
		{"#+-.:=@_$%?,", `#+-.:=@_\x24\x25\x3f\x2c`, "#+-.:=@_____", "#+-.:=@_$%?,"},
		{"", "", "", ""},
	} {
		if got := encode(c.text); got != c.encoded {
			t.Errorf("encode(%q) = %q, want %q", c.text, got, c.encoded)
		}
		if got := word(c.text, 255); got != c.word {
			t.Errorf("word(%q) = %q, want %q", c.text, got, c.word)
		}
		if got := substituted(c.text); got != c.attribute {
			t.Errorf("substituted(%q) = %q, want %q", c.text, got, c.attribute)
		}
	}
	if got := encode(strings.Repeat(" ", 100)); len(got) > maxEncoded || len(got)%4 != 0 {
		t.Errorf("%d bytes", len(got))
	}
}
