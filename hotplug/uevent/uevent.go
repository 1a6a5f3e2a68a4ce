// Package uevent holds what the kernel says about a device: the Event, and the
// parsers of the three forms it comes in (a netlink message, the environment of
// a hotplug helper, a uevent file in sysfs).
//
// It never looks at a file system and never decides anything.
package uevent

import (
	"bytes"
	"errors"
	"iter"
	"strconv"
	"strings"
)

// MaxMessage is the size in bytes of the largest netlink message that is read.
// The kernel's own stay under 4 KiB; injected ones may be longer.
const MaxMessage = 64 << 10

// The errors of the parsers.
var (
	// ErrMalformed is returned for input that has not the form of a uevent.
	ErrMalformed = errors.New("not a uevent")
	// ErrIncomplete is returned where ACTION or DEVPATH is missing or unusable.
	ErrIncomplete = errors.New("uevent without a usable ACTION and DEVPATH")
)

// Actions that the kernel sends (lib/kobject_uevent.c). Later kernels may send
// others: an unknown action is treated as a Change.
const (
	Add     = "add"
	Remove  = "remove"
	Change  = "change"
	Move    = "move"
	Online  = "online"
	Offline = "offline"
	Bind    = "bind"
	Unbind  = "unbind"
)

// Dev is what the kernel calls a device: block or character, and its numbers.
// The zero Dev stands for a device without numbers.
type Dev struct {
	Block        bool
	Major, Minor uint32
}

// IsZero reports whether d stands for a device without numbers.
func (d Dev) IsZero() bool { return d.Major == 0 && d.Minor == 0 }

// String returns the device's name in the notation of udev's database: b8:0 for
// a block device, c1:3 for a character device.
func (d Dev) String() string {
	kind := byte('c')
	if d.Block {
		kind = 'b'
	}
	return string(d.append(append(make([]byte, 0, textOfDev), kind)))
}

// Numbers returns the text of the device's dev attribute without its newline: 8:0.
func (d Dev) Numbers() string { return string(d.append(make([]byte, 0, textOfDev))) }

// textOfDev is enough bytes for a Dev's text: b4095:1048575.
const textOfDev = 16

func (d Dev) append(to []byte) []byte {
	to = strconv.AppendUint(to, uint64(d.Major), 10)
	return strconv.AppendUint(append(to, ':'), uint64(d.Minor), 10)
}

// ParseNumbers reads the text of a dev attribute, such as "8:0\n".
func ParseNumbers(text string) (major, minor uint32, ok bool) {
	maj, min, found := strings.Cut(strings.TrimSuffix(text, "\n"), ":")
	if !found {
		return 0, 0, false
	}
	return parsePair(maj, min)
}

// parsePair reads two decimal numbers within what the kernel can express: 12
// bits of major and 20 bits of minor (include/linux/kdev_t.h).
func parsePair(maj, min string) (major, minor uint32, ok bool) {
	if maj == "" { // many devices: an error would cost more than the rest
		return 0, 0, false
	}
	a, err := strconv.ParseUint(maj, 10, 12)
	if err != nil {
		return 0, 0, false
	}
	b, err := strconv.ParseUint(min, 10, 20)
	if err != nil {
		return 0, 0, false
	}
	return uint32(a), uint32(b), true
}

// Event is one uevent. Its fields are read off the variables, which are all that
// was said.
type Event struct {
	Action    string // ACTION
	Devpath   string // DEVPATH: the device's path below /sys, with a leading slash
	Subsystem string // SUBSYSTEM, or ""
	Devname   string // DEVNAME: the node's path below /dev, or ""
	Dev       Dev    // MAJOR and MINOR, or the zero Dev
	Seqnum    uint64 // SEQNUM, or 0 where the source has none
	Asks      bool   // the kernel asks for what few devices need: DEVMODE, DEVUID, DEVGID or FIRMWARE

	vars Packed
}

// Packed is an event in little memory, for where very many have to wait: its
// variables in the kernel's own form, KEY=VALUE and a NUL each.
type Packed string

