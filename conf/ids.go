package conf

import (
	"strconv"
	"strings"
)

// IDs knows the numbers of users and groups. The zero IDs knows none, as in an
// initramfs that has no passwd.
type IDs struct {
	// Passwd and Group return the texts of these files. They are asked when a
	// config uses a name, and not before: most need neither.
	Passwd, Group func() string
}

// ParseIDs takes the texts of a passwd and a group file. Either may be empty.
func ParseIDs(passwd, group string) IDs {
	return IDs{func() string { return passwd }, func() string { return group }}
}

func (ids IDs) passwd() string {
	if ids.Passwd == nil {
		return ""
	}
	return ids.Passwd()
}

func (ids IDs) group() string {
	if ids.Group == nil {
		return ""
	}
	return ids.Group()
}

// maxID is the largest number of a user or group: the next one means "none" to chown.
const maxID = 1<<32 - 2

// parseID reads the number of a user or group.
func parseID(text string) (uint32, bool) {
	n, err := strconv.ParseUint(text, 10, 32)
	return uint32(n), err == nil && n <= maxID
}

// user returns the numbers of a user and of its primary group.
func (ids IDs) user(name string) (uid, gid uint32, ok bool) {
	return findUser(ids.passwd(), 0, name)
}

// primary returns the primary group of the user with the number uid.
func (ids IDs) primary(uid uint32) (gid uint32, ok bool) {
	_, gid, ok = findUser(ids.passwd(), 2, strconv.FormatUint(uint64(uid), 10))
	return gid, ok
}

// findUser returns the numbers in the first well-formed line of a passwd file
// whose column holds value.
func findUser(passwd string, column int, value string) (uid, gid uint32, ok bool) {
	for line := range strings.Lines(passwd) {
		columns := strings.SplitN(line, ":", 5)
		if len(columns) < 5 || columns[column] != value {
			continue
		}
		uid, known := parseID(columns[2])
		gid, alsoKnown := parseID(columns[3])
		if known && alsoKnown {
			return uid, gid, true
		}
	}
	return 0, 0, false
}

// groupID returns the number of a group.
func (ids IDs) groupID(name string) (gid uint32, ok bool) {
	for line := range strings.Lines(ids.group()) {
		columns := strings.SplitN(line, ":", 4)
		if len(columns) < 4 || columns[0] != name {
			continue
		}
		if gid, known := parseID(columns[2]); known {
			return gid, true
		}
	}
	return 0, false
}
