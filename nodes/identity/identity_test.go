package identity

import (
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
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
		e := mapperEvent(t, c.action, devpath, c.variables)
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

// TestMapperFlags compares with what dmsetup tells udev's rules of a cookie.
func TestMapperFlags(t *testing.T) {
	const devpath = "/devices/virtual/block/dm-5"
	dmsetup := kerneltest.Need(t, "dmsetup")
	s := hotplugtest.NewSysfs(t)
	s.Add(devpath, "block", "254:5", "DEVNAME=dm-5", "DEVTYPE=disk")
	for file, text := range map[string]string{"size": "8", "dm/suspended": "0", "dm/name": "v", "dm/uuid": "U"} {
		hotplugtest.WriteFile(t, s.Path(devpath+"/"+file), text+"\n")
	}
	p := &Prober{Sys: s.FS, Open: func(uevent.Dev) (int, error) { return -1, nil }}
	flags := func(variables ...string) (found []string) {
		for _, kv := range p.Identify(mapperEvent(t, "change", devpath, variables)).Properties {
			if strings.HasPrefix(kv, "DM_UDEV_") && !strings.HasPrefix(kv, "DM_UDEV_RULES") {
				found = append(found, kv)
			}
		}
		slices.Sort(found)
		return found
	}
	for _, cookie := range []uint32{0, 0x0d4d1234, 1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 22, 1 << 23, 0x40abcd, 0xffffff} {
		text := strconv.FormatUint(uint64(cookie), 10)
		out, err := exec.Command(dmsetup, "udevflags", text).CombinedOutput()
		if cookie == 0 { // of which dmsetup says that it is none
			out, err = nil, nil
		}
		hotplugtest.Must(t, err)
		want := strings.Fields(strings.ReplaceAll(string(out), "'", ""))
		want = slices.DeleteFunc(want, func(kv string) bool { return !strings.HasPrefix(kv, "DM_UDEV_") })
		slices.Sort(want)
		if got := flags("DM_COOKIE=" + text); !slices.Equal(got, want) {
			t.Errorf("the flags of %#x are\n%q, want\n%q", cookie, got, want)
		}
	}
}

// TestUnwiped shows what LVM says of a volume that it is about to wipe.
func TestUnwiped(t *testing.T) {
	t.Parallel()
	const devpath = "/devices/virtual/block/dm-5"
	s := hotplugtest.NewSysfs(t)
	s.Add(devpath, "block", "254:5", "DEVNAME=dm-5", "DEVTYPE=disk")
	for file, text := range map[string]string{"size": "8", "dm/suspended": "0", "dm/name": "g-v", "dm/uuid": "LVM-U"} {
		hotplugtest.WriteFile(t, s.Path(devpath+"/"+file), text+"\n")
	}
	p := &Prober{Sys: s.FS, Open: func(uevent.Dev) (int, error) { return -1, nil }}
	const wipe, other = 1 << 24, 1 << 19 // bits of a cookie: LVM's first flag, and no other rules
	for cookie, want := range map[uint32][3]string{0x400000: {}, 0x400000 | wipe: {"1", "", "1"}, 0x400000 | wipe | other: {"1", "1", "1"}} {
		e := mapperEvent(t, "change", devpath, []string{"DM_COOKIE=" + strconv.FormatUint(uint64(cookie), 10)})
		id := p.Identify(e)
		got := [3]string{id.Get("DM_NOSCAN"), id.Get("DM_DISABLE_OTHER_RULES_FLAG_OLD"), id.Get("DM_UDEV_DISABLE_OTHER_RULES_FLAG")}
		if got != want || p.NeedsContents(e) != (want[0] == "") {
			t.Errorf("%#x: %q, want %q", cookie, got, want)
		}
	}
}

func mapperEvent(t *testing.T, action, devpath string, variables []string) *uevent.Event {
	t.Helper()
	return hotplugtest.NewEvent(t, append([]string{"ACTION=" + action, "DEVPATH=" + devpath, "SUBSYSTEM=block", "MAJOR=254", "MINOR=5", "DEVNAME=dm-5"}, variables...)...)
}

// TestVolumes: a volume of LVM has the link by which LVM opens it, what it is made of has none.
func TestVolumes(t *testing.T) {
	const devpath = "/devices/virtual/block/dm-5"
	for _, c := range []struct {
		name, uuid string
		variables  []string
		links      string // but for those that all devices of device-mapper have
		properties string
		readable   bool
	}{
		{"vg-lv", "LVM-U", nil, "vg/lv", "vg lv ", true},
		{"a--b-c--d--e", "LVM-U", nil, "a-b/c-d-e", "a-b c-d-e ", true},
		{"vg-lv", "CRYPT-U", nil, "", "  ", true},
		{"vg", "LVM-U", nil, "", "vg  ", true},
		{"vg-", "LVM-U", nil, "", "vg-  ", true},
		{"vg---lv", "LVM-U", nil, "vg-/lv", "vg- lv ", true},
		{"vg-lv-a-b", "LVM-U", nil, "no names", "vg lv a", false},
		{"-lv", "LVM-U", nil, "", " lv ", true},
		{"..-lv", "LVM-U", nil, "", ".. lv ", true},
		{"vg-..", "LVM-U", nil, "", "vg .. ", true},
		{"vg-lv-real", "LVM-U", nil, "no names", "vg lv real", false},
		{"vg-pool_tdata-x--y", "LVM-U", nil, "no names", "vg pool_tdata x-y", false},
		{"vg-pvmove0", "LVM-U", nil, "no names", "vg pvmove0 ", false},
		{"vg-pvmove", "LVM-U", nil, "vg/pvmove", "vg pvmove ", true},
		{"vg-x_vorigin", "LVM-U", nil, "no names", "vg x_vorigin ", false},
		{"vg-_vorigin", "LVM-U", nil, "vg/_vorigin", "vg _vorigin ", true},
		{"vg-lv", "LVM-U", []string{"DM_COOKIE=4325376"}, "", "vg lv ", true},          // no rules of a subsystem
		{"vg-lv", "LVM-U", []string{"DM_COOKIE=20971520"}, "vg/lv", "vg lv ", false},   // to be wiped
		{"vg-lv", "CRYPT-U", []string{"DM_COOKIE=20971520"}, "", "  ", true},           // another subsystem's flag
		{"vg-lv-real", "LVM-U", []string{"DM_COOKIE=4325376"}, "", "vg lv real", true}, // its maker says so
	} {
		s := hotplugtest.NewSysfs(t)
		s.Add(devpath, "block", "254:5", "DEVNAME=dm-5", "DEVTYPE=disk")
		for file, text := range map[string]string{"size": "8", "dm/suspended": "0", "dm/name": c.name, "dm/uuid": c.uuid} {
			hotplugtest.WriteFile(t, s.Path(devpath+"/"+file), text+"\n")
		}
		e := mapperEvent(t, "change", devpath, c.variables)
		p := &Prober{Sys: s.FS, Open: func(uevent.Dev) (int, error) { return -1, nil }}
		id := p.Identify(e)
		want := []string{"block/254:5", "mapper/" + c.name}
		if c.links != "no names" {
			if c.links != "" {
				want = append(want, c.links)
			}
			want = append(want, "disk/by-id/dm-name-"+c.name, "disk/by-id/dm-uuid-"+c.uuid)
		}
		if got := links(id); !slices.Equal(got, want) {
			t.Errorf("%s %q: links %q, want %q", c.name, c.variables, got, want)
		}
		if got := id.Get("DM_VG_NAME") + " " + id.Get("DM_LV_NAME") + " " + id.Get("DM_LV_LAYER"); got != c.properties {
			t.Errorf("%s %q: properties %q, want %q", c.name, c.variables, got, c.properties)
		}
		if got := p.NeedsContents(e); got != c.readable {
			t.Errorf("%s %q: to be read: %v", c.name, c.variables, got)
		}
	}
}

// TestArrays: an array has the link at which mdadm looks for it, by what mdadm has written or
// by the kernel's name.
func TestArrays(t *testing.T) {
	const known = "md126 1.2 11111111:22222222:33333333:44444444 /dev/md/other\n\nmd127 1.2 5 \n" +
		"md127 1.2 11111111:22222222:33333333:44444444 /dev/md/NAME\n"
	for _, c := range []struct{ sysname, given, want, partition string }{
		{"md127", "raid", "md/raid", "md/raid2"},
		{"md127", "raid5", "md/raid5", "md/raid5p2"},
		{"md127", "../../sda", "md/.._.._sda", "md/.._.._sda2"},
		{"md127", "..", "", "md/..2"},
		{"md12", "raid", "", ""},
		{"md_home", "raid", "md/home", "md/home2"},
	} {
		s := hotplugtest.NewSysfs(t)
		devpath := "/devices/virtual/block/" + c.sysname
		s.Add(devpath, "block", "9:127", "DEVNAME="+c.sysname, "DEVTYPE=disk")
		s.Add(devpath+"/"+c.sysname+"p2", "block", "259:1", "DEVNAME="+c.sysname+"p2", "DEVTYPE=partition")
		hotplugtest.WriteFile(t, s.Path(devpath+"/md/array_state"), "clean\n")
		run := t.TempDir()
		hotplugtest.WriteFile(t, run+"/mdadm/map", strings.ReplaceAll(known, "NAME", c.given))
		p := &Prober{Sys: s.FS, Run: run}
		for _, e := range []*uevent.Event{
			hotplugtest.NewEvent(t, "ACTION=change", "DEVPATH="+devpath, "SUBSYSTEM=block", "MAJOR=9", "MINOR=127", "DEVNAME="+c.sysname, "DEVTYPE=disk"),
			hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH="+devpath+"/"+c.sysname+"p2", "SUBSYSTEM=block", "MAJOR=259", "MINOR=1", "DEVNAME="+c.sysname+"p2", "DEVTYPE=partition"),
		} {
			want, got := c.want, ""
			if devtype, _ := e.Get("DEVTYPE"); devtype == "partition" {
				want = c.partition
			}
			for _, path := range links(p.Identify(e)) {
				if strings.HasPrefix(path, "md/") {
					got += path
				}
			}
			if got != want {
				t.Errorf("%s, which mdadm calls %s: link %q, want %q", e.Sysname(), c.given, got, want)
			}
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

// TestVirtualNVMe shows that a namespace below a subsystem has a path where its controller has one.
func TestVirtualNVMe(t *testing.T) {
	t.Parallel()
	const namespace = "/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1"
	for controller, want := range map[string]string{
		"/devices/pci0000:00/0000:00:04.0/nvme/nvme0": "pci-0000:00:04.0-nvme-1",
		"/devices/virtual/nvme-fabrics/ctl/nvme0":     "", // over a network
		"": "",
	} {
		s := hotplugtest.NewSysfs(t)
		s.Add("/devices/virtual/nvme-subsystem/nvme-subsys0", "nvme-subsystem", "")
		s.Add(namespace, "block", "259:0", "DEVNAME=nvme0n1", "DEVTYPE=disk")
		hotplugtest.WriteFile(t, s.Path(namespace+"/nsid"), "1\n")
		if controller != "" {
			s.Add("/devices/pci0000:00/0000:00:04.0", "pci", "")
			s.Add(controller, "nvme", "240:0", "DEVNAME=nvme0")
		}
		p := &Prober{Sys: s.FS}
		if got := p.Identify(s.NewEvent("add", namespace)).Get("ID_PATH"); got != want {
			t.Errorf("with the controller %q the path is %q, want %q", controller, got, want)
		}
	}
}
