package identity

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// mapperFlags are the bits from 16 on of an event's DM_COOKIE, as udev's rules know them
// (libdevmapper.h, DM_UDEV_*).
const mapperFlags = "DISABLE_DM_RULES_FLAG DISABLE_SUBSYSTEM_RULES_FLAG DISABLE_DISK_RULES_FLAG " +
	"DISABLE_OTHER_RULES_FLAG LOW_PRIORITY_FLAG DISABLE_LIBRARY_FALLBACK_FLAG PRIMARY_SOURCE_FLAG FLAG7 "

// mapperFlag begins the names of the flags among the properties.
const mapperFlag = "DM_UDEV_"

// Lasting returns the flags that device-mapper's programs gave the device of e with their last change,
// where e comes from none of them: from udevadm trigger, say, or a scan. That a device is to have no names
// still holds then (udev's 55-dm.rules). Before returns the properties that the device had; it is called
// for devices of device-mapper alone.
func (p *Prober) Lasting(e *uevent.Event, before func(*uevent.Event) []string) (flags []string) {
	if !e.Dev.Block || !strings.HasPrefix(e.Devname, "dm-") {
		return nil
	}
	if _, said := e.Get("DM_COOKIE"); said {
		return nil
	}
	earlier := before(e)
	// Without this one the others say only that the device had no table yet.
	if !slices.Contains(earlier, "DM_UDEV_PRIMARY_SOURCE_FLAG=1") {
		return nil
	}
	// LVM has it only until a volume is wiped.
	wiped := slices.Contains(earlier, "DM_NOSCAN=1") && !slices.Contains(earlier, "DM_DISABLE_OTHER_RULES_FLAG_OLD=1")
	for _, kv := range earlier {
		if strings.HasPrefix(kv, mapperFlag) && !(wiped && kv == "DM_UDEV_DISABLE_OTHER_RULES_FLAG=1") {
			flags = append(flags, kv)
		}
	}
	return flags
}

// readFlags reads the flags that the program which changed the device has set (libdevmapper):
// from the event's cookie, or where that has none those that a caller has put into the event, see Lasting.
func (s *subject) readFlags() {
	cookie, _ := s.e.Get("DM_COOKIE")
	bits, _ := strconv.ParseUint(cookie, 0, 32)
	for rest := mapperFlags; rest != ""; bits >>= 1 {
		var flag string
		flag, rest, _ = strings.Cut(rest, " ")
		flag = mapperFlag + flag
		before, _ := s.e.Get(flag)
		switch {
		case bits>>16&1 == 1 && before != "1":
			s.set(flag, "1")
		case bits>>16&1 == 0 && before == "1" && cookie != "":
			s.set(flag, "0")
		}
	}
	if !strings.HasPrefix(s.value("dm/uuid"), "LVM-") {
		return
	}
	// What is left of the bits are a subsystem's. LVM's first says that a volume is about to
	// be wiped, and holds until the next event, whatever that comes from. What the flag was is kept for
	// then, under the name that LVM's own rules have for it (11-dm-lvm.rules).
	if bits>>16&1 == 1 {
		s.setAll("DM_", "NOSCAN DISABLE_OTHER_RULES_FLAG_OLD UDEV_DISABLE_OTHER_RULES_FLAG", []string{
			"1", s.value("DM_UDEV_DISABLE_OTHER_RULES_FLAG"), "1"})
		s.id.Unwiped = true
	}
	s.volume()
}

// volume is for devices that LVM has made, whose names are GROUP-VOLUME or
// GROUP-VOLUME-LAYER. A volume has a link GROUP/VOLUME, by which LVM's own tools open it;
// what it is made of has no names.
func (s *subject) volume() {
	group, rest := cutDash(s.value("dm/name"))
	volume, rest := cutDash(rest)
	layer, _ := cutDash(rest)
	s.setAll("DM_", "VG_NAME LV_NAME LV_LAYER", []string{group, volume, layer})
	switch {
	case s.is("DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG"): // its maker wants no names by LVM
	// pvmove?* and ?*_vorigin, as LVM's own rules have it (11-dm-lvm.rules): they are in use by LVM alone.
	case layer != "" || len(volume) > 6 && volume[:6] == "pvmove" || strings.HasSuffix(volume[min(1, len(volume)):], "_vorigin"):
		s.setAll("DM_UDEV_DISABLE_", "DISK_RULES_FLAG OTHER_RULES_FLAG", []string{"1", "1"})
	default:
		s.set(".VOLUME", volume)
	}
}

// cutDash cuts a name at its first single dash that is not its end, as "dmsetup splitname"
// does. A double one stands for a dash.
func cutDash(name string) (before, after string) {
	for i := 0; i < len(name); i++ {
		if name[i] == '-' && i+1 < len(name) {
			if i++; name[i] != '-' {
				return before, name[i:]
			}
		}
		before += name[i : i+1]
	}
	return before, ""
}

// is reports whether a flag is set, which stands in a property or variable as 1.
func (s *subject) is(key string) bool { return s.value(key) == "1" }

// hidden reports whether the contents of a device of device-mapper are not to be looked
// at now. It goes by the flags that were read.
func (s *subject) hidden() bool {
	return s.dev.value("dm/suspended") == "1" || s.is("DISK_RO") || s.is("DM_NOSCAN") ||
		s.is("DM_UDEV_DISABLE_DISK_RULES_FLAG") || s.is("DM_UDEV_DISABLE_OTHER_RULES_FLAG")
}

