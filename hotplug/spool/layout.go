package spool

import (
	"slices"
	"strconv"
	"strings"

	"devspool/hotplug/procfs"
	"devspool/hotplug/sys"
)

// NameLength is the length of an event file's name.
const NameLength = 20

// EventName returns the name of event n.
func EventName(n uint64) string {
	var b [NameLength]byte
	for i := NameLength - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return string(b[:])
}

// EventNumber returns which event has this name, if one has.
func EventNumber(name string) (n uint64, ok bool) {
	if len(name) != NameLength {
		return 0, false
	}
	for i := range NameLength {
		c := uint64(name[i] - '0')
		if c > 9 || n > (1<<64-1-c)/10 {
			return 0, false
		}
		n = n*10 + c
	}
	return n, true
}

// slotsBelow is the number below which what follows a number in a name counts as
// SLOT: the kernel gives such numbers to its own threads and to what starts first.
const slotsBelow = 300

// OwnerNamed returns the process whose number is in the name NAME-PID or
// NAME-PID-SLOT, if there is one of this user.
func OwnerNamed(name string, uid uint32) procfs.Process {
	rest, last := cutLast(name)
	_, before := cutLast(rest)
	_, err := strconv.Atoi(before)
	if slot, _ := strconv.Atoi(last); err != nil || slot >= slotsBelow {
		if p, ok := theirs(last, uid); ok {
			return p
		}
	}
	p, _ := theirs(before, uid)
	return p
}

func cutLast(name string) (before, after string) {
	dash := strings.LastIndexByte(name, '-')
	if dash < 0 {
		return name, ""
	}
	return name[:dash], name[dash+1:]
}

func theirs(number string, uid uint32) (procfs.Process, bool) {
	pid, err := strconv.Atoi(number)
	if err != nil || pid <= 0 || !procfs.RunsAs(pid, uid) {
		return procfs.Process{}, false
	}
	p, ok := procfs.Find(pid)
	if !ok {
		return procfs.Process{}, false
	}
	return p, true
}

// The dot files of a queue, which are its client's.
const (
	FilterFile  = ".filter"
	NoLinksFile = ".nolinks"
	StickyFile  = ".sticky"
	RingFile    = ".ring"
)

// MaxFilter is the size in bytes of the longest filter that is read. It bounds the
// work that a client can make of each event.
const MaxFilter = 4096

// EventNames returns those of the event files in a queue, the oldest first.
func EventNames(dir int) ([]string, error) {
	names, err := sys.TryList(dir)
	names = slices.DeleteFunc(names, func(name string) bool {
		_, ok := EventNumber(name)
		return !ok
	})
	slices.Sort(names)
	return names, err
}

// Where clients find their queues, and those of libudev-compat.
const (
	DefaultEvents  = "/dev/events"
	DefaultLibudev = "/dev/metadata/udev/events"
)