// Pack returns what Unpack makes the same event of.
func (e *Event) Pack() Packed { return e.vars }

// Unpack returns the event that p was made of.
func (p Packed) Unpack() *Event {
	e, _ := parse(string(p)) // no error, since it was read once
	return e
}

// Env yields every KEY=VALUE in the order in which they were said. A key may be there
// several times: since Linux 6.14 a battery's event can say a property twice, with
// different values (power_supply_uevent in drivers/power/supply). Only those that the
// Event has fields for are there once.
func (e *Event) Env() iter.Seq[string] {
	return func(yield func(string) bool) {
		for rest := string(e.vars); rest != ""; {
			var kv string
			if kv, rest, _ = strings.Cut(rest, "\x00"); !yield(kv) {
				return
			}
		}
	}
}

// Get returns the first value of the variable key, and whether it was there.
func (e *Event) Get(key string) (string, bool) {
	values := e.Values(key)
	return values.Next()
}

// Values returns all that was said of the variable key.
func (e *Event) Values(key string) Values { return Values{key, string(e.vars)} }

// Values are the values of one variable that are still to be looked at.
type Values struct{ key, vars string }

// Next returns the next value, in the order in which they were said, and whether there
// was one.
func (v *Values) Next() (value string, said bool) {
	for v.vars != "" && !said {
		if n := len(v.key); len(v.vars) > n && v.vars[n] == '=' && v.vars[:n] == v.key {
			value, said = v.vars[n+1:n+1+strings.IndexByte(v.vars[n+1:], 0)], true
		}
		v.vars = v.vars[strings.IndexByte(v.vars, 0)+1:]
	}
	return value, said
}

// Sysname returns the last part of the devpath: the kernel's name for the
// device, in which a '!' stands for a slash.
func (e *Event) Sysname() string {
	return e.Devpath[strings.LastIndexByte(e.Devpath, '/')+1:]
}

// ID names the device as udev's database does: b8:0, c1:3, or
// +SUBSYSTEM:SYSNAME for one without numbers.
func (e *Event) ID() string {
	if !e.Dev.IsZero() {
		return e.Dev.String()
	}
	return "+" + e.Subsystem + ":" + e.Sysname()
}

// ParseMessage reads a netlink message of the kernel: "ACTION@DEVPATH" and then
// KEY=VALUE strings, each ended by NUL (lib/kobject_uevent.c). The Event keeps
// no reference to msg.
func ParseMessage(msg []byte) (*Event, error) {
	end := bytes.IndexByte(msg, 0)
	at := bytes.IndexByte(msg, '@')
	if at <= 0 || at+1 >= end {
		return nil, ErrMalformed
	}
	return parse(string(msg[end+1:]))
}

// GapKey is the variable, of value 1, of an event which is about no device and tells
// that others were lost.
const GapKey = "UEVENT_GAP"

// LateKey is the variable, of value 1, of an event that /sys bears out no more: the
// device of an add has left, or that of a remove is there again.
const LateKey = "UEVENT_LATE"

// IsLate reports whether e has the variable.
func (e *Event) IsLate() bool {
	// The first look is for speed: nearly no event has it.
	if !strings.Contains(string(e.vars), LateKey) {
		return false
	}
	_, said := e.Get(LateKey)
	return said
}

// Late returns e with the variable which says that it is late.
func (e *Event) Late() *Event {
	if e.IsLate() {
		return e
	}
	late := *e
	late.vars += LateKey + "=1\x00"
	return &late
}

// With returns e with more variables KEY=VALUE. Those that e says itself stay as they are.
func (e *Event) With(properties []string) *Event {
	if len(properties) == 0 {
		return e
	}
	room := len(e.vars)
	for _, kv := range properties {
		room += len(kv) + 1
	}
	more := append(make([]byte, 0, room), e.vars...)
	for _, kv := range properties {
		key, _, _ := strings.Cut(kv, "=")
		if _, said := e.Get(key); !said {
			more = append(append(more, kv...), 0)
		}
	}
	with := *e
	with.vars = Packed(more)
	return &with
}

