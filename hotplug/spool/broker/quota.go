package broker

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
func (s *Broker) foresee() {
	limit := s.o.PerUser + denyExcess
	if s.tender == nil || len(s.pending) < denyExcess {
		return
	}
	made := map[uint32]int{}
	for _, c := range s.pending[:min(len(s.pending), 8*limit)] {
		var st unix.Stat_t
		err := unix.Fstatat(c.root.fd, c.name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil || st.Uid == 0 || s.denied[st.Uid] != 0 || s.queues[st.Ino] != nil {
			continue
		}
		made[st.Uid]++
		if s.users[st.Uid]+made[st.Uid] == limit {
			s.denied[st.Uid] = now() + denyTime
			s.writeDenied()
			return
		}
	}
}

// allow lets those in again whose time is over.
func (s *Broker) allow() {
	t := now()
	for uid, until := range s.denied {
		if until <= t {
			delete(s.denied, uid)
			s.writeDenied()
		}
	}
}

// An access control list in an extended attribute is a version, and entries of a tag,
// permissions, and a user where the tag is about one (linux/posix_acl_xattr.h).
const (
	aclName    = "system.posix_acl_access"
	aclVersion = 2

	aclOwner = 0x01
	aclUser  = 0x02
	aclGroup = 0x04
	aclMask  = 0x10
	aclOther = 0x20

	aclAll     = 7 << 16
	aclNoWrite = 5 << 16
	aclNoUser  = math.MaxUint32 << 32
)

// writeDenied has the roots say who is kept out. A list of nobody is none: it says no
// more than the mode.
func (s *Broker) writeDenied() {
	order := binary.LittleEndian
	list := order.AppendUint32(nil, aclVersion)
	list = order.AppendUint64(list, aclOwner|aclAll|aclNoUser)
	for uid := range s.denied {
		list = order.AppendUint64(list, aclUser|aclNoWrite|uint64(uid)<<32)
	}
	list = order.AppendUint64(list, aclGroup|aclAll|aclNoUser)
	if len(s.denied) > 0 {
		list = order.AppendUint64(list, aclMask|aclAll|aclNoUser)
	}
	list = order.AppendUint64(list, aclOther|aclAll|aclNoUser)
	for _, r := range s.roots {
		if !s.o.old.acl {
			unix.Fsetxattr(r.fd, aclName, list, 0)
		}
	}
}
