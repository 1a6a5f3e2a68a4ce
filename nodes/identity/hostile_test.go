package identity

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/uevent"
)

// hostile is what devices may say of themselves.
var hostile = []string{
	"", " ", "..", ".", "../..", "a/../../etc/passwd", "/etc/shadow", "a\nDEVNAME=sda", "a\x00b", "\x1b[2J\x07",
	"\xff\xfe\x80", "\xc0\xaf..\xc0\xaf", "\xed\xa0\x80", "$(reboot)", "`reboot`", "a b\tc  d", "%n$attr{x}", `a\x2f..\x2fb`, `\`, `a\`,
	strings.Repeat("A", 4095), strings.Repeat("é", 2047), strings.Repeat("../", 1000), "{serial}", "{ID_SERIAL}", "&", "|*#", "-part1",
	"disk/by-id/x", "ääö☃", "x\u202eexe", "…",
}

// checkSafe fails the test where a name could lead out of its directory, or a property
// forge another.
func checkSafe(t *testing.T, id *Identity) {
	t.Helper()
	for _, l := range id.Links {
		for i, part := range strings.Split(l.Path, "/") {
			if part == "" || part == "." || part == ".." || len(part) > 255 {
				t.Errorf("part %d of link %q", i, l.Path)
			}
		}
		for _, c := range []byte(l.Path) {
			if c <= ' ' || c == 0x7f {
				t.Errorf("byte %#x in link %q", c, l.Path)
			}
		}
		if !utf8.ValidString(l.Path) {
			t.Errorf("link %q is no UTF-8", l.Path)
		}
		if top, _, _ := strings.Cut(l.Path, "/"); !strings.Contains(" block char disk snd input serial v4l dri tape mtd virtio-ports gpio media infiniband mapper md cdrom rtc ptp_kvm ptp_hyperv ", " "+top+" ") {
			t.Errorf("link %q is in no directory of ours", l.Path)
		}
	}
	seen := map[string]bool{}
	for _, kv := range id.Properties {
		key, value, is := strings.Cut(kv, "=")
		if !is || key == "" || strings.Trim(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
			t.Errorf("property %q", kv)
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(value) > maxValue {
			t.Errorf("property %q", kv)
		}
		if seen[key] {
			t.Errorf("property %s twice", key)
		}
		seen[key] = true
	}
}

// TestHostile shows that no attribute of any device on the machines, whatever it says,
// leads a link astray or forges a property. Each round all say something else.
func TestHostile(t *testing.T) {
	for _, m := range loadMachines(t) {
		p := &Prober{Sys: m.fs.FS}
		events, files := m.events(t), m.attributes(t)
		for round := 0; round < len(hostile); round += 4 {
			for i, file := range files {
				if i%3 == round%3 { // one of three stays as it was, so that the others are asked for
					continue
				}
				hotplugtest.Must(t, os.WriteFile(file, []byte(hostile[(i+round)%len(hostile)]+"\n"), 0o644))
			}
			for _, e := range events {
				checkSafe(t, p.Identify(e))
			}
			m.build(t)
			p.Sys = m.fs.FS
			files = m.attributes(t)
		}
	}
}

// attributes lists the files of devices that are no uevent.
func (m *machine) attributes(t *testing.T) (files []string) {
	t.Helper()
	hotplugtest.Must(t, filepath.WalkDir(m.fs.Path("/devices"), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && d.Name() != "uevent" && d.Name() != "dev" {
			files = append(files, path)
		}
		return err
	}))
	return files
}

// FuzzIdentify tries what a device may say of itself in all attributes of disks, sound
// cards, keyboards and interfaces at once, and in the variables of its event.
func FuzzIdentify(f *testing.F) {
	for _, text := range hostile {
		f.Add(text, text, text, "sdb")
	}
	f.Add("ATA", "1", "S", "dm-0")
	f.Fuzz(func(t *testing.T, a, b, c, name string) {
		if name == "" || strings.ContainsAny(name, "/\x00\n") || name[0] == '.' || len(name) > 100 {
			name = "sda"
		}
		fs := hotplugtest.NewSysfs(t)
		base := "/devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0/host1/target1:0:0/1:0:0:0/block/" + name
		for i, at := range []string{"", "/..", "/../..", "/../../../..", "/../../../../..", "/../../../../../.."} {
			for j, attr := range []string{"serial", "model", "wwid", "vendor", "type", "name", "idVendor", "idProduct", "manufacturer", "vpd_pg83",
				"vpd_pg80", "vpd_pg89", "descriptors", "nsid", "dm/name", "dm/uuid", "md/array_state", "md/uuid", "size", "removable"} {
				hotplugtest.WriteFile(t, filepath.Clean(fs.Path(base)+at)+"/"+attr, []string{a, b, c}[(i+j)%3])
			}
		}
		for at, subsystem := range map[string]string{"/../..": "scsi", "/../../../../..": "usb", "/../../../../../..": "usb", "/../../../../../../../..": "pci"} {
			dir := filepath.Clean(fs.Path(base) + at)
			os.Remove(dir + "/subsystem")
			hotplugtest.Must(t, os.Symlink("../../bus/"+subsystem, dir+"/subsystem"))
		}
		p := &Prober{Sys: fs.FS}
		for _, subsystem := range []string{"block", "sound", "input", "net", "tty", "video4linux", "virtio-ports", "mtd", "scsi_tape", "usb"} {
			e, err := uevent.FromEnviron([]string{"ACTION=add", "DEVPATH=" + base, "SUBSYSTEM=" + subsystem, "MAJOR=8", "MINOR=1", "DEVNAME=x",
				"DEVTYPE=disk", "PARTNAME=" + a, "PARTUUID=" + b, "DISKSEQ=" + c, "DM_COOKIE=" + a})
			if err != nil {
				continue
			}
			checkSafe(t, p.Identify(e))
		}
	})
}

// FuzzPages tries the binary answers of disks and USB devices, and the sets of keys.
func FuzzPages(f *testing.F) {
	f.Add([]byte("\x00\x83\x00\x0c\x01\x03\x00\x08\x50\x00\x0c\x50\x01\x02\x03\x04"), []byte("\x00\x80\x00\x04ABCD"), "120013")
	f.Add([]byte("\x00\x83\xff\xff\x02\x01\x00\xffATA     x"), []byte("\x00\x80\x00\xff"), "f f f f f f f f f f f f f f f f f f f f f f f f f f f")
	f.Add([]byte("\x12\x01\x00\x02\x09\x00\x01\x40\x6b\x1d\x02\x00\x06\x06\x03\x02\x01\x01\x09\x04\x00\x00\x01\x09\x00\x00\x00"), []byte{}, "")
	f.Fuzz(func(t *testing.T, page, other []byte, text string) {
		n := parsePages(string(page), string(other), "VENDOR  ", "MODEL           ")
		if len(n.wwn) > 16 || len(n.extension) > 16 || len(n.serial) > 600 {
			t.Errorf("%+v", n)
		}
		usbInterfaces(string(page))
		if c := parseCapabilities(text); len(c) > maxWords {
			t.Errorf("%d words", len(c))
		}
		answer := make([]byte, identifySize)
		copy(answer, page)
		s := newSubject(&Prober{Sys: "/nonexistent"}, &uevent.Event{Devpath: "/devices/x", Subsystem: "block"})
		s.ataID(string(answer))
		s.finish()
		checkSafe(t, &s.id)
		encode(text)
		if got := replaceChars(replaceSpace(text), ""); strings.ContainsAny(got, "/ \n") || !utf8.ValidString(got) {
			t.Errorf("%q", got)
		}
	})
}

// page83 makes a page of designators.
func page83(designators ...string) string {
	all := strings.Join(designators, "")
	return "\x00\x83" + string(binary.BigEndian.AppendUint16(nil, uint16(len(all)))) + all
}

func designator(code, about byte, data string) string {
	return string([]byte{code, about, 0, byte(len(data))}) + data
}

// TestSCSISerials compares with what scsi_id's rules give, by names.md's account of them.
func TestSCSISerials(t *testing.T) {
	naa := "\x50\x00\xc5\x00\xaa\xbb\xcc\xdd"
	for name, c := range map[string]struct {
		page83, page80 string
		want           scsiNames
	}{
		"naa": {page83(designator(2, 1, "ATA     x"), designator(1, 3, naa)), "",
			scsiNames{serial: "35000c500aabbccdd", short: "5000c500aabbccdd", wwn: "5000c500aabbccdd"}},
		"extended": {page83(designator(1, 3, naa), designator(1, 3, "\x60\x01\x43\x80\x12\x5d\xeb\x66\x00\x00\x50\x00\x00\x6b\x00\x00")), "\x00\x80\x00\x04A 1 ",
			scsiNames{serial: "360014380125deb66000050" + "00006b0000", short: "600143801" + "25deb6600005000006b0000", wwn: "600143801" + "25deb66", extension: "00005000006b0000", unitSerial: "A 1 "}},
		"qemu":        {page83(designator(2, 0, "drive-scsi0")), "", scsiNames{serial: "0QEMU    QEMU HARDDISK   drive-scsi0", short: "drive-scsi0"}},
		"port":        {page83(designator(1, 0x15, "\x00\x00\x00\x07"), designator(1, 3, naa)), "", scsiNames{serial: "35000c500aabbccdd", short: "5000c500aabbccdd", wwn: "5000c500aabbccdd", targetPort: "7"}},
		"of the port": {page83(designator(1, 0x13, naa)), "\x00\x80\x00\x03XYZ", scsiNames{serial: "SQEMU    QEMU HARDDISK   XYZ", short: "XYZ", unitSerial: "XYZ"}},
		"scsi-2":      {"\x00\x83\x00\x04\x60\x06\x04\x81", "", scsiNames{serial: "360060481", short: "360060481"}},
		"short":       {page83(designator(1, 3, naa))[:14], "", scsiNames{serial: "35000c500aabb", short: "5000c500aabb", wwn: "5000c500aabb"}},
		"none":        {"", "", scsiNames{}},
	} {
		if got := parsePages(c.page83, c.page80, "QEMU    ", "QEMU HARDDISK   "); got != c.want {
			t.Errorf("%s:\n%+v, want\n%+v", name, got, c.want)
		}
	}
}

// TestATA identifies a disk by the page that the kernel keeps.
func TestATA(t *testing.T) {
	for _, m := range loadMachines(t) {
		if m.name != "server" {
			continue
		}
		answer := make([]byte, identifySize)
		text := func(word int, s string) {
			for i := 0; i < len(s); i += 2 {
				answer[2*word+i], answer[2*word+i+1] = s[i+1], s[i]
			}
		}
		word := func(i int, v uint16) { binary.LittleEndian.PutUint16(answer[2*i:], v) }
		text(wordSerial, "            ZFN12345")
		text(wordRevision, "0001    ")
		text(wordModel, "ST4000DM004-2CV104                      ")
		word(wordRotation, 5425)
		word(108, 0x5000)
		word(109, 0xc500)
		word(110, 0xa1b2)
		word(111, 0xc3d4)
		disk := "/devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0"
		hotplugtest.WriteFile(t, m.fs.Path(disk+"/vpd_pg89"), "\x00\x89\x02\x38"+strings.Repeat("\x00", 56)+string(answer))
		p := &Prober{Sys: m.fs.FS}
		e, err := m.fs.Event("add", disk+"/block/sda/sda1")
		hotplugtest.Must(t, err)
		id := p.Identify(e)
		for _, kv := range []string{"ID_BUS=ata", "ID_SERIAL=ST4000DM004-2CV104_ZFN12345", "ID_SERIAL_SHORT=ZFN12345", "ID_WWN=0x5000c500a1b2c3d4",
			"ID_ATA_ROTATION_RATE_RPM=5425", "ID_REVISION=0001", "ID_TYPE=disk"} {
			if key, value, _ := strings.Cut(kv, "="); id.Get(key) != value {
				t.Errorf("%s=%s, want %s", key, id.Get(key), value)
			}
		}
		shown := render(e.Devpath, id)
		for _, link := range []string{"disk/by-id/ata-ST4000DM004-2CV104_ZFN12345-part1", "disk/by-id/wwn-0x5000c500a1b2c3d4-part1", "disk/by-path/pci-0000:00:17.0-ata-1.0-part1"} {
			if !strings.Contains(shown, "S: "+link+"\n") {
				t.Errorf("no link %s in\n%s", link, shown)
			}
		}
	}
}