// Gap returns an event which says that others were lost; more says what is known of it.
func Gap(more ...string) *Event {
	const root = "/" // no device's devpath
	const own = "devspool"
	return &Event{Action: Change, Devpath: root, Subsystem: own, vars: Packed(join(append([]string{
		"ACTION=" + Change, "DEVPATH=" + root, "SUBSYSTEM=" + own, GapKey + "=1",
	}, more...)))}
}

// AppendMessage appends the event to a buffer in the form of the kernel's netlink
// messages, which ParseMessage reads.
func (e *Event) AppendMessage(to []byte) []byte {
	to = append(to, e.Action...)
	to = append(to, '@')
	to = append(to, e.Devpath...)
	to = append(to, 0)
	return append(to, e.vars...)
}

// FromEnviron makes an Event of a hotplug helper's environment, in which the
// kernel put it. Variables that are not the event's (PATH, HOME) stay in it, as
// commands expect them.
func FromEnviron(environ []string) (*Event, error) { return parse(join(environ)) }

// FromSysfs makes the Event that a coldplug stands for, of the text of the
// device's uevent file. dev is what the device's dev attribute says.
//
// A device can put lines into that file, since an input device's NAME may hold a
// newline. So numbers come from dev alone, and the variables that describe the
// node (DEVNAME, DEVMODE, DEVUID, DEVGID) count only where the kernel writes
// them: at the head of the file, and only for a device that has numbers.
func FromSysfs(action, devpath, subsystem, text string, dev Dev) (*Event, error) {
	said := make([]string, 0, strings.Count(text, "\n")+4)
	said = append(said, "ACTION="+action, "DEVPATH="+devpath)
	if subsystem != "" {
		said = append(said, "SUBSYSTEM="+subsystem)
	}
	head := !dev.IsZero()
	if head {
		said = append(said,
			"MAJOR="+strconv.FormatUint(uint64(dev.Major), 10),
			"MINOR="+strconv.FormatUint(uint64(dev.Minor), 10))
	}
	for text != "" {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		key, _, _ := strings.Cut(line, "=")
		switch key {
		case "ACTION", "DEVPATH", "SUBSYSTEM", "SEQNUM":
			continue
		case "MAJOR", "MINOR":
			continue
		case "DEVNAME", "DEVMODE", "DEVUID", "DEVGID":
			if !head {
				continue
			}
		default:
			head = false
			if !isVariable(key) {
				continue
			}
		}
		said = append(said, line)
	}
	return FromEnviron(said)
}