// mapper: a device of device-mapper is made first and gets its table later. Until then,
// and where its maker says so, it has no names.
func (s *subject) mapper() {
	s.readFlags()
	suspended := s.dev.value("dm/suspended") == "1"
	// Before it has a table its size is 0. A change comes when the table is in use.
	hasTable := s.e.Action != "add" || s.dev.value("size") != "0"
	s.id.Keep = hasTable && (suspended || s.is("DISK_RO"))
	// The kernel says DISK_RO=1 in a change of its own when a disk becomes read-only (set_disk_ro in
	// block/genhd.c).
	if s.is("DISK_RO") || !hasTable {
		s.setAll("DM_UDEV_DISABLE_", "SUBSYSTEM_RULES_FLAG DISK_RULES_FLAG OTHER_RULES_FLAG", []string{"1", "1", "1"})
		s.set(".HIDDEN", "1")
		return
	}
	// By UDEV_RULES_VSN LVM's rules see that the properties of device-mapper's own are there.
	s.setAll("DM_", "ACTIVATION NAME UUID SUSPENDED UDEV_RULES UDEV_RULES_VSN", []string{
		"1", s.value("dm/name"), s.value("dm/uuid"), strconv.Itoa(bit(suspended)), "1", "2"})
	if !s.is("DM_UDEV_DISABLE_DM_RULES_FLAG") {
		s.link("mapper/{DM_NAME}")
	}
	if suspended {
		s.set("DM_UDEV_DISABLE_OTHER_RULES_FLAG", "1")
	}
	if s.value(".VOLUME") != "" {
		s.link("{DM_VG_NAME}/{DM_LV_NAME}")
	}
	if !s.is("DM_UDEV_DISABLE_DISK_RULES_FLAG") {
		s.link("disk/by-id/dm-name-{DM_NAME}")
		s.link("disk/by-id/dm-uuid-{DM_UUID}")
	}
	// A snapshot has the UUIDs of its origin, which is to have their links.
	if s.is("DM_UDEV_LOW_PRIORITY_FLAG") {
		s.set(".PRIORITY", "-100")
	}
	if s.hidden() {
		s.set(".HIDDEN", "1")
	}
}

func bit(is bool) int {
	if is {
		return 1
	}
	return 0
}

// array is for RAID arrays of the kernel. Before it runs, an array is a node with nothing
// behind it; a container of others never does.
func (s *subject) array() {
	state := s.value("md/array_state")
	isContainer := state == "inactive" && strings.HasPrefix(s.value("md/metadata_version"), "external:")
	if !isContainer && (state == "" || state == "inactive" || strings.HasPrefix(state, "clear")) {
		// SYSTEMD_READY=0 says that a device is not to be used yet (systemd.device(5)).
		s.setAll("", "SYSTEMD_READY .HIDDEN", []string{"0", "1"})
		return
	}
	uuid, name := s.arrayNames()
	s.setAll("", ".PRIORITY MD_UUID MD_NAME MD_LEVEL MD_METADATA", []string{
		"100", uuid, name, s.value("md/level"), s.value("md/metadata_version")})
	s.link("disk/by-id/md-name-{MD_NAME}{.P}")
	s.link("disk/by-id/md-uuid-{MD_UUID}{.P}")
	if given := s.givenName(); given != "" {
		s.setAll("", "MD_DEVNAME .ARRAY", []string{given, given})
		if number := s.value(".N"); s.base != s.dev {
			// As the kernel itself names partitions: data1, but data0p1.
			if trailingNumber(given) != "" {
				given += "p"
			}
			s.set(".ARRAY", given+number)
		}
		s.link("md/{.ARRAY}")
	}
}

// givenName returns the NAME below md/ at which mdadm looks for an array: it says so in a file,
// in a line "md127 1.2 UUID /dev/md/NAME". For other makers the kernel itself calls it md_NAME.
func (s *subject) givenName() string {
	if s.p.Run != "" {
		text, _ := sys.ReadFile(s.p.Run + "/mdadm/map")
		for line := range strings.Lines(text) {
			words := strings.Fields(line)
			if len(words) != 4 || words[0] != s.base.name() {
				continue
			}
			if name, is := strings.CutPrefix(words[3], "/dev/md/"); is {
				return name
			}
		}
	}
	name, is := strings.CutPrefix(s.base.name(), "md_")
	if !is {
		return ""
	}
	return name
}

// arrayNames finds an array's UUID, as mdadm writes it, and its name. The kernel tells
// the UUID since Linux 6.2. The rest stands in the superblocks of its members alone, of
// which the first is read.
func (s *subject) arrayNames() (uuid, name string) {
	uuid = arrayUUID(s.value("md/uuid"))
	if s.wholeFd() < 0 || s.p.Contents == nil {
		return uuid, ""
	}
	slaves := &dir{s: s, path: s.base.path + "/slaves"}
	for _, member := range slaves.list() {
		fd := s.openAt(&dir{s: s, path: slaves.path + "/" + member})
		if fd < 0 {
			continue
		}
		found := Identity{Properties: s.p.Contents(Disk{Fd: fd, Whole: -1})}
		unix.Close(fd)
		if found.Get("ID_FS_TYPE") == "linux_raid_member" {
			return arrayUUID(found.Get("ID_FS_UUID")), found.Get("ID_FS_LABEL")
		}
	}
	return uuid, ""
}

// arrayUUID writes a UUID in mdadm's groups of eight.
func arrayUUID(text string) string {
	digits := strings.ReplaceAll(text, "-", "")
	if len(digits) != 32 {
		return ""
	}
	return digits[:8] + ":" + digits[8:16] + ":" + digits[16:24] + ":" + digits[24:]
}
