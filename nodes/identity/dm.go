package identity

import "strconv"

// mapperState is what device-mapper says of one of its devices.
type mapperState struct {
	name, uuid string
	suspended  bool
	noTable    bool // made, and not yet of any use
	noscan     bool // DM_NOSCAN: LVM and multipath say that its contents are not to be read

	noNames, noDiskNames, noOther, low bool // the flags of who changed it
	primary                            bool // the event is one that libdevmapper asked for
}

// hidden reports whether the contents are not to be looked at now.
func (m *mapperState) hidden() bool {
	return m.suspended || m.noTable || m.noscan || m.noDiskNames || m.noOther
}

// mapperFlags are the upper half of an event's DM_COOKIE, from bit 16 on, and the
// properties that udev's rules know them by (libdevmapper.h, DM_UDEV_*).
var mapperFlags = [...]string{
	"DM_UDEV_DISABLE_DM_RULES_FLAG",
	"DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG",
	"DM_UDEV_DISABLE_DISK_RULES_FLAG",
	"DM_UDEV_DISABLE_OTHER_RULES_FLAG",
	"DM_UDEV_LOW_PRIORITY_FLAG",
	"DM_UDEV_DISABLE_LIBRARY_FALLBACK_FLAG",
	"DM_UDEV_PRIMARY_SOURCE_FLAG",
	"DM_UDEV_FLAG7",
	"DM_SUBSYSTEM_UDEV_FLAG0",
	"DM_SUBSYSTEM_UDEV_FLAG1",
	"DM_SUBSYSTEM_UDEV_FLAG2",
	"DM_SUBSYSTEM_UDEV_FLAG3",
	"DM_SUBSYSTEM_UDEV_FLAG4",
	"DM_SUBSYSTEM_UDEV_FLAG5",
	"DM_SUBSYSTEM_UDEV_FLAG6",
	"DM_SUBSYSTEM_UDEV_FLAG7",
}

// flag reports whether a flag is set: by the event's cookie, or where it has none by the
// property itself, which whoever keeps earlier properties may have given back.
func (s *subject) flag(name string) bool {
	if cookie, said := s.e.Get("DM_COOKIE"); said {
		n, err := strconv.ParseUint(cookie, 0, 32)
		for i := range mapperFlags {
			if err == nil && mapperFlags[i] == name && n>>(16+uint(i))&1 == 1 {
				return true
			}
		}
		if n>>(16+6)&1 == 1 { // an event of libdevmapper's own says all anew
			return false
		}
	}
	value, _ := s.e.Get(name)
	return value == "1"
}

// mapper reads the state of a device of device-mapper.
func (s *subject) mapper() *mapperState {
	m := &mapperState{
		name: s.dev.value("dm/name"), uuid: s.dev.value("dm/uuid"),
		suspended:   s.dev.value("dm/suspended") == "1",
		noTable:     s.dev.value("size") == "0" && s.e.Action == "add",
		noNames:     s.flag(mapperFlags[0]),
		noDiskNames: s.flag(mapperFlags[2]),
		noOther:     s.flag(mapperFlags[3]),
		low:         s.flag(mapperFlags[4]),
		primary:     s.flag(mapperFlags[6]),
	}
	noscan, _ := s.e.Get("DM_NOSCAN")
	m.noscan = noscan == "1"
	return m
}

// deviceMapper: such a device is made first and gets its table later. Until then, and
// where its maker says so, it has no names.
func (s *subject) deviceMapper() {
	m := s.mapper()
	for i := range mapperFlags {
		if said, _ := s.e.Get(mapperFlags[i]); said != "1" && s.flag(mapperFlags[i]) {
			s.set(mapperFlags[i], "1")
		}
	}
	if readOnly, _ := s.e.Get("DISK_RO"); readOnly == "1" || m.noTable {
		for _, flag := range mapperFlags[1:4] {
			s.set(flag, "1")
		}
		s.id.Keep = !m.noTable
		return
	}
	s.set("DM_ACTIVATION", "1")
	name := substituted(m.name)
	s.set("DM_NAME", name)
	s.set("DM_UUID", substituted(m.uuid))
	if m.suspended {
		s.set("DM_SUSPENDED", "1")
	} else {
		s.set("DM_SUSPENDED", "0")
	}
	s.set("DM_UDEV_RULES", "1")
	s.set("DM_UDEV_RULES_VSN", "2")
	if !m.noNames && m.name != "" {
		s.link("mapper", name)
	}
	if m.suspended {
		s.set("DM_UDEV_DISABLE_OTHER_RULES_FLAG", "1")
		s.id.Keep = true
	}
	if m.noDiskNames {
		return
	}
	s.link("disk/by-id", "dm-name-"+name)
	if m.uuid != "" {
		s.link("disk/by-id", "dm-uuid-"+substituted(m.uuid))
	}
	if m.low {
		s.priority = -100
	}
	if m.suspended || m.noscan {
		return
	}
	s.inside()
	s.linkContents("filesystem other crypto", "filesystem other")
	s.linkPartition("disk")
}