// isVariable reports whether a key in a uevent file can be the kernel's. A line
// that a device forged must not change how the commands of rules run.
func isVariable(key string) bool {
	for i := range len(key) {
		if c := key[i]; !(c >= 'A' && c <= 'Z' || c == '_' || i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	switch key {
	case "PATH", "HOME", "IFS", "ENV", "SHELL", "USER", "LOGNAME", "PWD", "OLDPWD", "CDPATH",
		"TERM", "TMPDIR", "TZ", "LANG", "EDITOR", "PAGER", "MDEV":
		return false
	}
	for _, prefix := range []string{"LD_", "LC_", "BASH", "DEVSPOOL_", "GCONV_", "GLIBC_", "MALLOC_", "PERL", "PYTHON", "RUBY"} {
		if strings.HasPrefix(key, prefix) {
			return false
		}
	}
	return true
}

// Relocate gives the event another devpath, which names the same device.
func (e *Event) Relocate(devpath string) {
	var said []string
	for kv := range e.Env() {
		if strings.HasPrefix(kv, "DEVPATH=") {
			kv = "DEVPATH=" + devpath
		}
		said = append(said, kv)
	}
	e.restate(join(said))
}

// InterfaceOld is the variable of the add of a network interface that was renamed: what the
// kernel called it.
const InterfaceOld = "INTERFACE_OLD"

// Renamed returns e, which is about a network interface, as one of an interface of another
// name. Variables that speak of the old name say the new one, as udev has it.
func (e *Event) Renamed(name string) *Event {
	old, vars := e.Sysname(), "\x00"+string(e.vars)
	for _, says := range [...]string{"\x00DEVPATH=" + e.Devpath[:len(e.Devpath)-len(old)], "\x00INTERFACE="} {
		if before, after, said := strings.Cut(vars, says+old+"\x00"); said {
			vars = before + says + name + "\x00" + after
		}
	}
	renamed := *e
	renamed.restate(vars[1:] + InterfaceOld + "=" + old + "\x00")
	return &renamed
}

// SetDefault gives the variable key a value, unless it has one.
func (e *Event) SetDefault(key, value string) {
	e.SetDefaults(&Event{vars: Packed(join([]string{key + "=" + value}))})
}

// SetDefaults gives e those variables of from that it lacks, with all their values.
func (e *Event) SetDefaults(from *Event) {
	vars := string(e.vars)
	for rest := string(from.vars); rest != ""; {
		end := strings.IndexByte(rest, 0) + 1
		key, _, _ := strings.Cut(rest[:end], "=")
		if _, said := e.Get(key); !said {
			vars += rest[:end]
		}
		rest = rest[end:]
	}
	e.restate(vars)
}

// restate makes e say something else, unless that is no event.
func (e *Event) restate(vars string) {
	if now, err := parse(vars); err == nil {
		*e = *now
	}
}

// join puts variables into the kernel's form. A NUL ends what a variable says.
func join(said []string) string {
	var text strings.Builder
	for _, kv := range said {
		kv, _, _ = strings.Cut(kv, "\x00")
		text.WriteString(kv)
		text.WriteByte(0)
	}
	return text.String()
}

// parse reads variables in the kernel's form. A string without a key says nothing.
// Of the variables that become fields the first with a value counts, and the others
// are left out, so that nobody can take an event for another than we do.
func parse(vars string) (*Event, error) {
	if !strings.HasSuffix(vars, "\x00") {
		vars += "\x00"
	}
	e := &Event{}
	var major, minor, seqnum string
	for at := 0; at < len(vars); {
		end := at + strings.IndexByte(vars[at:], 0)
		key, value, counts := strings.Cut(vars[at:end], "=")
		var field *string
		switch key {
		case "ACTION":
			field = &e.Action
		case "DEVPATH":
			field = &e.Devpath
		case "SUBSYSTEM":
			field = &e.Subsystem
		case "DEVNAME":
			field = &e.Devname
		case "MAJOR":
			field = &major
		case "MINOR":
			field = &minor
		case "SEQNUM":
			field = &seqnum
		case "DEVMODE", "DEVUID", "DEVGID", "FIRMWARE":
			e.Asks = e.Asks || counts
		}
		if field == nil {
			counts = counts && key != ""
		} else if counts = *field == "" && value != ""; counts {
			*field = value
		}
		if counts {
			at = end + 1
		} else {
			vars = vars[:at] + vars[end+1:]
		}
	}
	e.vars = Packed(vars)
	if e.Action == "" || strings.IndexByte(e.Action, '@') >= 0 || !cleanDevpath(e.Devpath) {
		return nil, ErrIncomplete
	}
	e.Devname = strings.TrimPrefix(e.Devname, "/dev/")
	e.Seqnum, _ = strconv.ParseUint(seqnum, 10, 64) // 0 where it is no number
	if a, b, ok := parsePair(major, minor); ok {
		e.Dev = Dev{Block: e.isBlock(), Major: a, Minor: b}
	}
	return e, nil
}

// isBlock tells block from character devices as mdev does: old kernels name no
// subsystem but keep disks below a directory "block".
func (e *Event) isBlock() bool {
	return e.Subsystem == "block" || strings.Contains(e.Devpath, "/block/")
}

// cleanDevpath refuses what could lead out of /sys when joined to it.
func cleanDevpath(p string) bool {
	if len(p) < 2 || p[0] != '/' || strings.HasSuffix(p, "/") {
		return false
	}
	p = p[1:]
	for more := true; more; {
		var part string
		if part, p, more = strings.Cut(p, "/"); part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}
