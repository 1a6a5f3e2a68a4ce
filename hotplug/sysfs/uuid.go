package sysfs

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// NewUUID returns a random UUID (version 4) in the form that the kernel takes after an action
// that is written to a uevent file (kobject_synth_uevent in lib/kobject_uevent.c): it passes it on as
// SYNTH_UUID. Where the kernel has no random
// numbers yet it is always the same one, which will do too. It is "" on a kernel that takes none:
// before 4.13 the write of an action with a UUID succeeds, and no event comes.
func NewUUID() string {
	if !takesUUID(sys.Release()) {
		return ""
	}
	var b [16]byte
	_, _ = unix.Getrandom(b[:], 0)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // version 4, and the variant of RFC 4122
	const digits = "0123456789abcdef"
	text := make([]byte, 0, 36)
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			text = append(text, '-')
		}
		text = append(text, digits[c>>4], digits[c&15])
	}
	return string(text)
}

// takesUUID reports whether a kernel of that release takes a UUID after an action. One whose
// release is no number is taken for a newer one.
func takesUUID(release string) bool {
	major, rest, _ := strings.Cut(release, ".")
	minor := rest
	for i, c := range rest {
		if c < '0' || c > '9' {
			minor = rest[:i]
			break
		}
	}
	a, err := strconv.Atoi(major)
	b, _ := strconv.Atoi(minor)
	return err != nil || a > 4 || a == 4 && b >= 13
}
