package spool

import (
	"slices"
	"strconv"
	"strings"

	"devspool/hotplug/procfs"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// This file holds what both sides agree on: names of directories and files, and limits.

// Where clients find their queues, and those of libudev-compat.
const (
	DefaultEvents  = "/dev/events"
	DefaultLibudev = "/dev/metadata/udev/events"
)

// The dot files of a queue, which its client writes; see the package comment.
const (
	FilterFile  = ".filter"
	NoLinksFile = ".nolinks"
	StickyFile  = ".sticky"
	RingFile    = ".ring"
)

// MaxFilter is the limit of a filter in bytes. It bounds the work that a client can make
// of each event.
const MaxFilter = 4096

// MaxEvent is the limit of an event file in bytes: a message of uevent.MaxMessage bytes,
// each of which had to be escaped.
const MaxEvent = 4*uevent.MaxMessage + 1<<10

// NameLength is the length of an event file's name.
const NameLength = 20

// EventName returns the name of event n: its number in twenty digits.
func EventName(n uint64) string {
	var b [NameLength]byte
	for i := NameLength - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return string(b[:])
}

// EventNumber returns the number of the event with this name, and whether it is such a
// name.
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

// EventNames returns the names of the event files in an open directory, the oldest first.
// Where reading it fails, the names so far come with the error.
func EventNames(dir int) ([]string, error) {
	names, err := sys.TryList(dir)
	names = slices.DeleteFunc(names, func(name string) bool {
		_, ok := EventNumber(name)
		return !ok
	})
	sys.Sort(names)
	return names, err
}

// minPID is the number below which what follows another number in a name is a SLOT: the
// kernel gives smaller pids to its own threads and to what starts first.
const minPID = 300

// OwnerNamed returns the process whose number is in a queue's name, NAME-PID or
// NAME-PID-SLOT, if there is one of this user; else the zero Process.
func OwnerNamed(name string, uid uint32) procfs.Process {
	rest, last := cutLast(name)
	_, before := cutLast(rest) // the pid, if last is a slot
	_, err := strconv.Atoi(before)
	// The last number is the pid, unless it can be a slot: a small number behind another one.
	if slot, _ := strconv.Atoi(last); err != nil || slot >= minPID {
		if p, ok := processOf(last, uid); ok {
			return p
		}
	}
	p, _ := processOf(before, uid)
	return p
}

// cutLast cuts a name at its last dash.
func cutLast(name string) (before, after string) {
	dash := strings.LastIndexByte(name, '-')
	if dash < 0 {
		return name, ""
	}
	return name[:dash], name[dash+1:]
}

// processOf returns the process with this number, if it runs as the user.
func processOf(number string, uid uint32) (procfs.Process, bool) {
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
