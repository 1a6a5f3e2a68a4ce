package spool

import (
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"
)

// Who makes directories as fast as can be makes them faster than they can be removed.
// So that user is kept out for a while: an access control list on the roots takes the
// right to write there, and the kernel refuses what would be removed. Where it has
// no such lists on a tmpfs, others are served all the same, but what is too much
// lies there for longer.

// A user is kept out for denyTime nanoseconds who goes past the limit by denyExcess
// or more at once. Who only tries again and again does no harm.
const (
	denyExcess = 64
	denyTime   = 1e9
)

// foresee keeps those out who just made far too many entries, before any of them
// is looked at closely: that takes time, in which more would come.
func (s *Spool) foresee() {
	limit := s.o.PerUser + denyExcess
	if s.tender == nil || len(s.pending) < denyExcess {
		return
	}
	made := map[uint32]int{}
	for _, c := range s.pending[:min(len(s.pending), 8*limit)] {
		var st unix.Stat_t
		err := unix.Fstatat(c.root.fd, c.name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil || st.Uid == 0 || s.queues[st.Ino] != nil {
			continue
		}
		made[st.Uid]++
		if s.users[st.Uid]+made[st.Uid] == limit {
			s.denied[st.Uid] = now() + denyTime
			s.writeDenied()
		}
	}
}

// allow lets those in again whose time is over.
func (s *Spool) allow() {
	t := now()
	for uid, until := range s.denied {
		if until <= t {
			delete(s.denied, uid)
			s.writeDenied()
		}
	}
}

// An access control list in an extended attribute: a version, and entries of a tag,
// permissions, and a user (linux/posix_acl_xattr.h).
const (
	aclName    = "system.posix_acl_access"
	aclVersion = 2

	aclOwner = 0x01
	aclUser  = 0x02
	aclGroup = 0x04
	aclMask  = 0x10
	aclOther = 0x20
)

// writeDenied has the roots say who is kept out.
func (s *Spool) writeDenied() {
	order := binary.LittleEndian
	list := order.AppendUint32(nil, aclVersion)
	add := func(tag, permissions uint16, uid uint32) {
		list = order.AppendUint16(list, tag)
		list = order.AppendUint16(list, permissions)
		list = order.AppendUint32(list, uid)
	}
	add(aclOwner, 7, math.MaxUint32)
	for uid := range s.denied {
		add(aclUser, 5, uid)
	}
	for _, tag := range []uint16{aclGroup, aclMask, aclOther} {
		add(tag, 7, math.MaxUint32)
	}
	for _, r := range s.roots {
		if len(s.denied) == 0 {
			unix.Fremovexattr(r.fd, aclName)
		} else if !s.o.old.acl {
			unix.Fsetxattr(r.fd, aclName, list, 0)
		}
	}
}
