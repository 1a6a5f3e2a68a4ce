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

// passwd returns the text of the file, "" where no function reads it.
func (ids IDs) passwd() string {
	if ids.Passwd == nil {
		return ""
	}
	return ids.Passwd()
}

// group is passwd for the file of groups.
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
	return findLine(ids.passwd(), 5, 0, name)
}

// primary returns the primary group of the user with the number uid.
func (ids IDs) primary(uid uint32) (gid uint32, ok bool) {
	_, gid, ok = findLine(ids.passwd(), 5, 2, strconv.FormatUint(uint64(uid), 10))
	return gid, ok
}

// groupID returns the number of a group.
func (ids IDs) groupID(name string) (gid uint32, ok bool) {
	gid, _, ok = findLine(ids.group(), 4, 0, name)
	return gid, ok
}

// findLine returns the numbers in the first well-formed line of a passwd file, which has five
// columns or more, or a group file with four, whose column holds value: the third column, and
// of passwd the fourth. It passes over a line that is not well formed.
func findLine(text string, least, column int, value string) (id, gid uint32, ok bool) {
	for more := true; more; {
		var line string
		line, text, more = strings.Cut(text, "\n")
		columns := strings.SplitN(line, ":", least)
		if len(columns) < least || columns[column] != value {
			continue
		}
		id, ok = parseID(columns[2])
		if least == 5 && ok {
			gid, ok = parseID(columns[3])
		}
		if ok {
			return id, gid, true
		}
	}
	return 0, 0, false
}
