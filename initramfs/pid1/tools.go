package pid1

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// tool makes disks of others. It is run again whenever the kernel has sent an event since, as long
// as the root is missing: the members of an array or a volume group come one by one.
type tool struct {
	words  []string // its command line
	member string   // the ID_FS_TYPE of what it works on
	seqnum string   // of the kernel's last event when it was run last
}

// tools are those that an image may have: what each works on, and the words of its command line,
// each after a bar.
var tools = [...]string{
	// An array that lacks a member is not started yet: the member may still come.
	"linux_raid_member|mdadm|--assemble|--scan|--quiet|--no-degraded",
	// Here is no udev that it would have to wait for.
	"LVM2_member|lvm|vgchange|--activate|ay|--sysinit|--quiet|--quiet|--config|" +
		"devices{obtain_device_list_from_udev=0} activation{udev_sync=0 udev_rules=0}",
}

// findTools returns the tools that the image has, by their paths.
func (b *boot) findTools() (found []tool) {
	for _, text := range tools {
		words := strings.Split(text, "|")
		// words[0] is the type of the members, and words[1] the name of the program.
		if words[1] = sys.LookPath(words[1], b.environ); sys.Executable(words[1]) {
			found = append(found, tool{words: words[1:], member: words[0]})
		}
	}
	return found
}

// useTools unlocks and assembles what is there, and reports whether more of that may come.
func (b *boot) useTools() (more bool) {
	for i := range b.luks {
		if v := &b.luks[i]; !v.open {
			more = true
			b.unlock(v)
		}
	}
	// A tool is never done: later members may make more of it. So the slices of find stay short.
	for i := range b.tools {
		more = true
		t := &b.tools[i]
		// The number is read before the tool looks: a disk that comes meanwhile makes it run once more.
		// Events that the tool causes count too: after it has made a disk it runs once more.
		now, _ := sys.ReadAttribute("/sys/kernel/uevent_seqnum")
		// The loop is asked whether any disk holds such a member now.
		if now != t.seqnum && b.ask([]string{"wait", "0", "ID_FS_TYPE=" + t.member}, func(string) {}) == nil {
			t.seqnum = now
			b.tell("running " + t.words[0])
			_, _ = b.spawn(t.words, nil)
		}
	}
	return more
}

// unlock opens a volume, if it is there. The tool asks for the passphrase on the console, and
// this process does nothing else until it ends.
func (b *boot) unlock(v *volume) {
	disk := "/dev/disk/by-uuid/" + v.uuid
	if unix.Access(disk, unix.F_OK) != nil {
		return
	}
	v.open = true // also where it fails: it is tried once
	b.restMayCome()
	words := []string{sys.LookPath("cryptsetup", b.environ), "open", disk, v.name}
	if v.key != "" {
		words = append(words, "--key-file", v.key)
	}
	// The boot goes on: if the root needs the volume, its time runs out, and the shell comes.
	if code, err := b.spawn(words, nil); err != nil {
		say("UUID=" + v.uuid + " is not unlocked: " + words[0] + ": " + err.Error())
	} else if code != 0 {
		say("UUID=" + v.uuid + " is not unlocked: cryptsetup ended with status " + strconv.Itoa(code))
	}
}

// mapped returns the kernel's node of what is mapped under the name of a path in /dev/mapper,
// or "". The tool that maps it and the loop both make that path, and may be at it still.
func mapped(path string) string {
	name, is := strings.CutPrefix(path, "/dev/mapper/")
	for _, disk := range sys.ReadDir("/sys/class/block") {
		dir := "/sys/class/block/" + disk
		if found, _ := sys.ReadAttribute(dir + "/dm/name"); is && found == name+"\n" {
			if size, _ := sys.ReadAttribute(dir + "/size"); size != "0\n" { // it has a table
				return "/dev/" + disk
			}
		}
	}
	return ""
}
