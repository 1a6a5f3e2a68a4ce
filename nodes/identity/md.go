package identity

import (
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

// md is for RAID arrays of the kernel. Before it runs, an array is a node with nothing
// behind it.
func (s *subject) md() {
	disk, suffix := s.whole()
	if !s.arrayReady(disk) {
		return
	}
	s.priority = 100
	uuid, name := s.arrayNames(disk)
	s.setUnlessEmpty("MD_UUID", uuid)
	s.setUnlessEmpty("MD_NAME", name)
	s.setUnlessEmpty("MD_LEVEL", disk.value("md/level"))
	s.setUnlessEmpty("MD_METADATA", disk.value("md/metadata_version"))
	if name != "" {
		s.link("disk/by-id", "md-name-"+name+suffix)
	}
	if uuid != "" {
		s.link("disk/by-id", "md-uuid-"+uuid+suffix)
	}
	// The kernel names an array md_NAME where its maker asked for a name, and mdadm looks
	// for it at md/NAME.
	if given, is := strings.CutPrefix(disk.name(), "md_"); is {
		if suffix != "" {
			part := trailingNumber(s.e.Sysname())
			if trailingNumber(given) != "" {
				part = "p" + part
			}
			given += part
		}
		s.link("md", given)
	}
	s.inside()
	s.linkContents("filesystem other crypto", "filesystem other crypto")
	s.linkPartition("disk")
}

// arrayReady reports whether an array runs, or is a container of others, which never does.
func (s *subject) arrayReady(disk *dir) bool {
	state, there := disk.attr("md/array_state")
	if state == "inactive" && strings.HasPrefix(disk.value("md/metadata_version"), "external:") {
		return true
	}
	if !there || state == "" || strings.HasPrefix(state, "clear") || state == "inactive" {
		s.set("SYSTEMD_READY", "0")
		return false
	}
	return true
}

// arrayNames finds an array's UUID, as mdadm writes it, and its name. The kernel tells
// the UUID since Linux 6.2. The rest stands in the superblocks of its members alone, of
// which the first is read.
func (s *subject) arrayNames(disk *dir) (uuid, name string) {
	uuid = arrayUUID(disk.value("md/uuid"))
	if s.disk.fd < 0 || s.p.Contents == nil {
		return uuid, ""
	}
	for _, member := range (&dir{s: s, path: disk.path + "/slaves"}).list() {
		text := (&dir{s: s, path: disk.path + "/slaves/" + member}).value("dev")
		major, minor, ok := uevent.ParseNumbers(text)
		if !ok {
			continue
		}
		fd, err := s.p.Open(uevent.Dev{Block: true, Major: major, Minor: minor})
		if err != nil {
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
	digits := strings.ToLower(strings.ReplaceAll(text, "-", ""))
	if len(digits) != 32 {
		return ""
	}
	return digits[:8] + ":" + digits[8:16] + ":" + digits[16:24] + ":" + digits[24:]
}
